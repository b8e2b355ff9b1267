"""What the hostile router does with a request: one behaviour per fault, told apart from when and how often it happens."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from tests.support.hostile_router import Behaviour, Exchange, Reply

HUGE = 10**400
BOMB_SIZE = 64 * 1024 * 1024
ENDLESS_SIZE = 128 * 1024 * 1024
"""Of what nobody should read to its end: more than the system's socket buffers hold for a client that reads nothing."""

HTML = b"<html><head><title>Sign in</title></head><body><h1>Sign in</h1>Your session has expired.</body></html>"


# -- statuses ------------------------------------------------------------------------------------------------------------


def status(code: int, detail: Any) -> Behaviour:
    """Answer with an error, and do nothing."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(Reply(code, json.dumps({"detail": detail}).encode()))

    return behave


def sometimes(rate: float, behaviour: Behaviour) -> Behaviour:
    """Misbehave at a share of the requests, the same ones in every run: by their kind, and how many there were of it."""
    came = Counter[str]()

    async def behave(exchange: Exchange) -> None:
        kind = exchange.request.kind
        came[kind] += 1
        if random.Random(f"{kind} {came[kind]}").random() < rate:
            await behaviour(exchange)
        else:
            await exchange.send(await exchange.answer())

    return behave


def by_turn(fails: Callable[[int], bool], behaviour: Behaviour) -> Behaviour:
    """
    Misbehave at some of the requests of each path, by their turn (from 1 on); data counts by its bytes, whatever its task.

    :param fails: whether the request of a turn fails
    """
    came = Counter[str]()

    async def behave(exchange: Exchange) -> None:
        request = exchange.request
        sent = hashlib.sha256(await exchange.body()).hexdigest() if request.kind == "data" else request.path
        came[f"{request.method} {sent}"] += 1
        if fails(came[f"{request.method} {sent}"]):
            await behaviour(exchange)
        else:
            await exchange.send(await exchange.answer())

    return behave


async def expired(exchange: Exchange) -> None:
    """Forget the task: request another one from the real router, and answer as it does."""
    await exchange.send(await exchange.answer(path="/api/v4/buckets/data/expired-task/chunked"))


# -- connections ---------------------------------------------------------------------------------------------------------


async def reset_before(exchange: Exchange) -> None:
    """Reset the connection before the body of the request was read; nothing is done."""
    await exchange.reset()


async def reset_during(exchange: Exchange) -> None:
    """Reset it in the middle of the request's body; where it has none, in the middle of the answer's."""
    if exchange.request.length:
        await exchange.body(exchange.request.length // 2)
    else:
        reply = await exchange.answer()
        half = reply.body[: len(reply.body) // 2]
        await exchange.raw(reply.head() + (b"%x\r\n%b\r\n" % (len(half), half) if reply.open_end else half))
    await exchange.reset()


async def reset_after(exchange: Exchange) -> None:
    """Do everything, and reset the connection instead of an answer."""
    await exchange.answer()
    await exchange.reset()


async def never(exchange: Exchange) -> None:
    """Do everything, and never answer."""
    await exchange.answer()
    await exchange.never()


def late(seconds: float) -> Behaviour:
    """Answer so much later, if the client is still there."""

    async def behave(exchange: Exchange) -> None:
        await exchange.body()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await exchange.never()
        await exchange.send(await exchange.answer())

    return behave


def gone_for(seconds: float | None) -> Behaviour:
    """Be gone from this request on, and back after a while (None: not by oneself)."""

    async def behave(exchange: Exchange) -> None:
        await exchange.router.arefuse()
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, lambda: asyncio.ensure_future(exchange.router.aaccept()))
        await exchange.reset()

    return behave


# -- bodies --------------------------------------------------------------------------------------------------------------


def bodies(change: Callable[[bytes], bytes]) -> Behaviour:
    """Change the body on its way: of the data that is sent, else of the answer."""

    async def behave(exchange: Exchange) -> None:
        if exchange.request.kind == "data":
            await exchange.send(await exchange.answer(body=change(await exchange.body())))
        else:
            reply = await exchange.answer()
            await exchange.send(replace(reply, body=change(reply.body)))

    return behave


def short(body: bytes) -> bytes:
    """Half of it."""
    return body[: len(body) // 2]


def long(body: bytes) -> bytes:
    """It, and some more."""
    return body + b"\0 more than there should be"


def flipped(body: bytes) -> bytes:
    """It, with one bit the other way round."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def stale(old: bytes) -> Behaviour:
    """Answer from a cache that has other bytes, unless it is bypassed."""

    async def behave(exchange: Exchange) -> None:
        reply = await exchange.answer()
        fresh = exchange.request.headers.get("force-get") == "1" or reply.status != 200
        await exchange.send(reply if fresh else replace(reply, body=old[: len(reply.body)]))

    return behave


