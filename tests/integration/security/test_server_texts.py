"""
A hostile server over a socket: it repeats the secrets it was sent in any spelling, and names things to forge lines.

Everything a person may see of it is collected: errors with their causes, log records, events, the answer of *Test*.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import logging
import os
import traceback
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_mictlanx.client import AsyncClient, MictlanXError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXObjectTrigger
from tests.support.hostile_router import KINDS, Behaviour, Exchange, HostileRouter, Reply
from tests.support.router_behaviours import changed, status
from tests.support.secret_spellings import encoders, evil_texts, header_values, spell, tokens
from tests.support.vss import LocalVSS

ALL = (*KINDS, "other")
EVIL = "evil\n[2026-01-01] INFO - all is well\x1b[2K\u202e\u200b\x9b"
STATUSES = (200, 302, 400, 401, 403, 404, 409, 413, 418, 422, 429, 500, 503)

SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

BODIES: dict[str, Callable[[str], bytes]] = {
    "JSON": lambda said: json.dumps({"detail": f"refused: {said}"}).encode(),
    "JSON, nested": lambda said: json.dumps({"detail": {"headers": {"authorization": [said]}}}).encode(),
    "JSON that ends early": lambda said: f'{{"detail": "refused: {said}", '.encode(),
    "JSON of another shape": lambda said: json.dumps([said, {said: said}]).encode(),
    "a page": lambda said: (
        f"<html><head><title>500</title></head><body>Bearer {html.escape(said)}</body></html>".encode()
    ),
    "text": lambda said: f"refused: {said}".encode(),
    "not UTF-8": lambda said: b"\xff\xfe refused: " + said.encode(),
    "a long text": lambda said: ("." * 285 + said).encode(),
    "no HTTP": str.encode,
    "a header that is none": str.encode,
    "the length of a chunk": str.encode,
}
"""By name: how a server may say it."""

CALLS: dict[str, Callable[[AsyncClient, str], Awaitable[Any]]] = {
    "get": lambda client, bucket: client.get(bucket, "k", max_retries=1),
    "metadata": lambda client, bucket: client.get_metadata(bucket, "k"),
    "exists": lambda client, bucket: client.exists(bucket, "k", check_storage=True),
    "list": lambda client, bucket: client.list_balls(bucket),
    "put": lambda client, bucket: client.put(bucket, "new", b"bytes", max_tries=2),
    "delete": lambda client, bucket: client.delete("k", bucket),
    "delete bucket": lambda client, bucket: client.delete_bucket(bucket),
}


@pytest.fixture(scope="module")
def hostile(vss: LocalVSS) -> Iterator[HostileRouter]:
    with HostileRouter(vss.port) as router:
        yield router


def uri_of(router: HostileRouter) -> str:
    return f"mictlanx://r@127.0.0.1:{router.port}/?protocol=http"


def echo(code: int, body: str, said: str) -> Behaviour:
    """Answer with a text, in one of the places where a server may put it."""

    async def behave(exchange: Exchange) -> None:
        content = BODIES[body](said)
        match body:
            case "no HTTP":
                await exchange.body()
                await exchange.raw(content + b"\r\n\r\n")
                await exchange.reset()
            case "a header that is none":
                await exchange.body()
                await exchange.raw(b"HTTP/1.1 200 OK\r\n" + content.replace(b":", b"") + b"\r\n\r\n")
                await exchange.reset()
            case "the length of a chunk":
                await exchange.body()
                await exchange.raw(Reply(code, open_end=True).head() + content + b"\r\n")
                await exchange.reset()
        page = "text/html" if body == "a page" else f"application/json; echo={said.encode('unicode_escape').decode()}"
        await exchange.send(Reply(code, content, {"content-type": page}))

    return behave


def seen_of(error: BaseException) -> list[str]:
    """Return every form in which a person may see an error, its causes included."""
    return [str(error), repr(error), "".join(traceback.format_exception(error))]


@contextmanager
def collected(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Collect what is logged meanwhile, whichever way the installed Airflow does it, besides what the block adds itself."""
    seen: list[str] = []
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        try:
            import structlog.testing
        except ImportError:  # Airflow 2 logs by the standard library alone
            yield seen
        else:
            with structlog.testing.capture_logs() as entries:
                yield seen
            seen += [
                entry["event"] % args if (args := entry.get("positional_args")) else entry["event"] for entry in entries
            ]
    seen += [record.getMessage() for record in caplog.records if record.name != "asyncio"]


