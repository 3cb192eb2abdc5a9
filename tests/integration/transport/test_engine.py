"""The engine against receivers that are slow, hasty, endless, or gone."""

import asyncio
import contextlib
import os
import select
import socket
import threading
import time
from pathlib import Path

import pytest

from app.core.egress import EgressPolicy
from tests.integration.transport.conftest import LOOPBACK
from tests.integration.transport.raw_receiver import BODY, HEADERS, OK, answering, in_seconds, until
from workers.guard import EgressGuard
from workers.resolver import ThreadResolver
from workers.transport import (
    ConnectRefused,
    ConnectTimeout,
    EngineClosed,
    EngineLimits,
    EngineSaturated,
    HttpEngine,
    ProtocolError,
    ReadTimeout,
    Target,
)

SHORT = 0.3  # seconds until the deadline of a request that is meant to reach it


def dripping(head: bytes, drop: bytes):
    """A receiver that never stops and never finishes."""

    async def script(peer):
        await peer.request()
        await peer.send(head)
        while True:
            await peer.send(drop)
            await asyncio.sleep(0.01)

    return script


async def silent(peer):
    await peer.request()
    await peer.closed_by_client()


async def post(engine, target, *, body=BODY, deadline=None):
    return await engine.post(target, headers=HEADERS, body=body, deadline=deadline or in_seconds())


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


class FixedResolver:
    """Leads every name to the same addresses."""

    def __init__(self, *addresses):
        self.addresses = list(addresses)

    async def resolve(self, host, *, deadline):  # noqa: ARG002
        return self.addresses


@contextlib.contextmanager
def deaf_listener(address):
    """A port whose queue of new connections is full: the system drops every further SYN. Yields the port."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((address, 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
        yield listener.getsockname()[1]


# --- What is sent


async def test_sends_what_it_was_given(serve, engine):
    """Request line, our three headers, the caller's headers, and the body byte for byte."""
    log = []
    receiver = await serve(answering(OK, log=log))

    await post(engine, receiver.target("/a%20b?c=d"), body=b'{"n":1.10}\xff')

    assert log == [
        b"POST /a%%20b?c=d HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept-encoding: identity\r\n%b"
        b'content-length: 11\r\n\r\n{"n":1.10}\xff' % (receiver.port, HEADERS)
    ]


async def test_headers_may_be_pairs(serve, engine):
    """Pairs are encoded and checked."""
    log = []
    receiver = await serve(answering(OK, log=log))

    await engine.post(receiver.target(), headers=[(b"x-a", b"1")], body=b"", deadline=in_seconds())
    with pytest.raises(ValueError, match="not legal"):
        await engine.post(
            receiver.target(), headers=[(b"x-a", b"1\r\nx-b: 2")], body=b"", deadline=in_seconds()
        )

    assert b"\r\nx-a: 1\r\n" in log[0]
    assert len(log) == 1


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"PATCH"])
async def test_sends_other_methods(serve, engine, method):
    """The engine is a general client, though deliveries are POSTs."""
    log = []
    receiver = await serve(answering(OK, log=log))

    exchange = await engine.request(
        receiver.target(), method=method, headers=b"", body=b"", deadline=in_seconds()
    )

    assert exchange.status == 200
    assert log[0].startswith(method + b" /hook HTTP/1.1\r\n")


async def test_an_answer_to_head_has_no_body(serve, engine):
    """The announced length is not waited for."""
    receiver = await serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"))

    exchange = await engine.request(
        receiver.target(), method=b"HEAD", headers=b"", body=b"", deadline=in_seconds()
    )

    assert (exchange.status, exchange.body) == (200, b"")


async def test_a_large_body_arrives_whole(serve, engine):
    """A body far above the socket's buffers is sent to its end."""
    log = []
    receiver = await serve(answering(OK, log=log))
    body = os.urandom(8 * 1024 * 1024)

    exchange = await post(engine, receiver.target(), body=body)

    assert exchange.status == 200
    assert log[0].endswith(body)


