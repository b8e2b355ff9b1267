"""Ways to disturb an upload, as data: what the server does, and which statuses a client may take for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.robustness.hostile.answers import IMPATIENT, OTHER, PATIENT, head, sized
from tests.support.hostile_server import Connection, Script

SIZE = 8 * 1024 * 1024
"""Size of the uploads: of less than about 3 MB the client's system takes everything at once."""

MIDDLE = 1024 * 1024
"""How much a server reads that answers, or goes, in the middle of an upload."""

CREATED = sized(b"stored", status=b"HTTP/1.1 201 Created")
TOO_LARGE = sized(b"too large", status=b"HTTP/1.1 413 Content Too Large")
BROKEN = sized(b"broken", status=b"HTTP/1.1 500 Internal Server Error")


@dataclass(frozen=True)
class Disturbance:
    """
    A way to disturb an upload. A status 2xx must never be returned unless the server had the complete body before it.

    :ivar script: disturbs it
    :ivar accepts: the statuses that may be returned
    :ivar may_fail: whether an error is right, too
    :ivar waits: whether the error may be a timeout
    :ivar early: the status, where it comes before the body was read. httpx writes a body completely before it reads: it sees
        a timeout where the server reads no more, and an error where the server closed
    """

    name: str
    script: Script
    accepts: tuple[int, ...]
    may_fail: bool
    waits: bool
    early: int

    @property
    def timeout(self) -> float:
        return IMPATIENT if self.waits else PATIENT

    def for_httpx(self) -> Disturbance:
        """Return what holds where the body is written before anything is read."""
        if not self.early:
            return self
        return replace(self, may_fail=True, waits=True)


DISTURBANCES: list[Disturbance] = []


def disturbance(
    name: str, *accepts: int, may_fail: bool = True, waits: bool = False, early: int = 0
) -> Callable[[Script], Script]:
    """Add a way to disturb an upload."""

    def add(script: Script) -> Script:
        DISTURBANCES.append(Disturbance(name, script, accepts, may_fail, waits, early))
        return script

    return add


# Success before the body was sent: no acknowledgement


@disturbance("201 at once, nothing read", waits=True, early=201)
async def _early_success(connection: Connection) -> None:
    await connection.write(CREATED)
    await connection.ignore()


@disturbance("201 at once, then all read", early=201)
async def _early_success_then_read(connection: Connection) -> None:
    await connection.write(CREATED)
    await asyncio.sleep(0.1)
    await connection.read_body()