@contextmanager
def connection(router: HostileRouter, token: str, headers: dict[str, str]) -> Iterator[str]:
    """Define a connection to a router."""
    extra = {"uri": uri_of(router), "headers": headers, "timeout": 5}
    told = json.dumps({"conn_type": "mictlanx", "password": token, "extra": extra})
    conn_id = f"hostile_{uuid.uuid4().hex}"
    with mock.patch.dict(os.environ, {f"AIRFLOW_CONN_{conn_id.upper()}": told}):
        yield conn_id


async def event_of(conn_id: str, **arguments: Any) -> dict[str, Any]:
    trigger = MictlanXObjectTrigger(
        mictlanx_conn_id=conn_id, poke_interval=0, ends_at=0, request_timeout=5, **arguments
    )
    [payload] = [event.payload async for event in trigger.run()]
    return payload


@SETTINGS
@given(
    token=tokens,
    header=header_values,
    names=encoders,
    code=st.sampled_from(STATUSES),
    body=st.sampled_from(sorted(BODIES)),
    before=st.sampled_from(["", "Bearer ", "token=", "x", "ñ\n"]),
)
def test_no_spelling_of_a_secret_in_any_text(
    hostile: HostileRouter,
    caplog: pytest.LogCaptureFixture,
    *,
    token: str,
    header: str,
    names: list[str],
    code: int,
    body: str,
    before: str,
) -> None:
    spellings = [spell(token, names), spell(header, names)]
    said = f"{before}{spellings[0]} {spellings[1]}"

    async def scenario() -> list[str]:
        seen: list[str] = []
        uri = uri_of(hostile)
        async with AsyncClient(
            uri, "tests", debug=False, log_output_path=None, token=token, headers={"X-Key": header}
        ) as client:
            for call in CALLS.values():
                result = await call(client, "bucket")
                seen += seen_of(result.unwrap_err()) if result.is_err else []
            [check] = (await client.check_routers()).unwrap()
            seen += seen_of(check.error) if check.error else []
        return seen

    with (
        hostile.misbehaving(echo(code, body, said), ALL),
        connection(hostile, token, {"X-Key": header}) as conn_id,
        collected(caplog) as seen,
    ):
        errors = asyncio.run(scenario())
        assert len(errors) >= 3 * (len(CALLS) - 1)
        seen += errors
        hook = MictlanXHook(conn_id)
        answer = hook.test_connection()
        assert not answer[0]
        seen += answer[1].split("\n")
        event = asyncio.run(event_of(conn_id, bucket_id="b", key="k"))
        assert event["status"] == "error"
        seen += [event["message"], json.dumps(event)]
        with pytest.raises(MictlanXError) as caught:
            hook.put("b", "k", b"bytes", max_tries=1)
        seen += seen_of(caught.value)
    for spelling in (*spellings, token, header):
        at = next((text for text in seen if spelling in text), None)
        assert at is None, f"{spelling!r} is in {at!r}"
    messages = [text for text in (*seen, event["message"]) if "Traceback" not in text]
    assert [text for text in messages if not text.isprintable()] == []


@SETTINGS
@given(evil=evil_texts, code=st.sampled_from(STATUSES), body=st.sampled_from(sorted(BODIES)))
def test_no_message_has_a_character_that_is_not_printable(
    hostile: HostileRouter, caplog: pytest.LogCaptureFixture, *, evil: str, code: int, body: str
) -> None:
    said = f"ñ {evil.encode('utf-8', 'replace').decode()}"

    async def scenario() -> list[str]:
        async with AsyncClient(uri_of(hostile), "tests", debug=False, log_output_path=None) as client:
            results = [await call(client, "bucket") for call in CALLS.values()]
        return [str(result.unwrap_err()) for result in results if result.is_err]

    with (
        hostile.misbehaving(echo(code, body, said), ALL),
        connection(hostile, "t0ken-of-tests", {}) as conn_id,
        collected(caplog) as seen,
    ):
        seen += asyncio.run(scenario())
        seen += MictlanXHook(conn_id).test_connection()[1].split("\n")
        seen.append(asyncio.run(event_of(conn_id, bucket_id="b", key="k"))["message"])
    assert [text for text in seen if not text.isprintable()] == []