# --- Deadlines


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 ", b"O"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"x"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"", b"\r\n"),
    ],
    ids=["status line", "headers", "one value", "interim answers", "empty lines"],
)
async def test_a_dripping_head_ends_at_the_deadline(serve, engine, head, drop):
    """No read timeout would ever fire; the deadline does."""
    receiver = await serve(dripping(head, drop))

    with pytest.raises(ReadTimeout):
        await post(engine, receiver.target(), deadline=in_seconds(SHORT))

    await receiver.all_gone()


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["length", "until close"],
)
async def test_a_dripping_body_ends_at_the_deadline(serve, engine, head):
    """The status line has decided; what came of the body is kept, with a note."""
    receiver = await serve(dripping(head, b"x"))

    exchange = await post(engine, receiver.target(), deadline=in_seconds(SHORT))

    assert exchange.status == 200
    assert exchange.body.strip(b"x") == b""
    assert exchange.body_truncated
    assert "did not end within" in exchange.note
    await receiver.all_gone()


async def test_silence_ends_at_the_deadline(serve, engine):
    """A receiver that takes the request and never answers is a read timeout, with its phases."""
    receiver = await serve(silent)

    with pytest.raises(ReadTimeout, match="No answer came within") as caught:
        await post(engine, receiver.target(), deadline=in_seconds(SHORT))

    timings = caught.value.timings
    assert timings.connect_ms is not None
    assert timings.send_ms is not None
    assert timings.wait_ms > 0
    assert timings.receive_ms is None
    assert caught.value.connection.ip == "127.0.0.1"
    await receiver.all_gone()


async def test_a_request_that_nobody_reads_ends_at_the_deadline(serve, engine):
    """When the receiver's window closes, the sentence says that the request was not taken."""
    release = asyncio.Event()

    async def deaf(peer):
        peer.reader._transport.pause_reading()
        await release.wait()

    receiver = await serve(deaf)

    with pytest.raises(ReadTimeout, match="was not taken"):
        await post(engine, receiver.target(), body=b"x" * 50_000_000, deadline=in_seconds(SHORT))
    release.set()


async def test_silence_after_a_large_request_is_told_as_such(serve, engine):
    """A request that was taken in pieces and then not answered was taken."""
    receiver = await serve(silent)

    with pytest.raises(ReadTimeout, match="No answer came") as caught:
        await post(engine, receiver.target(), body=b"x" * 20_000_000, deadline=in_seconds(3))

    assert caught.value.timings.wait_ms > 0


async def test_a_deadline_that_has_passed_sends_nothing(serve, engine):
    """A request that starts too late fails without touching the receiver."""
    log = []
    receiver = await serve(answering(OK, log=log))

    with pytest.raises(ConnectTimeout):
        await post(engine, receiver.target(), deadline=time.monotonic() - 1)

    assert log == []


async def test_a_kept_connection_has_each_request_s_own_deadline(serve, engine):
    """The timer of an earlier, longer or shorter request does not decide."""

    async def script(peer):
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await asyncio.sleep(2 * SHORT)  # Beyond the first request's deadline, within the second's.
        await peer.send(OK)
        await peer.request()
        await peer.closed_by_client()

    receiver = await serve(script)
    await post(engine, receiver.target(), deadline=in_seconds(SHORT))
    await post(engine, receiver.target(), deadline=in_seconds(30))

    with pytest.raises(ReadTimeout):
        await post(engine, receiver.target(), deadline=in_seconds(SHORT))

    assert receiver.connections == 1


# --- Too much


