"""DNS look-ups that cannot hold each other up."""

import asyncio
import socket
import threading
import time

import pytest

from workers.http1.errors import DnsError, EngineSaturated
from workers.resolver import ResolverLimits, ThreadResolver, look_up


class NameServer:
    """A look-up function whose silence and answers the test decides."""

    def __init__(self):
        self.calls = []
        self.silent = set()
        self.called = threading.Semaphore(0)
        self.release = threading.Event()
        self.answers = {}

    def __call__(self, host):
        self.calls.append(host)
        self.called.release()
        if host in self.silent:
            self.release.wait(60)
        answer = self.answers.get(host, ["192.0.2.1"])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def wait_for_calls(self, count):
        for _ in range(count):
            assert await asyncio.to_thread(self.called.acquire, timeout=10)


@pytest.fixture
def server():
    name_server = NameServer()
    yield name_server
    name_server.release.set()


@pytest.fixture
def make_resolver(server):
    made = []

    def make(**limits):
        resolver = ThreadResolver(limits=ResolverLimits(**limits), lookup=server)
        made.append(resolver)
        return resolver

    yield make
    for resolver in made:
        resolver.close()


def soon(seconds=30.0):
    return time.monotonic() + seconds


async def test_answers_are_cached(make_resolver, server):
    """A second look-up within the cache time asks nobody."""
    resolver = make_resolver()

    answers = [await resolver.resolve("a.example", deadline=soon()) for _ in range(3)]

    assert answers == [["192.0.2.1"]] * 3
    assert server.calls == ["a.example"]


async def test_an_old_answer_is_asked_for_again(make_resolver, server):
    """DNS changes are followed after the cache time."""
    resolver = make_resolver(cache_seconds=0)
    await resolver.resolve("a.example", deadline=soon())
    server.answers["a.example"] = ["192.0.2.2"]

    assert await resolver.resolve("a.example", deadline=soon()) == ["192.0.2.2"]


async def test_one_look_up_serves_all_who_wait(make_resolver, server):
    """A burst for one host is one question."""
    resolver = make_resolver()

    answers = await asyncio.gather(*(resolver.resolve("a.example", deadline=soon()) for _ in range(50)))

    assert answers == [["192.0.2.1"]] * 50
    assert server.calls == ["a.example"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "was not found"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "did not answer, or failed"),
        (UnicodeError("label too long"), "not a legal DNS name"),
        ([], "has no address"),
    ],
)
async def test_failures_are_told_and_cached(make_resolver, server, fault, words):
    """A failed look-up says why, and is not repeated at once."""
    server.answers["a.example"] = fault
    resolver = make_resolver()

    for _ in range(2):
        with pytest.raises(DnsError, match=words):
            await resolver.resolve("a.example", deadline=soon())

    assert server.calls == ["a.example"]


async def test_a_silent_name_server_slows_no_other_name(make_resolver, server):
    """With more dead names than one domain may have threads, another host is answered at once."""
    server.silent = {f"{n}.dead.example" for n in range(20)}
    resolver = make_resolver(threads=6, threads_per_domain=4, deadline_seconds=30)
    stuck = [asyncio.create_task(resolver.resolve(name, deadline=soon())) for name in server.silent]
    await server.wait_for_calls(4)

    answer = await asyncio.wait_for(resolver.resolve("alive.test", deadline=soon()), 10)

    assert answer == ["192.0.2.1"]
    assert len(server.calls) == 5
    server.release.set()
    assert await asyncio.gather(*stuck) == [["192.0.2.1"]] * 20


async def test_a_silent_name_server_ends_at_the_deadline(make_resolver, server):
    """The waiter leaves, and those who come next fail at once instead of waiting as long."""
    server.silent = {"dead.example"}
    resolver = make_resolver(deadline_seconds=0.05)

    for _ in range(3):
        with pytest.raises(DnsError, match="did not answer within"):
            await resolver.resolve("dead.example", deadline=soon())

    assert server.calls == ["dead.example"]


async def test_the_deadline_of_the_request_comes_first(make_resolver, server):
    """A request with less time left does not wait the full time of a look-up, nor spoil it for others."""
    server.silent = {"slow.example"}
    resolver = make_resolver(deadline_seconds=30)
    with pytest.raises(DnsError):
        await resolver.resolve("slow.example", deadline=soon(0.01))

    server.release.set()

    assert await resolver.resolve("slow.example", deadline=soon()) == ["192.0.2.1"]


async def test_a_late_answer_replaces_the_failure(make_resolver, server):
    """Once the name server answers, deliveries go on without waiting for the failure to expire."""
    server.silent = {"slow.example"}
    resolver = make_resolver(deadline_seconds=0.01, failure_cache_seconds=3_600)
    with pytest.raises(DnsError):
        await resolver.resolve("slow.example", deadline=soon())

    server.release.set()

    async with asyncio.timeout(10):
        while True:
            try:
                assert await resolver.resolve("slow.example", deadline=soon()) == ["192.0.2.1"]
                break
            except DnsError:
                await asyncio.sleep(0)


async def test_a_cancelled_wait_leaves_the_look_up_to_others(make_resolver, server):
    """Who gives up does not take the answer from who waits."""
    server.silent = {"slow.example"}
    resolver = make_resolver(deadline_seconds=30)
    first, second = (asyncio.create_task(resolver.resolve("slow.example", deadline=soon())) for _ in range(2))
    await server.wait_for_calls(1)
    first.cancel()

    server.release.set()

    assert await second == ["192.0.2.1"]
    assert first.cancelled() or first.cancelling()


async def test_too_many_look_ups_are_our_own_fault(make_resolver, server):
    """Above the bound nothing is queued, and no attempt is used up."""
    server.silent = {"a.example", "b.example"}
    resolver = make_resolver(waiting_names=2, deadline_seconds=30)
    waiting = [asyncio.create_task(resolver.resolve(name, deadline=soon())) for name in server.silent]
    await asyncio.sleep(0)

    with pytest.raises(EngineSaturated, match="look-ups are under way"):
        await resolver.resolve("c.example", deadline=soon())

    server.release.set()
    await asyncio.gather(*waiting)


async def test_the_cache_is_bounded(make_resolver, server):
    """The oldest names leave first."""
    resolver = make_resolver(cache_names=2)

    for name in ("a.example", "b.example", "c.example", "a.example", "c.example"):
        await resolver.resolve(name, deadline=soon())

    assert server.calls == ["a.example", "b.example", "c.example", "a.example"]


async def test_closing_ends_those_who_wait(make_resolver, server):
    """A stopping worker does not wait for a dead name server."""
    server.silent = {"slow.example"}
    resolver = make_resolver(deadline_seconds=30)
    waiting = asyncio.create_task(resolver.resolve("slow.example", deadline=soon()))
    await asyncio.sleep(0)

    resolver.close()

    with pytest.raises(EngineSaturated, match="closed"):
        await waiting


def test_the_system_resolver_knows_localhost():
    """The default look-up gives plain addresses."""
    assert set(look_up("localhost")) <= {"127.0.0.1", "::1"}
    assert look_up("localhost")


def test_a_scope_is_kept_so_that_it_can_be_refused(monkeypatch):
    """The system gives the scope apart from the address."""
    answer = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%eth0", 0, 0, 2)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2606:4700::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)

    assert look_up("x") == ["fe80::1%2", "2606:4700::1", "192.0.2.1"]
