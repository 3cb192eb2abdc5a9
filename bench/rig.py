"""Where a scenario happens: a fresh stack as shipped, a receiver, a load generator, and endpoints between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console

from app.core.ids import lowest_uuid_at
from bench.measure import CpuMeter
from bench.receiver import COUNTER_BYTES
from tests.faults.harness.waiting import NotInTime, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from bench.peer import Peer
    from tests.faults.harness.stack import Stack

DATA_BYTES = 500
NUMBER = "#" * 12  # The load generator puts a running number there.
PATIENCE_SECONDS = 120.0
# When nothing has arrived for so long, what is missing is counted as lost.
SILENCE_SECONDS = 15.0
# Marks our own statements, which are not counted as Bellwire's.
MARK = "/* bench */"
_QUEUED = f"SELECT {MARK} count(*) FROM delivery_queue WHERE endpoint_id <> ALL(%s)"  # noqa: S608 - a constant
_ATTEMPTS = f"SELECT {MARK} count(*) FROM attempts WHERE id >= %s AND endpoint_id <> ALL(%s)"  # noqa: S608 - a constant
_NOW_MS = f"SELECT {MARK} extract(epoch FROM clock_timestamp()) * 1000"  # noqa: S608 - a constant
_STATEMENTS = (
    "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"  # noqa: S608
    f" WHERE d.datname = current_database() AND query NOT LIKE '%%{MARK}%%'"
    " AND query NOT LIKE '%%pg_stat_statements%%'"
)

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Load:
    """The outcome of a load: events accepted, [id, started, answered] of each, and when it began and ended."""

    accepted: list[tuple[str, int, int]]
    events: int
    statuses: dict[str, int]
    began: int
    ended: int

    @classmethod
    def of(cls, *parts: Load) -> Load:
        """Return several loads as one."""
        return cls(
            accepted=[event for part in parts for event in part.accepted],
            events=sum(part.events for part in parts),
            statuses=parts[-1].statuses,
            began=min(part.began for part in parts),
            ended=max(part.ended for part in parts),
        )

    def first(self, seconds: float) -> Load:
        """Return the part of it that was begun in its first seconds."""
        until = self.began + int(seconds * 1e9)
        accepted = [event for event in self.accepted if event[1] < until]
        return Load(
            accepted=accepted,
            events=len(accepted),
            statuses=self.statuses,
            began=self.began,
            ended=min(until, self.ended),
        )

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began) / 1e9


@dataclass(frozen=True, slots=True)
class Receipts:
    """What arrived: [id, time in nanoseconds of the machine's monotonic clock, path]."""

    received: list[tuple[str, int, str]]
    unsigned: int

    @property
    def times(self) -> list[int]:
        """When each arrived."""
        return [at for _, at, _ in self.received]


@dataclass(slots=True)
class Rig:
    """A running stack with the benchmark's own two processes beside it."""

    stack: Stack
    receiver: Peer
    generator: Peer
    secret: str
    counter: Path
    # Endpoints whose deliveries are not of the measurement: bad neighbours.
    asides: list[UUID] = field(default_factory=list)
    # Rises with each set of endpoints, so that none gets the events of another.
    sets: int = 0
    _attempts_from: UUID | None = None
    _attempts_before: int = 0

    @property
    def receiver_port(self) -> int:
        """Where deliveries go."""
        return int(self.receiver.hello["port"])

    def single_bodies(self, types: Sequence[str]) -> list[str]:
        """Return bodies of `POST /v1/events`, one a type."""
        return [f'{{"type":"{event_type}","data":{data_with_number()}}}' for event_type in types]

    def batch_bodies(self, types: Sequence[str], size: int) -> list[str]:
        """Return bodies of `POST /v1/events/batch`, their events spread over the types."""
        bodies = self.single_bodies(types)
        number = -(-len(bodies) // size)
        return [
            '{"events":[' + ",".join(bodies[(start + n) % len(bodies)] for n in range(size)) + "]}"
            for start in range(0, number * size, size)
        ]

    async def publish(self, *, path: str = "/v1/events", **load: Any) -> Load:
        """Run a load against the API; see `bench.generator.Load`. Raises if anything but 202 was answered."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self.stack.api_key}\r\n"
        )
        outcome = await self.load(port=self.stack.api_port, head=head, **load)
        if set(outcome.statuses) - {"202"}:
            raise RuntimeError(f"Publishing was not always answered with 202: {outcome.statuses}")
        return outcome

    async def load(self, *, port: int, head: str, **load: Any) -> Load:
        """Run a load against any port of this machine."""
        file = self.stack.folder / "accepted.json"
        answer = await self.generator.ask(
            "run", load={"host": "127.0.0.1", "port": port, "head": head, **load}, file=str(file)
        )
        return Load(
            accepted=orjson.loads(file.read_bytes()),
            events=answer["events"],
            statuses=answer["statuses"],
            began=answer["began"],
            ended=answer["ended"],
        )

    def start_worker(self, *, processes: int | None = None) -> None:
        """Start a worker, with so many processes or as many as are the default; it begins by itself."""
        settings = {} if processes is None else {"BELLWIRE_WORKER_PROCESSES": str(processes)}
        self.stack.workers.append(self.stack.start_worker(**settings))

    def stop_workers(self) -> None:
        """End all workers at once: they have nothing in hand, or nothing that matters."""
        for worker in self.stack.workers:
            worker.kill_tree()
        self.stack.workers.clear()

    def count(self) -> int:
        """Return how many requests the receiver has counted, without asking it."""
        return int.from_bytes(self.counter.read_bytes()[:COUNTER_BYTES], "little")

    async def wait_for_receipts(self, number: int) -> None:
        """Wait until `number` requests came, or until nothing more comes (the tally then shows what is lost)."""
        before = -1
        while self.count() < number and before != self.count():
            before = self.count()
            target = min(number, before + max(1, (number - before) // 10))
            try:
                await wait_until(
                    lambda target=target: self.count() >= target,  # type: ignore[misc]
                    seconds=SILENCE_SECONDS,
                    what="receipts",
                )
            except NotInTime:
                continue

    def queued(self) -> int:
        """Return how many deliveries wait or are under way."""
        return self.stack.number(_QUEUED, [self.asides])

    def statements(self) -> int:
        """Return how many SQL statements Bellwire's processes have run so far, by pg_stat_statements."""
        return self.stack.number(_STATEMENTS)

    async def wait_until_recorded(self) -> None:
        """Wait until the queue is empty."""
        await wait_until(
            lambda: self.queued() == 0,
            seconds=PATIENCE_SECONDS,
            what="the queue is empty",
        )

    def attempts_logged(self) -> int:
        """Return how many attempts were recorded since the last `forget`."""
        found = self.stack.number(_ATTEMPTS, [self._attempts_from, self.asides])
        return found - self._attempts_before

    async def receipts(self) -> Receipts:
        """Return what arrived since the last `forget`."""
        file = self.stack.folder / "received.json"
        answer = await self.receiver.ask("report", file=str(file))
        return Receipts(received=orjson.loads(file.read_bytes()), unsigned=answer["unsigned"])

    async def forget(self) -> None:
        """Let the receiver and the count of attempts begin anew, after a warm-up that is recorded."""
        await self.receiver.ask("forget")
        # By id: counting all would read millions of old rows into the caches.
        self._attempts_from = lowest_uuid_at(self.stack.number(_NOW_MS))
        self._attempts_before = 0
        self._attempts_before = self.attempts_logged()

    def cpu_meter(self) -> CpuMeter:
        """Begin to measure CPU time by role."""
        return CpuMeter(self.groups)

    def groups(self) -> Mapping[str, list[int]]:
        """Return the process ids by role."""
        return {
            **self.stack.cpu_groups(),
            "receiver": [self.receiver.pid],
            "generator": [self.generator.pid],
        }


def data_with_number() -> str:
    """Return an event's data of DATA_BYTES with a number in it."""
    start = f'{{"order":"{NUMBER}","note":"'
    return start + "x" * (DATA_BYTES - len(start) - 2) + '"}'