async def test_an_endless_body_is_cut(serve, engine):
    """64 KiB are kept, the rest is refused by closing."""

    async def endless(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 500 Oops\r\n\r\n")
        while True:
            await peer.send(b"x" * 65_536)

    receiver = await serve(endless)

    exchange = await post(engine, receiver.target())

    assert (exchange.status, len(exchange.body), exchange.body_truncated) == (500, 65_536, True)
    await receiver.all_gone()


async def test_a_gzip_bomb_is_not_inflated(serve, engine):
    """A compressed body is kept as it came, although we asked for identity."""
    bomb = b"\x1f\x8b" + b"\x00" * 60_000
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    log = []
    receiver = await serve(answering(head + bomb, log=log))

    exchange = await post(engine, receiver.target())

    assert exchange.body == bomb
    assert b"accept-encoding: identity\r\n" in log[0]


# --- Early answers, stale and broken connections


@pytest.mark.parametrize("end", ["stay", "close", "reset"])
async def test_an_early_answer_counts(serve, engine, end):
    """A receiver may refuse a request before it has read all of it."""

    async def hasty(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await peer.settled()
        if end == "reset":
            peer.reset()
        elif end == "stay":
            await peer.closed_by_client()

    receiver = await serve(hasty)

    exchange = await post(engine, receiver.target(), body=b"x" * 20_000_000)

    assert (exchange.status, exchange.body) == (413, b"no")
    assert engine.stats().idle == 0


async def test_a_connection_closed_while_idle_is_not_used(serve, engine):
    """The next request opens a new one and succeeds: nothing was sent on the stale one."""
    may_close = asyncio.Event()

    async def once(peer):
        await peer.request()
        await peer.send(OK)
        await may_close.wait()

    receiver = await serve(once)
    await post(engine, receiver.target())
    may_close.set()
    await receiver.gone.acquire()

    exchange = await post(engine, receiver.target())

    assert (exchange.status, exchange.connection.reused) == (200, False)
    assert receiver.connections == 2


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 418 Unasked\r\nContent-Length: 0\r\n\r\n"])
async def test_a_close_that_the_event_loop_has_not_seen_is_noticed(engine, last_words):
    """Between two requests in one round of the loop only the socket itself knows that it is stale."""
    may_close = threading.Event()

    def serve_twice(listener):
        with contextlib.suppress(TimeoutError):
            for _ in range(2):
                connection, _ = listener.accept()
                connection.recv(65_536)
                connection.sendall(OK)
                may_close.wait(20)
                connection.sendall(last_words)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        target = Target.from_url(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        server = threading.Thread(target=serve_twice, args=(listener,), daemon=True)
        server.start()
        await post(engine, target)
        kept = next(iter(engine._pool._idle))
        may_close.set()
        readable, _, _ = select.select([kept._sock], [], [], 20)

        exchange = await post(engine, target)

        await asyncio.to_thread(server.join)
    assert readable
    assert (exchange.status, exchange.connection.reused) == (200, False)


async def test_a_connection_with_unasked_data_is_not_used(serve, engine):
    """What a receiver sends between two requests never becomes an answer."""
    spoke = asyncio.Event()
    speak = asyncio.Event()

    async def talkative(peer):
        await peer.request()
        await peer.send(OK)
        await speak.wait()
        await peer.send(b"HTTP/1.1 418 Unasked\r\nContent-Length: 0\r\n\r\n")
        await peer.settled()
        spoke.set()
        while await peer.request():
            await peer.send(OK)

    receiver = await serve(talkative)
    await post(engine, receiver.target())
    speak.set()
    await spoke.wait()

    exchange = await post(engine, receiver.target())

    assert (exchange.status, exchange.connection.reused) == (200, False)


async def test_a_request_that_was_sent_is_not_sent_again(serve, engine):
    """A kept connection that dies under the request fails: the receiver may have acted on it."""
    log = []

    async def once_then_gone(peer):
        log.append(await peer.request())
        await peer.send(OK)
        log.append(await peer.request())

    receiver = await serve(once_then_gone)
    await post(engine, receiver.target())

    with pytest.raises(ProtocolError, match="before an answer came") as caught:
        await post(engine, receiver.target())

    assert caught.value.connection.reused
    assert len(log) == 2
    assert receiver.connections == 1


async def test_an_idle_connection_closes_itself(serve, guard):
    """A receiver's sockets are not held longer than the idle limit."""
    receiver = await serve(answering(OK))
    async with HttpEngine(guard=guard, limits=EngineLimits(idle_seconds=0.05)) as engine:
        await post(engine, receiver.target())

        await receiver.all_gone()

        assert engine.stats().open == 0


async def test_a_receiver_s_keep_alive_time_is_heeded(serve, guard):
    """With `Keep-Alive: timeout=0` the connection is not used again."""
    receiver = await serve(
        answering(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0, max=5\r\nContent-Length: 2\r\n\r\nok")
    )
    async with HttpEngine(guard=guard, limits=EngineLimits(idle_seconds=60)) as engine:
        await post(engine, receiver.target())

        await receiver.all_gone()

        assert engine.stats().open == 0


async def test_a_connection_is_given_up_at_its_age(serve, guard):
    """However busy it is, a connection does not outlive a change of DNS by more than its age."""
    receiver = await serve(answering(OK))
    async with HttpEngine(guard=guard, limits=EngineLimits(max_age_seconds=0.05)) as engine:
        async with asyncio.timeout(10):
            while receiver.connections < 3:
                await post(engine, receiver.target())

    assert receiver.connections == 3


# --- Many at once


async def test_many_requests_share_few_connections(serve, engine):
    """Each request gets its own answer, and connections are as many as were needed at once."""

    async def echo(peer):
        while request := await peer.request():
            body = request.partition(b"\r\n\r\n")[2]
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    receiver = await serve(echo)
    slots = asyncio.Semaphore(20)

    async def one(number):
        async with slots:
            return (await post(engine, receiver.target(), body=b"%d" % number)).body

    bodies = await asyncio.gather(*(one(number) for number in range(500)))

    assert bodies == [b"%d" % number for number in range(500)]
    assert receiver.connections <= 20
    assert engine.stats().connections_reused == 500 - receiver.connections


async def test_in_flight_is_counted_by_origin(serve, engine):
    """The drain's soft cap per host reads it."""
    receiver = await serve(silent)
    target = receiver.target()
    before = engine.in_flight(target.origin)

    tasks = [asyncio.create_task(post(engine, target)) for _ in range(3)]
    await asyncio.sleep(0)
    during = engine.in_flight(target.origin), engine.in_flight("http://other:80"), engine.stats().in_flight
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert (before, during, engine.in_flight(target.origin)) == (0, (3, 0, 3), 0)


async def test_idle_connections_are_bounded_by_origin_and_in_all(serve, guard):
    """The longest idle one makes room."""
    receivers = [await serve(answering(OK)) for _ in range(3)]
    limits = EngineLimits(max_idle=2, max_idle_per_origin=1)
    async with HttpEngine(guard=guard, limits=limits) as engine:
        for receiver in receivers:
            await asyncio.gather(*(post(engine, receiver.target()) for _ in range(3)))

        assert engine.stats().idle == engine.stats().open == 2
        again = [(await post(engine, receiver.target())).connection.reused for receiver in receivers[1:]]

    assert again == [True, True]


async def test_open_connections_are_bounded(serve, guard):
    """At the bound an idle connection of another host is closed; when all are busy it is our own fault."""
    quiet, other, third = await serve(silent), await serve(answering(OK)), await serve(answering(OK))
    async with HttpEngine(guard=guard, limits=EngineLimits(max_connections=2)) as engine:
        busy = asyncio.create_task(post(engine, quiet.target()))
        await post(engine, other.target())
        await post(engine, third.target())
        second = asyncio.create_task(post(engine, quiet.target()))
        await until(lambda: engine.stats().open == 2 and not engine.stats().idle)

        with pytest.raises(EngineSaturated, match="All 2 connections"):
            await post(engine, other.target())

        for task in (busy, second):
            task.cancel()
        await asyncio.gather(busy, second, return_exceptions=True)
        assert (await post(engine, other.target())).status == 200


async def test_a_cancelled_request_closes_its_connection(serve, engine):
    """A request that is aborted at its lease leaves nothing behind."""
    receiver = await serve(silent)
    task = asyncio.create_task(post(engine, receiver.target()))
    await receiver.came.acquire()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await receiver.all_gone()
    assert engine.stats().open == engine.stats().in_flight == 0


async def test_nothing_leaks(serve, guard):
    """After every kind of end the process has as many open files as before."""
    quiet, good, bad = await serve(silent), await serve(answering(OK)), await serve(answering(b"rubbish"))
    closed = Target.from_url("http://127.0.0.1:1024/")
    before = open_files()
    async with HttpEngine(guard=guard) as engine:
        for _ in range(5):
            tasks = [
                asyncio.create_task(post(engine, target, deadline=in_seconds(seconds)))
                for target, seconds in (
                    (quiet.target(), 0.05),
                    (quiet.target(), 30),
                    (good.target(), 30),
                    (bad.target(), 30),
                    (closed, 30),
                )
                for _ in range(4)
            ]
            await asyncio.wait(tasks, timeout=0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    for receiver in (quiet, good, bad):
        await receiver.all_gone()

    await until(lambda: open_files() <= before)


async def test_closing_the_engine_ends_what_is_under_way(serve, guard):
    """A stopping worker learns that these were no attempts."""
    receiver = await serve(silent)
    engine = HttpEngine(guard=guard)
    task = asyncio.create_task(post(engine, receiver.target()))
    await receiver.came.acquire()

    await engine.aclose()

    with pytest.raises(EngineClosed):
        await task
    with pytest.raises(EngineClosed):
        await post(engine, receiver.target())
    await receiver.all_gone()


# --- Connecting


async def test_a_port_without_a_listener_is_refused(serve, engine):
    """Nothing listens: the class says so, and how long it took."""
    receiver = await serve(silent)
    target = Target.from_url("http://127.0.0.1:1024/")

    with pytest.raises(ConnectRefused, match="nothing is listening") as caught:
        await post(engine, target)

    assert caught.value.connection is None
    assert caught.value.timings.connect_ms is not None
    assert caught.value.timings.send_ms is None
    assert receiver.connections == 0


async def test_a_silent_address_ends_at_the_deadline(engine):
    """A firewall that drops: the class says that nobody answered."""
    with deaf_listener("127.0.0.1") as port, pytest.raises(ConnectTimeout) as caught:
        await post(engine, Target.from_url(f"http://127.0.0.1:{port}/"), deadline=in_seconds(SHORT))

    assert caught.value.timings.connect_ms is not None


async def test_a_silent_address_does_not_hold_up_the_next(serve):
    """The second address is tried while the first is still silent, and the first is let go."""
    with deaf_listener("127.0.0.2") as port:
        receiver = await serve(answering(OK), port=port)
        guard = EgressGuard(
            policy=EgressPolicy(allow=LOOPBACK), resolver=FixedResolver("127.0.0.2", "127.0.0.1")
        )
        before = open_files()
        async with HttpEngine(guard=guard, limits=EngineLimits(next_address_seconds=0.01)) as engine:
            exchange = await post(engine, receiver.target(host="receiver.test"), deadline=in_seconds(600))

        assert (exchange.status, exchange.connection.ip) == (200, "127.0.0.1")
        await until(lambda: open_files() <= before)


async def test_a_name_server_that_never_answers_slows_nobody_else(serve):
    """While look-ups of one endpoint's name hang, another endpoint is delivered to."""
    silence = threading.Event()

    def look_up(host):
        if host.endswith("dead.example"):
            silence.wait(60)
        return ["127.0.0.1"]

    receiver = await serve(answering(OK))
    resolver = ThreadResolver(lookup=look_up)
    guard = EgressGuard(policy=EgressPolicy(allow=LOOPBACK), resolver=resolver)
    async with HttpEngine(guard=guard) as engine:
        stuck = [
            asyncio.create_task(post(engine, receiver.target(host=f"{number}.dead.example")))
            for number in range(100)
        ]
        await asyncio.sleep(0)

        exchange = await post(engine, receiver.target(host="alive.test"))
        still_stuck = sum(not task.done() for task in stuck)

        silence.set()
        results = await asyncio.gather(*stuck, return_exceptions=True)
    resolver.close()
    assert (exchange.status, still_stuck) == (200, 100)
    assert len(results) == 100


async def test_ipv6_is_reached(serve, engine):
    """A literal in brackets, as in a URL."""
    log = []
    receiver = await serve(answering(OK, log=log), host="::1")

    exchange = await post(engine, receiver.target(host="[::1]"))

    assert exchange.connection.ip == "::1"
    assert b"\r\nhost: [::1]:%d\r\n" % receiver.port in log[0]


async def test_phases_are_timed(serve, engine):
    """A new connection has all phases but TLS; a kept one starts at send."""
    receiver = await serve(answering(OK))

    first = await post(engine, receiver.target())
    second = await post(engine, receiver.target())

    assert [
        [
            value is not None
            for value in (t.dns_ms, t.connect_ms, t.tls_ms, t.send_ms, t.wait_ms, t.receive_ms, t.queue_ms)
        ]
        for t in (first.timings, second.timings)
    ] == [
        [True, True, False, True, True, True, False],
        [False, False, False, True, True, True, False],
    ]
    assert (first.connection.reused, second.connection.reused) == (False, True)
    assert first.connection.http_version == "1.1"
    assert first.connection.tls_version is None


async def test_waiting_is_counted_to_the_final_answer(serve, engine):
    """An interim answer does not end the wait."""
    release = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await release.wait()
        await peer.send(OK)

    receiver = await serve(script)
    asyncio.get_running_loop().call_later(0.1, release.set)

    exchange = await post(engine, receiver.target())

    assert exchange.timings.wait_ms > exchange.timings.receive_ms