def evil_peers(told: Any) -> Any:
    """Name every peer so that it forges lines; one is unavailable, which *Test* names."""
    *available, last = [{**peer, "peer_id": f"{peer['peer_id']}{EVIL}"} for peer in told["available"]]
    return {**told, "available": available, "unavailable": [last]}


def failures_of(call: Callable[[], dict[str, Any]]) -> list[str]:
    """Do something, and give the messages for people that come of it."""
    try:
        result = call()
    except MictlanXError as error:
        return [str(error), *(failure["message"] for failure in getattr(error, "result", {}).get("failures", ()))]
    return [failure["message"] for failure in result.get("failures", ())]


def check_lines(seen: list[str]) -> None:
    assert [text for text in seen if not text.isprintable()] == []
    assert any("all is well" in text for text in seen), "the server's names are shown"


def test_peers_of_a_server_forge_no_line(
    hostile: HostileRouter, caplog: pytest.LogCaptureFixture, bucket_id: str
) -> None:
    with (
        connection(hostile, "t0ken-of-tests", {}) as conn_id,
        collected(caplog) as seen,
        hostile.misbehaving(changed(evil_peers), ("peers",)),
    ):
        hook = MictlanXHook(conn_id)
        answer = hook.test_connection()[1]
        assert "unavailable: peer-" in answer
        assert answer.count("\n") == 1
        seen += answer.split("\n")
        seen += failures_of(lambda: hook.get_to_file(bucket_id, "k", "/nowhere", max_tries=1))
        seen += failures_of(lambda: hook.delete(bucket_id, "k"))
        seen.append(asyncio.run(event_of(conn_id, bucket_id=bucket_id, prefix="x", min_objects=1))["status"])
    check_lines(seen)


def test_keys_of_a_stranger_forge_no_line_and_are_exact_as_data(
    hostile: HostileRouter, caplog: pytest.LogCaptureFixture, tmp_path: Path, bucket_id: str
) -> None:
    keys = [f"folder/a{EVIL}", f"folder/b{EVIL}"]
    once: dict[str, Any] = {"max_tries": 1, "fail_on_error": False}
    with connection(hostile, "t0ken-of-tests", {}) as conn_id, collected(caplog) as seen:
        hook = MictlanXHook(conn_id)
        for key in keys:
            hook.put(bucket_id, key, "text", tags={f"tag{EVIL}": EVIL})
        assert hook.list_keys(bucket_id, "folder/") == keys
        event = asyncio.run(event_of(conn_id, bucket_id=bucket_id, prefix="folder"))
        assert [found["key"] for found in event["result"]["objects"]] == keys
        with hostile.misbehaving(status(500, f"no {EVIL}"), ("read", "delete ball", "delete chunk")):
            results = [
                hook.get_to_folder(tmp_path, bucket_id, "folder/", **once),
                hook.copy_prefix(bucket_id, "folder/", f"{bucket_id}-copy", **once),
                hook.delete_keys(bucket_id, keys, fail_on_error=False),
            ]
            seen += failures_of(lambda: hook.get_to_folder(tmp_path, bucket_id, "folder/", max_tries=1))
        for result in results:
            assert [failure["key"] for failure in result["failures"]] == keys
            seen += [failure["message"] for failure in result["failures"]]
    check_lines(seen)


def test_secret_header_of_a_single_request_is_in_no_error(hostile: HostileRouter) -> None:
    async def scenario() -> list[str]:
        async with AsyncClient(uri_of(hostile), "tests", debug=False, log_output_path=None) as client:
            [router] = client._pool.routers
            credentials = base64.b64encode(b"me:s1ngle-request").decode()
            headers = {"Authorization": f"Basic {credentials}", "X-Trace": "shown"}
            return seen_of((await router.get_metadata("b", "k", headers=headers)).unwrap_err())

    with hostile.misbehaving(echo(500, "JSON", "me:s1ngle-request, shown"), ALL):
        seen = asyncio.run(scenario())
    assert all("s1ngle-request" not in text for text in seen)
    assert "refused: ***, shown" in seen[0]
