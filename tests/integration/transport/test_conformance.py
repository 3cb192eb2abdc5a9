"""Odd but legal, and illegal, responses as raw bytes: what the engine and the stock sender make of each.

`stock` says what httpcore2 does where the engine differs from it on purpose.
"""

from dataclasses import dataclass
from ipaddress import ip_network
from typing import TypeAlias

import pytest
import uvloop

from app.core.egress import EgressPolicy
from app.core.error_classes import ErrorClass
from tests.integration.transport.raw_receiver import BODY, HEADERS, in_seconds, receivers
from workers.guard import EgressGuard
from workers.resolver import ThreadResolver
from workers.transport import HttpEngine, SendError

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PROTOCOL_ERROR = ErrorClass.PROTOCOL_ERROR
TOO_LARGE = ErrorClass.HEADERS_TOO_LARGE


@dataclass(frozen=True)
class Answer:
    """A usable response: `note` whether something was wrong behind its head, `cut` whether we stopped reading."""

    status: int = 200
    body: bytes = b"ok"
    note: bool = False
    cut: bool = False


Expected: TypeAlias = Answer | ErrorClass


@dataclass(frozen=True)
class Case:
    """Raw bytes, how the receiver ends, and what comes of it. `kept`: the connection may be used again."""

    name: str
    raw: bytes
    expected: Expected
    end: str = "stay"
    kept: bool = False
    stock: Expected | None = None


def reply(head: bytes, body: bytes = b"ok") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body