@disturbance("201 in the middle, then all read", early=201)
async def _success_in_the_middle(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.write(CREATED)
    await asyncio.sleep(0.1)
    await connection.read_body()


@disturbance("201 at once, closed", early=201)
async def _early_success_closed(connection: Connection) -> None:
    await connection.write(CREATED)
    await connection.finish()


@disturbance("201 in the middle, reset", early=201)
async def _early_success_reset(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.write(CREATED)
    await asyncio.sleep(0.05)
    await connection.reset()


@disturbance("201 in the middle, no more written, all read", early=201)
async def _early_success_half_closed(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.write(CREATED)
    await connection.finish_writing()
    await asyncio.sleep(0.1)
    await connection.read_body()


@disturbance("204 in the middle, then all read", early=204)
async def _early_no_content(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.write(head(status=b"HTTP/1.1 204 No Content"))
    await asyncio.sleep(0.1)
    await connection.read_body()


@disturbance("200 without an end in the middle", waits=True, early=200)
async def _early_endless_success(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.write(head(b"Transfer-Encoding: chunked") + b"6\r\nstored\r\n")
    await connection.ignore()


# Refusals before the body was sent: answers


@disturbance("413 at once, then all read", 413, may_fail=False, early=413)
async def _early_refusal(connection: Connection) -> None:
    await connection.write(TOO_LARGE)
    await asyncio.sleep(0.1)
    await connection.read_body()


@disturbance("413 at once, nothing read", 413, may_fail=False, early=413)
async def _early_refusal_unread(connection: Connection) -> None:
    await connection.write(TOO_LARGE)
    await connection.ignore()


@disturbance("413 at once, closed", 413, early=413)
async def _early_refusal_closed(connection: Connection) -> None:
    await connection.write(TOO_LARGE)
    await connection.finish()


@disturbance("413 at once, no more written", 413, may_fail=False, early=413)
async def _early_refusal_half_closed(connection: Connection) -> None:
    await connection.write(sized(b"too large", b"Connection: close", status=b"HTTP/1.1 413 Content Too Large"))
    await connection.finish_writing()
    await connection.ignore()


@disturbance("500 in the middle, then all read", 500, may_fail=False, early=500)
async def _early_fault(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.write(BROKEN)
    await asyncio.sleep(0.1)
    await connection.read_body()


@disturbance("500 in the middle, nothing more read", 500, may_fail=False, early=500)
async def _early_fault_unread(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.write(BROKEN)
    await connection.ignore()


@disturbance("500 in the middle, reset", 500, early=500)
async def _early_fault_reset(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.write(BROKEN)
    await asyncio.sleep(0.05)
    await connection.reset()


@disturbance("413 at once, and a success behind it", 413, may_fail=False, early=413)
async def _refusal_and_success(connection: Connection) -> None:
    await connection.write(TOO_LARGE + CREATED)
    await connection.ignore()


@disturbance("307 at once, nothing read", 307, may_fail=False, early=307)
async def _redirect(connection: Connection) -> None:
    await connection.write(head(b"Location: /elsewhere", b"Content-Length: 0", status=b"HTTP/1.1 307 Elsewhere"))
    await connection.ignore()


@disturbance("101 in the middle", waits=True)
async def _other_protocol(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.write(head(b"Connection: Upgrade", b"Upgrade: x", status=b"HTTP/1.1 101 Switching"))
    await connection.read_body()


# Ends without an answer


@disturbance("reset at once")
async def _reset(connection: Connection) -> None:
    await connection.reset()


@disturbance("reset in the middle")
async def _reset_in_the_middle(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.reset()


@disturbance("closed in the middle")
async def _closed_in_the_middle(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.finish()


@disturbance("no more written, all read")
async def _half_closed(connection: Connection) -> None:
    await connection.finish_writing()
    await connection.read_body()
    await connection.ignore()


@disturbance("no more written in the middle, nothing more read", waits=True)
async def _half_closed_unread(connection: Connection) -> None:
    await connection.read_body(MIDDLE)
    await connection.finish_writing()
    await connection.ignore()


@disturbance("all read, closed")
async def _closed_after(connection: Connection) -> None:
    await connection.read_body()
    await connection.finish()


@disturbance("all read, reset")
async def _reset_after(connection: Connection) -> None:
    await connection.read_body()
    await connection.reset()


# Silence


@disturbance("nothing read", waits=True)
async def _unread(connection: Connection) -> None:
    await connection.ignore()


@disturbance("read in drips", waits=True)
async def _read_slowly(connection: Connection) -> None:
    connection.settled.set()  # it goes on reading what the client's system sends after the client gave up
    async for _ in connection.body_pieces():
        await asyncio.sleep(0.05)


@disturbance("all read, no answer", waits=True)
async def _no_answer(connection: Connection) -> None:
    await connection.read_body()
    await connection.ignore()


# Informational answers


@disturbance("100 nobody asked for", 201, may_fail=False)
async def _continue(connection: Connection) -> None:
    await connection.write(head(status=b"HTTP/1.1 100 Continue"))
    await connection.read_body()
    await connection.write(CREATED)


@disturbance("flood of 100, nothing read", waits=True)
async def _continue_flood(connection: Connection) -> None:
    await connection.repeat(head(status=b"HTTP/1.1 100 Continue") * 100)


@disturbance("100 and 102 while it is read", 201)
async def _informational(connection: Connection) -> None:
    async for _ in connection.body_pieces():
        await connection.write(head(status=b"HTTP/1.1 100 Continue") + head(status=b"HTTP/1.1 102 Processing"))
    await connection.write(CREATED)


# Answers after the body, with something wrong in them


@disturbance("answer of two lengths")
async def _two_lengths(connection: Connection) -> None:
    await connection.read_body()
    await connection.write(head(b"Content-Length: 6", b"Content-Length: 3", status=b"HTTP/1.1 201 C") + b"stored")


@disturbance("answer without its end, closed")
async def _cut_answer(connection: Connection) -> None:
    await connection.read_body()
    await connection.write(head(b"Content-Length: 100", status=b"HTTP/1.1 201 Created") + b"stored")
    await connection.finish()


@disturbance("answer without its last chunk, reset")
async def _reset_answer(connection: Connection) -> None:
    await connection.read_body()
    await connection.write(head(b"Transfer-Encoding: chunked", status=b"HTTP/1.1 201 Created") + b"6\r\nstored\r\n")
    await asyncio.sleep(0.05)
    await connection.reset()


@disturbance("answer of no HTTP")
async def _no_http(connection: Connection) -> None:
    await connection.read_body()
    await connection.write(b"+OK stored\r\n\r\n")


@disturbance("answer, then reset", 201)
async def _answer_then_reset(connection: Connection) -> None:
    await connection.read_body()
    await connection.write(CREATED)
    await connection.reset()


@disturbance("answer with another one behind it", 201)
async def _two_answers(connection: Connection) -> None:
    await connection.read_body()
    await connection.write(CREATED + sized(OTHER))


@disturbance("answer with another one a moment later", 201, may_fail=False)
async def _later_answer(connection: Connection) -> None:
    await connection.read_body()
    await connection.write(CREATED)
    await asyncio.sleep(0.02)
    await connection.write(sized(OTHER))