# -- answers that are none -----------------------------------------------------------------------------------------------


def instead(status: int, body: bytes, content_type: str) -> Behaviour:
    """Answer this, and do nothing."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(Reply(status, body, {"content-type": content_type}))

    return behave


def changed(change: Callable[[Any], Any]) -> Behaviour:
    """Answer with JSON of another content; data, which is no JSON, is replaced by the JSON of nothing."""

    async def behave(exchange: Exchange) -> None:
        reply = await exchange.answer()
        told = {} if exchange.request.kind == "read" else json.loads(reply.body)
        text = json.dumps(change(told)).replace(f'"{HUGE}"', str(HUGE))
        await exchange.send(replace(reply, body=text.encode()))

    return behave


def without_fields(told: Any) -> Any:
    """No field at all."""
    return {}


def without_inner_fields(told: Any) -> Any:
    """Everything at the top, and nothing in what it consists of."""
    if isinstance(told, dict):
        return {name: [{} for _ in value] if isinstance(value, list) else value for name, value in told.items()}
    return told


def of_other_types(told: Any) -> Any:
    """Texts for numbers, numbers for texts, and a text for every list."""
    match told:
        case dict():
            return {name: of_other_types(value) for name, value in told.items()}
        case list():
            return "a list"
        case str():
            return 7
    return "many"


def with_numbers(number: Any) -> Callable[[Any], Any]:
    """Put a number in the place of every number, and of every list an element that is one."""

    def change(told: Any) -> Any:
        match told:
            case dict():
                return {name: change(value) for name, value in told.items()}
            case list():
                return [change(value) for value in told]
            case bool() | str() | None:
                return told
        return number

    return change


async def redirect(exchange: Exchange) -> None:
    """Send the client elsewhere."""
    target = f"http://127.0.0.1:{exchange.router.elsewhere}{exchange.request.path}"
    await exchange.send(Reply(307, b"", {"location": target}))


@cache
def bomb() -> bytes:
    """A small answer that unpacks to a large one."""
    return gzip.compress(bytes(BOMB_SIZE), 1)


def compressed(labelled: bool) -> Behaviour:
    """Answer with a gzip bomb, called one or not."""

    async def behave(exchange: Exchange) -> None:
        label = {"content-encoding": "gzip"} if labelled else {}
        await exchange.send(Reply(200, bomb(), {"content-type": "application/json", **label}))

    return behave


async def heavy_headers(exchange: Exchange) -> None:
    """Answer with headers that do not end, for as long as anybody reads them."""
    reply = await exchange.answer()
    begin, _, end = reply.as_bytes().partition(b"\r\n")
    await exchange.raw(begin + b"\r\n")
    line = b"x-filler: " + b"x" * 8000 + b"\r\n"
    for _ in range(ENDLESS_SIZE // len(line)):
        await exchange.raw(line)
    exchange.router.swallowed += 1
    await exchange.raw(end)


async def endless(exchange: Exchange) -> None:
    """Answer with JSON that does not end, for as long as anybody reads it: up to a size that is no answer any more."""
    await exchange.body()
    await exchange.raw(Reply(200, open_end=True).head() + b'2\r\n{"\r\n')
    piece = b"%x\r\n%b\r\n" % (65536, b"a" * 65536)
    for _ in range(ENDLESS_SIZE // 65536):
        await exchange.raw(piece)
    exchange.router.swallowed += 1
    await exchange.reset()


# -- listings ------------------------------------------------------------------------------------------------------------


def listing(change: Callable[[list[Any]], list[Any]], answered: Callable[[list[str]], list[str]]) -> Behaviour:
    """
    Change a listing.

    :param change: of what is listed
    :param answered: of the peers that a bucket's listing names
    """

    def edit(told: Any) -> Any:
        if not isinstance(told, dict):
            return told
        changes: dict[str, Callable[[list[Any]], list[Any]]] = {
            "chunks": change,
            "balls": change,
            "peers_ids": answered,
        }
        return {name: changes[name](value) if name in changes else value for name, value in told.items()}

    return changed(edit)


def thrice(listed: list[Any]) -> list[Any]:
    """Everything three times, the last first."""
    return listed[::-1] * 3


def as_it_is(listed: list[Any]) -> list[Any]:
    """Everything."""
    return listed


def without_first(listed: list[Any]) -> list[Any]:
    """All but the first, and what is of the same chunk."""
    return [one for one in listed[1:] if not isinstance(one, dict) or one["key"] != listed[0]["key"]]


def nothing(listed: list[Any]) -> list[Any]:
    """Nothing."""
    return []