CASES = [
    # Framing by length
    Case("length", reply(b"Content-Length: 2\r\n"), Answer(), kept=True),
    Case("length zero", reply(b"Content-Length: 0\r\n", b""), Answer(body=b""), kept=True),
    Case("length with leading zeros", reply(b"Content-Length: 0002\r\n"), Answer(), kept=True),
    Case("length with spaces around", reply(b"Content-Length: \t 2 \t\r\n"), Answer(), kept=True),
    Case("length too small: what follows is dropped", reply(b"Content-Length: 1\r\n"), Answer(body=b"o")),
    Case("length too large, then close", reply(b"Content-Length: 9\r\n"), Answer(note=True), end="close"),
    Case("length too large, then reset", reply(b"Content-Length: 9\r\n"), Answer(note=True), end="reset"),
    Case("length too large, then half-close", reply(b"Content-Length: 9\r\n"), Answer(note=True), end="half"),
    Case("two different lengths", reply(b"Content-Length: 2\r\nContent-Length: 3\r\n"), PROTOCOL_ERROR),
    Case("the same length twice", reply(b"Content-Length: 2\r\n" * 2), PROTOCOL_ERROR, stock=Answer()),
    Case("negative length", reply(b"Content-Length: -2\r\n"), PROTOCOL_ERROR),
    Case("signed length", reply(b"Content-Length: +2\r\n"), PROTOCOL_ERROR),
    Case("hexadecimal length", reply(b"Content-Length: 0x2\r\n"), PROTOCOL_ERROR),
    Case("length beyond 64 bits", reply(b"Content-Length: " + b"9" * 25 + b"\r\n"), PROTOCOL_ERROR),
    Case("empty length", reply(b"Content-Length:\r\n"), PROTOCOL_ERROR),
    # Framing by chunks
    Case("chunks", CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", Answer(), kept=True),
    Case("no chunk but the last", CHUNKED + b"0\r\n\r\n", Answer(body=b""), kept=True),
    Case("chunk sizes with zeros and capitals", CHUNKED + b"00002\r\nok\r\n0000\r\n\r\n", Answer(), kept=True),
    Case("chunk size in capital hexadecimal", CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", Answer(body=b"0123456789"), kept=True),
    Case("chunk extension", CHUNKED + b"2;a=b\r\nok\r\n0;c\r\n\r\n", Answer(), kept=True),
    Case("quoted chunk extension", CHUNKED + b'2;a="b;c"\r\nok\r\n0\r\n\r\n', Answer(), kept=True),
    Case("trailers", CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", Answer(), kept=True),
    Case("chunked in capitals", reply(b"Transfer-Encoding: CHUNKED\r\n", b"2\r\nok\r\n0\r\n\r\n"), Answer(), kept=True),
    Case("bad chunk size", CHUNKED + b"zz\r\nok\r\n0\r\n\r\n", Answer(body=b"", note=True)),
    Case("chunk longer than its size", CHUNKED + b"2\r\nokok\r\n0\r\n\r\n", Answer(note=True)),
    Case("chunk size beyond 64 bits", CHUNKED + b"f" * 17 + b"\r\nok", Answer(body=b"", note=True), stock=Answer(note=True, body=b"ok"), end="close"),
    Case("chunks end early by close", CHUNKED + b"2\r\nok\r\n", Answer(note=True), end="close"),
    Case("chunks end early by reset", CHUNKED + b"2\r\nok\r\n", Answer(note=True), end="reset"),
    Case("chunks beside a length", reply(b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\n"), Answer()),
    Case("chunks in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Answer(), end="close"),
    # Framing by the end of the connection
    Case("until close", reply(b""), Answer(), end="close"),
    Case("until half-close", reply(b""), Answer(), end="half"),
    Case("until close, empty", reply(b"", b""), Answer(body=b""), end="close"),
    Case("until reset", reply(b""), Answer(note=True), end="reset"),
    Case("HTTP/1.0 until close", b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nok", Answer(), end="close"),
    # No body
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, b""), kept=True),
    Case("204 with a length", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Answer(204, b""), kept=True),
    Case("204 with a body", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", Answer(204, b"")),
    Case("304 with the length of what it stands for", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n", Answer(304, b""), kept=True),
    Case("205 with length 0", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", Answer(205, b""), kept=True),
    # Persistence
    Case("Connection: close", reply(b"Connection: close\r\nContent-Length: 2\r\n"), Answer()),
    Case("Connection: a list with Close", reply(b"Connection: x, Close\r\nContent-Length: 2\r\n"), Answer()),
    Case("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Answer()),
    Case("HTTP/1.0 keep-alive", b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", Answer(), kept=True),
    Case("a second answer at once", reply(b"Content-Length: 2\r\n") * 2, Answer()),
    Case("garbage behind the answer", reply(b"Content-Length: 2\r\n") + b"\x00\x01", Answer()),
    Case("Upgrade offered, not taken", reply(b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n"), Answer(), kept=True),
    # Interim answers
    Case("100", b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"Content-Length: 2\r\n"), Answer(), kept=True),
    Case("103 with headers", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + reply(b"Content-Length: 2\r\n"), Answer(), kept=True),
    Case("three interim answers", b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + reply(b"Content-Length: 2\r\n"), Answer(), kept=True),
    Case("unknown interim answer", b"HTTP/1.1 199 Hm\r\n\r\n" + reply(b"Content-Length: 2\r\n"), Answer(), kept=True),
    Case("interim answer that says close", b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + reply(b"Content-Length: 2\r\n"), Answer()),
    Case("interim answer only, then close", b"HTTP/1.1 100 Continue\r\n\r\n", PROTOCOL_ERROR, end="close"),
    Case("101 unasked", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", PROTOCOL_ERROR),
    # The status line
    Case("no reason", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", Answer(), kept=True),
    Case("empty reason", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", Answer(), kept=True),
    Case("reason beyond ASCII", b"HTTP/1.1 200 \xc3\x9c\xff\r\nContent-Length: 2\r\n\r\nok", Answer(), kept=True),
    Case("unknown 2xx", b"HTTP/1.1 299 Hm\r\nContent-Length: 2\r\n\r\nok", Answer(299), kept=True),
    Case("status 999", b"HTTP/1.1 999 Hm\r\nContent-Length: 2\r\n\r\nok", Answer(999), kept=True),
    Case("status 099", b"HTTP/1.1 099 Hm\r\nContent-Length: 2\r\n\r\nok", PROTOCOL_ERROR),
    Case("status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", PROTOCOL_ERROR),
    Case("status of four digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", PROTOCOL_ERROR),
    Case("status with a letter", b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok", PROTOCOL_ERROR),
    Case("two spaces before the status", b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", PROTOCOL_ERROR),
    Case("another protocol's name", b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok", PROTOCOL_ERROR),
    Case("protocol in small letters", b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", PROTOCOL_ERROR),
    Case("empty lines before the answer", b"\r\n\r\n" + reply(b"Content-Length: 2\r\n"), Answer(), kept=True, stock=PROTOCOL_ERROR),
    # Headers
    Case("no headers at all", reply(b""), Answer(), end="close"),
    Case("single LF as line end", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Answer(), kept=True),
    Case("empty values", reply(b"X-A:\r\nX-B: \r\nContent-Length: 2\r\n"), Answer(), kept=True),
    Case("values beyond ASCII", reply(b"X-A: \xe9\xff\r\nContent-Length: 2\r\n"), Answer(), kept=True),
    Case("folded value", reply(b"X-A: a\r\n\tb\r\nContent-Length: 2\r\n"), Answer()),
    Case("control character in a value", reply(b"X-A: a\x01b\r\nContent-Length: 2\r\n"), Answer()),
    Case("space before the colon", reply(b"X-A : b\r\nContent-Length: 2\r\n"), PROTOCOL_ERROR),
    Case("line without a colon", reply(b"X-A\r\nContent-Length: 2\r\n"), PROTOCOL_ERROR),
    Case("empty name", reply(b": b\r\nContent-Length: 2\r\n"), PROTOCOL_ERROR),
    Case("bare CR as line end", b"HTTP/1.1 200 OK\rContent-Length: 2\r\r\nok", PROTOCOL_ERROR, end="close"),
    Case("head cut by close", b"HTTP/1.1 200 OK\r\nContent-Le", PROTOCOL_ERROR, end="close"),
    Case("head cut by reset", b"HTTP/1.1 200 OK\r\nContent-Le", PROTOCOL_ERROR, end="reset"),
    # Caps
    Case("50 headers", reply(b"X: y\r\n" * 49 + b"Content-Length: 2\r\n"), Answer(), kept=True),
    Case("51 headers", reply(b"X: y\r\n" * 50 + b"Content-Length: 2\r\n"), TOO_LARGE),
    Case("5,000 headers", reply(b"X: y\r\n" * 5_000), TOO_LARGE),
    Case("8,000 bytes of header", reply(b"X: " + b"y" * 8_000 + b"\r\nContent-Length: 2\r\n"), Answer(), kept=True),
    Case("9,000 bytes of header", reply(b"X: " + b"y" * 9_000 + b"\r\nContent-Length: 2\r\n"), TOO_LARGE),
    Case("150 KB of header", reply(b"X: " + b"y" * 150_000 + b"\r\n"), TOO_LARGE, stock=PROTOCOL_ERROR),
    Case("endless status line", b"HTTP/1.1 200 " + b"y" * 150_000, TOO_LARGE, stock=PROTOCOL_ERROR, end="close"),
    Case("64 KiB of body", reply(b"Content-Length: 65536\r\n", b"x" * 65_536), Answer(body=b"x" * 65_536), kept=True),
    Case("64 KiB + 1 of body", reply(b"Content-Length: 65537\r\n", b"x" * 65_537), Answer(body=b"x" * 65_536, cut=True)),
    Case("gzip stays gzip", reply(b"Content-Encoding: gzip\r\nContent-Length: 4\r\n", b"\x1f\x8b\x08\x00"), Answer(body=b"\x1f\x8b\x08\x00"), kept=True),
    Case("redirects stay", b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", Answer(302, b""), kept=True),
    # No answer
    Case("close without an answer", b"", PROTOCOL_ERROR, end="close"),
    Case("half-close without an answer", b"", PROTOCOL_ERROR, end="half"),
    Case("reset without an answer", b"", PROTOCOL_ERROR, end="reset"),
    Case("HTML without a head", b"<html><body>hello</body></html>", PROTOCOL_ERROR, end="close"),
    Case("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x46", PROTOCOL_ERROR, end="close"),
    Case("an SSH banner", b"SSH-2.0-OpenSSH_9.2\r\n", PROTOCOL_ERROR, end="close"),
    Case("an HTTP/2 preface", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18, PROTOCOL_ERROR, end="close"),
    Case("null bytes", b"\x00" * 2_000, PROTOCOL_ERROR, end="close"),
]  # fmt: skip


def script_of(case):
    async def script(peer):
        while await peer.request():
            await peer.send(case.raw)
            if case.end == "reset":
                # The client must have read what came before: a reset discards what it has not.
                await peer.settled()
                peer.reset()
                return
            if case.end == "half":
                peer.half_close()
                await peer.closed_by_client()
                return
            if case.end == "close":
                return

    return script


async def outcome_of(sender, receiver):
    try:
        exchange = await sender.post(receiver.target(), headers=HEADERS, body=BODY, deadline=in_seconds())
    except SendError as error:
        return error.error_class
    return Answer(exchange.status, exchange.body, exchange.note is not None, exchange.body_truncated)


def test_the_suite_is_broad():
    """At least sixty responses, each with a name of its own."""
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_engine(case, serve, engine):
    """The engine makes of the bytes what HTTP/1.1 says, and keeps the connection only when that is safe."""
    receiver = await serve(script_of(case))

    assert await outcome_of(engine, receiver) == case.expected

    assert engine.stats().idle == (1 if case.kept else 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_stock(case, serve, stock):
    """httpcore2 agrees, or differs as the case says."""
    receiver = await serve(script_of(case))

    assert await outcome_of(stock, receiver) == (case.stock or case.expected)


@pytest.mark.parametrize("case", [case for case in CASES if case.kept], ids=lambda case: case.name)
async def test_a_kept_connection_serves_again(case, serve, engine):
    """What was kept carries the next request, and its answer is its own."""
    receiver = await serve(script_of(case))

    outcomes = [await outcome_of(engine, receiver) for _ in range(3)]

    assert outcomes == [case.expected] * 3
    assert receiver.connections == 1


def test_engine_on_uvloop():
    """The workers may run uvloop: every response means the same there."""

    async def main():
        resolver = ThreadResolver()
        guard = EgressGuard(policy=EgressPolicy(allow=[ip_network("127.0.0.0/8")]), resolver=resolver)
        outcomes = {}
        async with receivers() as serve:
            for case in CASES:
                receiver = await serve(script_of(case))
                async with HttpEngine(guard=guard) as engine:
                    outcomes[case.name] = await outcome_of(engine, receiver), engine.stats().idle
        resolver.close()
        return outcomes

    assert uvloop.run(main()) == {case.name: (case.expected, int(case.kept)) for case in CASES}
