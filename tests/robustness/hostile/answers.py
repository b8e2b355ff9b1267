"""Malformed and hostile answers to a GET, as data: the bytes, and which answers a client may make of them."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.support.hostile_server import Connection, Script

PATIENT = 8.0
"""Timeout of requests that end without it (seconds)."""

IMPATIENT = 0.4
"""Timeout of requests that only the timeout ends (seconds)."""

BODY = b"the right body, thirty-two bytes"
OTHER = b"the answer to another request"
OK = (200, BODY)

assert len(BODY) == 0x20

End = Literal["keep", "close", "reset"]


@dataclass(frozen=True)
class Case:
    """
    An answer, and what a client may make of it.

    :ivar script: sends it
    :ivar accepts: the answers that may be accepted: status and body
    :ivar may_fail: whether an error is right, too
    :ivar waits: whether the error may be a timeout; else the fault can be seen at once
    """

    name: str
    script: Script
    accepts: tuple[tuple[int, bytes], ...]
    may_fail: bool
    waits: bool = False

    @property
    def timeout(self) -> float:
        return IMPATIENT if self.waits else PATIENT


CASES: list[Case] = []


def _script(answer: bytes, then: End) -> Script:
    async def send(connection: Connection) -> None:
        await connection.write(answer)
        if then == "close":
            await connection.finish()
        elif then == "reset":
            await asyncio.sleep(0.05)  # a reset takes bytes back that the client has not read
            await connection.reset()

    return send


def accepted(name: str, answer: bytes, status: int = 200, body: bytes = BODY, then: End = "keep") -> None:
    """Add an odd answer that every client has to read."""
    CASES.append(Case(name, _script(answer, then), ((status, body),), may_fail=False))


def either(name: str, answer: bytes, *accepts: tuple[int, bytes], then: End = "keep", waits: bool = False) -> None:
    """Add an answer that may be refused at once, or read in one way; the right body, if none is given."""
    CASES.append(Case(name, _script(answer, then), accepts or (OK,), may_fail=True, waits=waits))


def refused(name: str, answer: bytes, then: End = "keep") -> None:
    """Add an answer that has to be refused at once."""
    CASES.append(Case(name, _script(answer, then), (), may_fail=True))


def endless(name: str, answer: bytes) -> None:
    """Add an answer whose end never comes; the timeout ends the request, if nothing does before."""
    CASES.append(Case(name, _script(answer, "keep"), (), may_fail=True, waits=True))


def scripted(
    name: str, *accepts: tuple[int, bytes], may_fail: bool = True, waits: bool = False
) -> Callable[[Script], Script]:
    """Add an answer that takes more than bytes."""

    def add(script: Script) -> Script:
        CASES.append(Case(name, script, accepts, may_fail, waits))
        return script

    return add


def head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([status, *lines, b"", b""])


def sized(body: bytes = BODY, *lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return head(b"Content-Length: %d" % len(body), *lines, status=status) + body


def length(value: bytes) -> bytes:
    return head(b"Content-Length: " + value) + BODY


def coded(*lines: bytes) -> bytes:
    """Return an answer of one chunk, whose head has these lines."""
    return head(*lines) + ONE_CHUNK


def chunked(content: bytes) -> bytes:
    return head(b"Transfer-Encoding: chunked") + content


ONE_CHUNK = b"20\r\n" + BODY + b"\r\n0\r\n\r\n"
SMUGGLED = sized(OTHER)

# Lengths that contradict themselves, each other, or the body

either("more bytes than the length", head(b"Content-Length: 10") + BODY, (200, BODY[:10]))
refused("fewer bytes than the length, closed", head(b"Content-Length: 100") + BODY, then="close")
refused("fewer bytes than the length, reset", head(b"Content-Length: 100") + BODY, then="reset")
endless("fewer bytes than the length, open", head(b"Content-Length: 100") + BODY)
refused("no byte of the body, closed", head(b"Content-Length: 32"), then="close")
refused("two lengths", head(b"Content-Length: 32", b"Content-Length: 5") + BODY)
refused("two lengths, the other way round", head(b"Content-Length: 5", b"Content-Length: 32") + BODY)
either("the same length twice", head(b"Content-Length: 32", b"Content-Length: 32") + BODY)
either("list of equal lengths", length(b"32, 32"))
refused("list of lengths", length(b"32, 5"))
refused("negative length", length(b"-1"))
refused("negative length of the body", length(b"-32"))
either("length with a sign", length(b"+32"))
refused("length in hexadecimal", length(b"0x20"))
refused("length of a word", length(b"many"), then="close")
either("empty length", length(b""), then="close")
either("length with zeros before it", length(b"00000000000000000000000000000032"))
refused("length beyond 64 bits", length(b"18446744073709551648"), then="close")
refused("length of 63 bits, closed", length(b"9223372036854775807"), then="close")
refused("length of ten thousand digits", length(b"9" * 10_000), then="close")
refused("length with a fraction", length(b"32.0"))
refused("length with an exponent", length(b"32e0"))
either("length with an underscore", length(b"3_2"))
refused("length with a blank in it", length(b"3 2"))
refused("length with a superscript", length("³²".encode("latin-1")))
refused("length in wide digits", length("３２".encode()))
either("length with a zero byte", length(b"32\0"))
either("length and chunks", coded(b"Content-Length: 5", b"Transfer-Encoding: chunked"))
either("chunks and length", coded(b"Transfer-Encoding: chunked", b"Content-Length: 45"))
either("length of zero and chunks", coded(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
either("length of zero, and a body", head(b"Content-Length: 0") + BODY, (200, b""))

# Transfer codings

accepted("Chunked in other letters", coded(b"transfer-encoding: Chunked"))
refused("chunked twice", chunked(b"20\r\n" + BODY + b"\r\n0\r\n\r\n").replace(b"d\r\n", b"d, chunked\r\n", 1))
refused("chunked in two lines", coded(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"))
refused("gzip and chunked", coded(b"Transfer-Encoding: gzip, chunked"))
refused("gzip and chunked in two lines", coded(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"))
refused("chunked before gzip", coded(b"Transfer-Encoding: chunked, gzip"), then="close")
refused("gzip as transfer coding", coded(b"Transfer-Encoding: gzip"), then="close")
refused("unknown transfer coding", coded(b"Transfer-Encoding: xchunked"), then="close")
refused("unknown transfer coding and a length", head(b"Transfer-Encoding: x", b"Content-Length: 32") + BODY)
either("identity as transfer coding", head(b"Transfer-Encoding: identity", b"Content-Length: 32") + BODY)
either("blank before the colon", coded(b"Transfer-Encoding : chunked", b"Content-Length: 5"))
either("vertical tab before chunked", coded(b"Transfer-Encoding: \x0bchunked"), then="close")
either("empty transfer coding", head(b"Transfer-Encoding:", b"Content-Length: 32") + BODY)
either("chunks in HTTP/1.0", coded(b"Transfer-Encoding: chunked").replace(b"/1.1", b"/1.0"))

# Content codings, which nobody asked for

BOMB = gzip.compress(bytes(50_000_000), 1)
refused("compressed", sized(gzip.compress(BODY), b"Content-Encoding: gzip"))
refused("compressed, in other letters", sized(gzip.compress(BODY), b"Content-Encoding: GZip"))
refused("compressed in two lines", sized(gzip.compress(BODY), b"Content-Encoding: identity", b"Content-Encoding: gzip"))
refused("said to be compressed", sized(BODY, b"Content-Encoding: deflate"))
refused("compressed in a way nobody knows", sized(BODY, b"Content-Encoding: squashed"))
refused("bomb of zeros", sized(BOMB, b"Content-Encoding: gzip"))
accepted("identity as content coding", sized(BODY, b"Content-Encoding: identity"))

# Heads

either("folded header", sized(BODY, b"X-Long: one", b" two"))
either("folded length", head(b"Content-Length:", b" 32") + BODY)
either("length folded into two numbers", head(b"Content-Length: 3", b" 2") + BODY, (200, BODY[:3]))
either("fold after the status", head(b" folded", b"Content-Length: 32") + BODY)
either("length within a fold", head(b"X-Long: one", b" Content-Length: 5", b"Content-Length: 32") + BODY)
either("bare line feeds", sized().replace(b"\r\n", b"\n"))
either("bare line feed between headers", head(b"Content-Length: 32\nX-Other: 1") + BODY)
either("bare line feed at the head's end", sized().replace(b"\r\n\r\n", b"\r\n\n"))
either("bare line feeds at the head's end", sized().replace(b"\r\n\r\n", b"\n\n"))
either("bare carriage returns", sized().replace(b"\r\n", b"\r"), then="close")
either("length after a carriage return", head(b"X-Other: 1\rContent-Length: 5", b"Content-Length: 32") + BODY)
either("zero byte in a header", sized(BODY, b"X-Other: a\0b"))
either("control bytes in a header", sized(BODY, b"X-Other: \x01\x07\x1b[2J"))
either("bytes beyond ASCII in a header", sized(BODY, b"X-Other: \xff\xfe\xe9"))
either("bytes beyond ASCII in a header's name", sized(BODY, b"X-\xff: 1"))
either("header without a colon", sized(BODY, b"X-Other"))
either("header without a name", sized(BODY, b": value"))
either("blank in a header's name", sized(BODY, b"X Other: value"))
either("binary reason", sized(status=b"HTTP/1.1 200 \xff\x01\xfe"))
accepted("no reason", sized(status=b"HTTP/1.1 200"))
accepted("two hundred headers of the same name", sized(BODY, *([b"X-Same: 1"] * 50)))
either("ten thousand headers", sized(BODY, *(b"X-%d: 1" % n for n in range(10_000))))
either("header of 100,000 bytes", sized(BODY, b"X-Long: " + bytes([97]) * 100_000))
either("header name of 100,000 bytes", sized(BODY, bytes([97]) * 100_000 + b": 1"))
either("empty lines before the status", b"\r\n\r\n" + sized())
either("status in small letters", sized(status=b"http/1.1 200 ok"))
either("two blanks in the status", sized(status=b"HTTP/1.1  200 OK"))
either("tab in the status", sized(status=b"HTTP/1.1\t200\tOK"))
either("HTTP/2.0 in the status", sized(status=b"HTTP/2.0 200 OK"))
either("HTTP/1.10 in the status", sized(status=b"HTTP/1.10 200 OK"))
refused("status of two digits", sized(status=b"HTTP/1.1 20 OK"))
refused("status of four digits", sized(status=b"HTTP/1.1 2000 OK"))
refused("status of zero", sized(status=b"HTTP/1.1 000 OK"))
either("status 999", sized(status=b"HTTP/1.1 999 Odd"), (999, BODY))
refused("negative status", sized(status=b"HTTP/1.1 -200 OK"))
refused("status with letters", sized(status=b"HTTP/1.1 2OO OK"))
refused("status in superscript", sized(status="HTTP/1.1 ²⁰⁰ OK".encode()))
refused("no status", sized(status=b"HTTP/1.1"))
refused("another protocol's status", sized(status=b"ICY 200 OK"))
endless("banner of SSH", b"SSH-2.0-OpenSSH_9.6\r\n")
refused("settings of HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18), then="close")
refused("alert of TLS", b"\x15\x03\x03\x00\x02\x02\x46", then="close")
refused("page without a head", b"<html>" + BODY + b"</html>\r\n\r\n")
refused("body without a head", BODY, then="close")
refused("body of HTTP/0.9 with a head in it", BODY + b"\r\n\r\n" + sized())
refused("half a head, closed", b"HTTP/1.1 200 OK\r\nContent-Le", then="close")
refused("half a head, reset", b"HTTP/1.1 200 OK\r\nContent-Le", then="reset")
refused("head without its last line, closed", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", then="close")
refused("nothing, closed", b"", then="close")
refused("nothing, reset", b"", then="reset")
endless("nothing", b"")
endless("half a head, open", b"HTTP/1.1 200 OK\r\nContent-Le")
accepted("odd words of keeping alive", sized(BODY, b"Keep-Alive: timeout=-1, max=x", b"Connection: keep-alive"))
accepted("odd type of content", sized(BODY, b"Content-Type: ;;=\t; charset=none; charset=\xff"))
accepted("cookie", sized(BODY, b"Set-Cookie: session=stolen; Path=/"))
accepted("odd cookies", sized(BODY, b'Set-Cookie: "\xff=;;; Expires=never', b"Set-Cookie: =", b"Set-Cookie: a b=c"))
either("upgrade nobody asked for", sized(BODY, b"Connection: Upgrade", b"Upgrade: h2c"))

# Informational answers

accepted("100 first", head(status=b"HTTP/1.1 100 Continue") + sized())
accepted("103 three times first", head(b"Link: </x>", status=b"HTTP/1.1 103 Early Hints") * 3 + sized())
either("199 first", head(status=b"HTTP/1.1 199 Odd") + sized())
either("100 with a body", sized(b"hello", status=b"HTTP/1.1 100 Continue") + sized())
either("102 in chunks", head(b"Transfer-Encoding: chunked", status=b"HTTP/1.1 102 P") + ONE_CHUNK + sized())
refused("100 and nothing more, closed", head(status=b"HTTP/1.1 100 Continue"), then="close")
endless("100 and nothing more, open", head(status=b"HTTP/1.1 100 Continue"))
either("thousand informational answers first", head(status=b"HTTP/1.1 103 Early Hints") * 1000 + sized())
refused("other protocol", head(b"Connection: Upgrade", b"Upgrade: x", status=b"HTTP/1.1 101 Switching") + BODY)
refused("other protocol without a name", head(status=b"HTTP/1.1 101 Switching") + sized())

# Answers that have no body by their status

accepted("204", head(status=b"HTTP/1.1 204 No Content"), 204, b"")
either("204 with a body", sized(status=b"HTTP/1.1 204 No Content"), (204, b""))
either("204 with chunks", coded(b"Transfer-Encoding: chunked").replace(b"200 OK", b"204 No"), (204, b""))
either("204 with an answer behind it", head(status=b"HTTP/1.1 204 No Content") + SMUGGLED, (204, b""))
either("304 with a body", sized(status=b"HTTP/1.1 304 Not Modified"), (304, b""))
either("205 with a body", sized(status=b"HTTP/1.1 205 Reset Content"), (205, b""), (205, BODY))
accepted("redirect", head(b"Location: /elsewhere", b"Content-Length: 0", status=b"HTTP/1.1 302 Found"), 302, b"")
either(
    "redirect to nowhere",
    head(b"Location: http://[::/\xff", b"Content-Length: 0", status=b"HTTP/1.1 302 Found"),
    (302, b""),
)
accepted("demand for a password", sized(status=b"HTTP/1.1 401 No") + b"", 401, BODY)

# Chunks

refused("chunk of no size", chunked(b"\r\n" + BODY + b"\r\n0\r\n\r\n"))
refused("chunk of a word", chunked(b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"))
refused("chunk of negative size", chunked(b"-20\r\n" + BODY + b"\r\n0\r\n\r\n"))
either("chunk size with a sign", chunked(b"+20\r\n" + BODY + b"\r\n0\r\n\r\n"))
either("chunk size with 0x", chunked(b"0x20\r\n" + BODY + b"\r\n0\r\n\r\n"), (200, b""))
either("chunk size with an underscore", chunked(b"2_0\r\n" + BODY + b"\r\n0\r\n\r\n"))
either("chunk size with a blank before it", chunked(b" 20\r\n" + BODY + b"\r\n0\r\n\r\n"))
either("chunk size with a blank after it", chunked(b"20 \r\n" + BODY + b"\r\n0\r\n\r\n"))
either("chunk size with zeros before it", chunked(b"0" * 30 + b"20\r\n" + BODY + b"\r\n0\r\n\r\n"))
refused("chunk size beyond 64 bits", chunked(b"10000000000000020\r\n" + BODY + b"\r\n0\r\n\r\n"), then="close")
refused("chunk of 64 bits", chunked(b"ffffffffffffffe0\r\n" + BODY + b"\r\n0\r\n\r\n"), then="close")
refused("chunk longer than its size", chunked(b"1f\r\n" + BODY + b"\r\n0\r\n\r\n"))
refused("chunk shorter than its size", chunked(b"22\r\n" + BODY + b"\r\n0\r\n\r\n"), then="close")
refused("other bytes at a chunk's end", chunked(b"20\r\n" + BODY + b"xx0\r\n\r\n"))
either("bare line feed after a size", chunked(b"20\n" + BODY + b"\r\n0\r\n\r\n"))
either("bare line feed after a chunk", chunked(b"20\r\n" + BODY + b"\n0\r\n\r\n"))
either("bare line feed after the last chunk", chunked(b"20\r\n" + BODY + b"\r\n0\n\n"), waits=True)
either("bare carriage return after a size", chunked(b"20\r" + BODY + b"\r\n0\r\n\r\n"), then="close")
accepted("extension of a chunk", chunked(b"20;name=value\r\n" + BODY + b"\r\n0;end\r\n\r\n"))
either("extension with a line feed", chunked(b"20;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n"))
either("extension with a quoted line end", chunked(b'20;a="\r\n5\r\n"\r\n' + BODY + b"\r\n0\r\n\r\n"), then="close")
either("extension of 100,000 bytes", chunked(b"20;" + bytes([97]) * 100_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"))
refused("no last chunk, closed", chunked(b"20\r\n" + BODY + b"\r\n"), then="close")
refused("no last chunk, reset", chunked(b"20\r\n" + BODY + b"\r\n"), then="reset")
endless("no last chunk, open", chunked(b"20\r\n" + BODY + b"\r\n"))
refused("half a chunk, closed", chunked(b"20\r\n" + BODY[:10]), then="close")
refused("half a chunk, reset", chunked(b"20\r\n" + BODY[:10]), then="reset")
either("half the last chunk, closed", chunked(b"20\r\n" + BODY + b"\r\n0\r\n"), then="close")
either("half the last chunk, reset", chunked(b"20\r\n" + BODY + b"\r\n0\r\n"), then="reset")
either("chunks after the last one", chunked(ONE_CHUNK + ONE_CHUNK))
either("answer in place of a chunk", chunked(b"20\r\n" + BODY + b"\r\n" + SMUGGLED), then="close")
accepted("trailers", chunked(b"20\r\n" + BODY + b"\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"))
either("length as trailer", chunked(b"20\r\n" + BODY + b"\r\n0\r\nContent-Length: 5\r\n\r\n"))
either("coding as trailer", chunked(b"20\r\n" + BODY + b"\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + ONE_CHUNK))
either("compression as trailer", chunked(b"20\r\n" + BODY + b"\r\n0\r\nContent-Encoding: gzip\r\n\r\n"))
either("trailer without a colon", chunked(b"20\r\n" + BODY + b"\r\n0\r\nX-Sum\r\n\r\n"))
either("folded trailer", chunked(b"20\r\n" + BODY + b"\r\n0\r\nX-Sum: 1\r\n 2\r\n\r\n"))
either("answer in place of trailers", chunked(b"20\r\n" + BODY + b"\r\n0\r\n" + SMUGGLED))
either("ten thousand trailers", chunked(b"20\r\n" + BODY + b"\r\n0\r\n" + b"X: 1\r\n" * 10_000 + b"\r\n"))

# Ends of connections

accepted("body up to the end", head() + BODY, then="close")
refused("body up to a reset", head() + BODY, then="reset")
endless("body without an end", head() + BODY)
either("reset after the body", sized(), then="reset")
accepted("closed after the body", sized(), then="close")
accepted("end announced, and kept open", sized(BODY, b"Connection: close"))
accepted("body up to the end in HTTP/1.0", head(status=b"HTTP/1.0 200 OK") + BODY, then="close")
accepted("HTTP/1.0 with a length", sized(status=b"HTTP/1.0 200 OK"), then="close")
accepted("HTTP/1.0 kept alive", sized(BODY, b"Connection: keep-alive", status=b"HTTP/1.0 200 OK"))
either("another answer behind it", sized() + SMUGGLED)
either("refusal behind it", sized() + sized(OTHER, status=b"HTTP/1.1 404 Not Found"))
either("hundred answers behind it", sized() + SMUGGLED * 100)
either("half an answer behind it", sized() + SMUGGLED[:30])
either("informational answer behind it", sized() + head(status=b"HTTP/1.1 100 Continue"))
either("line ends behind it", sized() + b"\r\n\r\n")


@scripted("another answer a moment later", OK, may_fail=False)
async def _later_answer(connection: Connection) -> None:
    await connection.write(sized())
    await asyncio.sleep(0.02)
    await connection.write(SMUGGLED)


@scripted("half an answer a moment later", OK, may_fail=False)
async def _later_half(connection: Connection) -> None:
    await connection.write(sized())
    await asyncio.sleep(0.02)
    await connection.write(head(b"Content-Length: 100") + OTHER)


@scripted("408 and its end a moment later", OK, may_fail=False)
async def _later_408(connection: Connection) -> None:
    await connection.write(sized())
    await asyncio.sleep(0.02)
    await connection.write(sized(b"too late", b"Connection: close", status=b"HTTP/1.1 408 Request Timeout"))
    await connection.finish()


@scripted("informational answers a moment later", OK, may_fail=False)
async def _later_100(connection: Connection) -> None:
    await connection.write(sized())
    await asyncio.sleep(0.02)
    await connection.write(head(status=b"HTTP/1.1 100 Continue"))


@scripted("no more than half open", OK, may_fail=False)
async def _half_close(connection: Connection) -> None:
    await connection.write(sized())
    await connection.finish_writing()


# Drips and floods


@scripted("drips, in time", OK, may_fail=False)
async def _drips(connection: Connection) -> None:
    await connection.drip(sized(), 0.002)


@scripted("chunks in drips, in time", OK, may_fail=False)
async def _chunk_drips(connection: Connection) -> None:
    await connection.drip(coded(b"Transfer-Encoding: chunked"), 0.002)


@scripted("drips of a head", waits=True)
async def _head_drips(connection: Connection) -> None:
    await connection.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    await connection.repeat(b"a", 0.02)


@scripted("drips of a body", waits=True)
async def _body_drips(connection: Connection) -> None:
    await connection.write(head(b"Content-Length: 1000000"))
    await connection.repeat(b"a", 0.02)


@scripted("drips of chunks", waits=True)
async def _drips_of_chunks(connection: Connection) -> None:
    await connection.write(head(b"Transfer-Encoding: chunked"))
    await connection.repeat(b"1\r\na\r\n", 0.02)


@scripted("drips of trailers", waits=True)
async def _trailer_drips(connection: Connection) -> None:
    await connection.write(chunked(b"20\r\n" + BODY + b"\r\n0\r\n"))
    await connection.repeat(b"X: 1\r\n", 0.02)


@scripted("drips of informational answers", waits=True)
async def _informational_drips(connection: Connection) -> None:
    await connection.repeat(head(status=b"HTTP/1.1 102 Processing"), 0.02)


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "endless status": (b"HTTP/1.1 200 ", b"a" * 65536),
    "endless header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a" * 65536),
    "endless header's name": (b"HTTP/1.1 200 OK\r\nX", b"a" * 65536),
    "endless headers": (b"HTTP/1.1 200 OK\r\n", b"X-Other: 1\r\n" * 4096),
    "endless folds": (b"HTTP/1.1 200 OK\r\nX-Long: 1\r\n", b" more\r\n" * 4096),
    "endless empty lines": (b"", b"\r\n" * 32768),
    "endless zero bytes": (b"", bytes(65536)),
    "endless informational answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2048),
    "endless informational answer": (b"HTTP/1.1 103 Early Hints\r\n", b"Link: </x>\r\n" * 4096),
    "endless body": (head(b"Content-Length: 1000000000000"), bytes(65536)),
    "endless body up to the end": (head(), bytes(65536)),
    "endless chunks": (head(b"Transfer-Encoding: chunked"), b"10000\r\n" + bytes(65536) + b"\r\n"),
    "endless chunks of a byte": (head(b"Transfer-Encoding: chunked"), b"1\r\na\r\n" * 8192),
    "endless chunk": (head(b"Transfer-Encoding: chunked") + b"ffffffffff\r\n", bytes(65536)),
    "endless chunk size": (head(b"Transfer-Encoding: chunked"), b"0" * 65536),
    "endless extension of a chunk": (head(b"Transfer-Encoding: chunked") + b"20;", b"a" * 65536),
    "endless extensions": (head(b"Transfer-Encoding: chunked"), (b"1;" + b"a" * 10000 + b"\r\na\r\n") * 6),
    "endless trailers": (chunked(b"20\r\n" + BODY + b"\r\n0\r\n"), b"X-Other: 1\r\n" * 4096),
    "endless trailer": (chunked(b"20\r\n" + BODY + b"\r\n0\r\nX-Long: "), b"a" * 65536),
    "endless error": (head(b"Content-Length: 1000000000000", status=b"HTTP/1.1 500 Oh"), bytes(65536)),
}
"""Answers without an end, as fast as the client takes them: how they begin, and what is repeated."""


def _flood(begin: bytes, repeated: bytes) -> Script:
    async def flood(connection: Connection) -> None:
        await connection.write(begin)
        await connection.repeat(repeated)

    return flood


for _name, (_begin, _repeated) in FLOODS.items():
    CASES.append(Case(_name, _flood(_begin, _repeated), (), may_fail=True, waits=True))
