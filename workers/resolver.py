"""DNS look-ups that cannot hold each other up: own threads, a deadline, a cache, a cap for each domain.

The system's getaddrinfo blocks a thread for up to half a minute when a name server is silent. asyncio's default pool
has six threads on a small machine, so a handful of dead names would stop every delivery. Here the waiter leaves at
its deadline, a stuck look-up keeps its thread but no second one for the same name starts, and the names of one domain
get a few threads at most. The threads are daemons: a stuck one does not delay the end of the process.
"""

import asyncio
import socket
import threading
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

import msgspec

from workers.http1.errors import DnsError, EngineSaturated

Lookup = Callable[[str], list[str]]


class ResolverLimits(msgspec.Struct, kw_only=True, frozen=True):
    """Bounds of one resolver; times in seconds."""

    deadline_seconds: float = 3.0
    cache_seconds: float = 30.0
    failure_cache_seconds: float = 5.0
    cache_names: int = 10_000
    # Threads are started as they are needed. A blocked one costs a few KiB.
    threads: int = 64
    threads_per_domain: int = 8
    # Different names that wait or are looked up; above it a look-up is refused as our own fault.
    waiting_names: int = 2_000


class Resolver(Protocol):
    """Anything that turns a name into addresses."""

    async def resolve(self, host: str, *, deadline: float) -> list[str]:
        """Return the addresses of `host` as text, at least one; `deadline` is an instant of `time.monotonic()`.

        Raises DnsError (no address, or no answer in time) or EngineSaturated (too many look-ups under way).
        """


def look_up(host: str) -> list[str]:
    """Ask the system's resolver; blocks. An IPv6 address with a scope keeps it (`%2`), so that it can be refused."""
    addresses = []
    for family, _, _, _, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        if family == socket.AF_INET6 and len(address) == 4 and address[3]:  # noqa: PLR2004 - with flow and scope
            addresses.append(f"{str(address[0]).partition('%')[0]}%{address[3]}")
        elif family in {socket.AF_INET, socket.AF_INET6}:
            addresses.append(str(address[0]))
    return list(dict.fromkeys(addresses))


class ThreadResolver:
    """The system's resolver behind threads and a cache of its own; use it from one event loop only."""

    def __init__(self, *, limits: ResolverLimits | None = None, lookup: Lookup = look_up) -> None:
        self._limits = limits or ResolverLimits()
        self._lookup = lookup
        self._cache: OrderedDict[str, _Answer] = OrderedDict()
        self._pending: dict[str, asyncio.Future[_Answer]] = {}
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = 0
        self._running = 0
        self._running_by_domain: defaultdict[str, int] = defaultdict(int)
        self._held_back: defaultdict[str, deque[_Job]] = defaultdict(deque)
        self._closed = False

    async def resolve(self, host: str, *, deadline: float) -> list[str]:
        """Return the addresses, from the cache while it is fresh; as `Resolver.resolve`."""
        answer = self._cache.get(host)
        if answer is None or answer.expires_at <= time.monotonic():
            pending = self._pending.get(host)
            if pending is None:
                pending = self._start(host)
            answer = await self._wait(pending, host=host, deadline=deadline)
        if answer.addresses:
            return answer.addresses
        raise DnsError(answer.reason)

    def close(self) -> None:
        """Let the idle threads end; look-ups under way end with EngineSaturated."""
        self._closed = True
        for _ in range(self._threads):
            self._jobs.put(None)
        for pending in self._pending.values():
            if not pending.done():
                pending.set_exception(EngineSaturated("The resolver was closed."))
                pending.exception()  # Nobody may be waiting: the error must not be reported as unseen.
        self._pending.clear()
        self._held_back.clear()

    def _start(self, host: str) -> "asyncio.Future[_Answer]":
        if self._closed or len(self._pending) >= self._limits.waiting_names:
            raise EngineSaturated(
                f"{len(self._pending):,} DNS look-ups are under way, and no more are started. "
                "The name servers may be away: see /etc/resolv.conf."
            )
        loop = asyncio.get_running_loop()
        job = _Job(host=host, domain=".".join(host.rsplit(".", 2)[-2:]), loop=loop)
        pending = self._pending[host] = loop.create_future()
        if self._running_by_domain[job.domain] < self._limits.threads_per_domain:
            self._hand_out(job)
        else:
            self._held_back[job.domain].append(job)
        return pending

    async def _wait(self, pending: "asyncio.Future[_Answer]", *, host: str, deadline: float) -> "_Answer":
        patience = min(self._limits.deadline_seconds, deadline - time.monotonic())
        try:
            async with asyncio.timeout(max(patience, 0)):
                # Others may wait for the same answer, and the thread goes on in any case.
                return await asyncio.shield(pending)
        except TimeoutError:
            reason = f"The name servers of {host} did not answer within {max(patience, 0):.1f} s."
            if patience >= self._limits.deadline_seconds:
                # The next deliveries to this host fail at once instead of holding their slots as long.
                self._remember(host, _Answer(reason=reason))
            raise DnsError(reason) from None

    def _hand_out(self, job: "_Job") -> None:
        self._running_by_domain[job.domain] += 1
        self._running += 1
        if self._running > self._threads and self._threads < self._limits.threads:
            self._threads += 1
            threading.Thread(target=self._work, name=f"dns-{self._threads}", daemon=True).start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                answer = _Answer(addresses=self._lookup(job.host))
            except OSError as error:
                answer = _Answer(reason=_explain(job.host, error))
            except UnicodeError:
                answer = _Answer(reason=f"The host name {job.host} is not a legal DNS name.")
            try:
                job.loop.call_soon_threadsafe(self._settle, job, answer)
            except RuntimeError:  # The loop is closed: nobody waits any more.
                return

    def _settle(self, job: "_Job", answer: "_Answer") -> None:
        self._running -= 1
        running = self._running_by_domain[job.domain] - 1
        if running:
            self._running_by_domain[job.domain] = running
        else:
            del self._running_by_domain[job.domain]
        if self._closed:
            return
        if self._held_back[job.domain]:
            self._hand_out(self._held_back[job.domain].popleft())
        if not self._held_back[job.domain]:
            del self._held_back[job.domain]
        if not answer.addresses and not answer.reason:
            answer.reason = f"The host name {job.host} has no address."
        self._remember(job.host, answer)
        pending = self._pending.pop(job.host)
        if not pending.done():
            pending.set_result(answer)

    def _remember(self, host: str, answer: "_Answer") -> None:
        lifetime = self._limits.cache_seconds if answer.addresses else self._limits.failure_cache_seconds
        answer.expires_at = time.monotonic() + lifetime
        self._cache[host] = answer
        self._cache.move_to_end(host)
        if len(self._cache) > self._limits.cache_names:
            self._cache.popitem(last=False)


class _Answer(msgspec.Struct, kw_only=True):
    addresses: list[str] = []
    reason: str = ""
    expires_at: float = 0.0


class _Job(msgspec.Struct, kw_only=True, frozen=True):
    host: str
    domain: str
    loop: asyncio.AbstractEventLoop


def _explain(host: str, error: OSError) -> str:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return f"The name servers of {host} did not answer, or failed."
    return f"The host name {host} was not found."
