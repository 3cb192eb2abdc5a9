"""Where a scenario happens: a fresh stack as shipped, a receiver, a load generator, and endpoints between them."""

from __future__ import annotations

import secrets
from base64 import b64encode
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console

from bench.measure import CpuMeter, Tally
from bench.peer import Peer
from bench.receiver import COUNTER_BYTES
from tests.faults.harness.stack import Stack
from tests.faults.harness.waiting import NotInTime, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

ENDPOINTS = 20
DATA_BYTES = 500
CREATED = 201
NUMBER = "#" * 12  # The load generator puts a running number there.
PATIENCE_SECONDS = 120.0
# When nothing has arrived for so long, what is missing is counted as lost.
SILENCE_SECONDS = 15.0
# Counts statements; it costs Postgres a few per cent of its time.
STATISTICS = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "top",
    "pg_stat_statements.track_utility": "off",
}
_QUEUED = "SELECT count(*) FROM delivery_queue"
# Ours are not Bellwire's: the ones that this file waits with, and those about the statistics.
_STATEMENTS = (
    "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
    " WHERE d.datname = current_database() AND query <> %s AND query NOT LIKE '%%pg_stat_statements%%'"
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

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began) / 1e9


@dataclass(frozen=True, slots=True)
class Receipts:
    """What arrived: [id, time] in nanoseconds of the machine's monotonic clock."""

    received: list[tuple[str, int]]
    unsigned: int


class Rig:
    """A running stack with the benchmark's own two processes beside it."""

    def __init__(self, stack: Stack, *, receiver: Peer, generator: Peer, secret: str, counter: Path) -> None:
        self.stack = stack
        self.receiver = receiver
        self.generator = generator
        self.secret = secret
        self._counter = counter

    @property
    def receiver_port(self) -> int:
        """Where deliveries go."""
        return int(self.receiver.hello["port"])

    async def create_endpoints(self, number: int = ENDPOINTS) -> list[str]:
        """Create endpoints with default limits, each subscribed to a type of its own; return the types."""
        types = [f"bench.n{n}" for n in range(number)]
        for event_type in types:
            answer = await self.stack.client.post(
                "/v1/endpoints",
                json={
                    "url": f"http://127.0.0.1:{self.receiver_port}/{event_type}",
                    "event_types": [event_type],
                    "secret": self.secret,
                },
            )
            if answer.status_code != CREATED:
                raise RuntimeError(f"An endpoint could not be created: {answer.text}")
        return types

    def single_bodies(self, types: list[str]) -> list[str]:
        """Return bodies of `POST /v1/events`, one a type."""
        return [f'{{"type":"{event_type}","data":{_data()}}}' for event_type in types]

    def batch_bodies(self, types: list[str], size: int) -> list[str]:
        """Return one body of `POST /v1/events/batch`, its events spread over the types."""
        bodies = self.single_bodies(types)
        return ['{"events":[' + ",".join(bodies[n % len(bodies)] for n in range(size)) + "]}"]

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

    def count(self) -> int:
        """Return how many requests the receiver has counted, without asking it."""
        return int.from_bytes(self._counter.read_bytes()[:COUNTER_BYTES], "little")

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
        return self.stack.number(_QUEUED)

    def statements(self) -> int:
        """Return how many SQL statements Bellwire's processes have run so far."""
        return self.stack.number(_STATEMENTS, [_QUEUED])

    async def wait_until_recorded(self) -> int:
        """Wait until the queue is empty and return how many attempts are on record."""
        await wait_until(
            lambda: self.queued() == 0,
            seconds=PATIENCE_SECONDS,
            what="the queue is empty",
        )
        return self.stack.number("SELECT count(*) FROM attempts")

    async def receipts(self) -> Receipts:
        """Return what arrived since the last `forget`."""
        file = self.stack.folder / "received.json"
        answer = await self.receiver.ask("report", file=str(file))
        return Receipts(received=orjson.loads(file.read_bytes()), unsigned=answer["unsigned"])

    async def forget(self) -> None:
        """Let the receiver begin anew, after a warm-up."""
        await self.receiver.ask("forget")

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

    def tally(self, load: Load, receipts: Receipts) -> Tally:
        """Compare what was accepted with what arrived."""
        return Tally.of(
            accepted=(event for event, _, _ in load.accepted),
            received=(event for event, _ in receipts.received),
            unsigned=receipts.unsigned,
        )


@asynccontextmanager
async def open_rig(*, workers: int = 1, settings: Mapping[str, str] | None = None) -> AsyncIterator[Rig]:
    """Start a fresh stack with the settings as shipped (and `settings`), a receiver and a generator."""
    secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    async with Stack(
        short=False, workers=workers, receives=False, settings=settings, postgres_settings=STATISTICS
    ) as stack:
        stack.sql("CREATE EXTENSION pg_stat_statements")
        counter = stack.folder / "counter"
        counter.write_bytes(bytes(COUNTER_BYTES))
        async with (
            Peer("bench.receiver", secret, str(counter)) as receiver,
            Peer("bench.generator", str(counter)) as generator,
        ):
            yield Rig(stack, receiver=receiver, generator=generator, secret=secret, counter=counter)


def _data() -> str:
    """Return an event's data of DATA_BYTES with a number in it."""
    start = f'{{"order":"{NUMBER}","note":"'
    return start + "x" * (DATA_BYTES - len(start) - 2) + '"}'
