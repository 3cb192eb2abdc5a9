"""The scenarios: each starts a fresh stack, measures one thing, and tells it beside the raw ceilings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from bench.ceilings import http_ceiling, insert_ceilings
from bench.measure import CpuMeter, Tally, memory_mb, percentiles_ms
from bench.rig import Load, Receipts, Rig, open_rig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONNECTIONS = 64
BATCH_SIZE = 1_000
BATCH_CONNECTIONS = 2
# Accepted events that may wait for their receipt: the load keeps below it, so the backlog cannot grow.
BACKLOG = 1_000
STEADY_RATE = 500.0
IDLE_RATE = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: the real run, or the quick one that a test makes."""

    warm_up_seconds: float = 5.0
    publish_seconds: float = 60.0
    steady_seconds: float = 30.0
    idle_requests: int = 300
    batch_events: int = 50_000
    drain_events: int = 100_000
    ceiling_seconds: float = 3.0
    ceilings_twice: bool = True


QUICK = Size(
    warm_up_seconds=0.5,
    publish_seconds=2.0,
    steady_seconds=2.0,
    idle_requests=20,
    batch_events=1_000,
    drain_events=2_000,
    ceiling_seconds=0.3,
    ceilings_twice=False,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value with its unit and, where there is one, the target."""

    name: str
    value: float
    unit: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario found."""

    scenario: str
    figures: list[Figure]
    ceilings: list[Figure]
    tally: Tally
    attempts_logged: int
    cpu_seconds_per_1000: dict[str, float]
    memory_mb: dict[str, float]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return it for the file."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Meters:
    """What is counted from the start of the measurement to its end."""

    cpu: CpuMeter
    statements_before: int

    @classmethod
    def start(cls, rig: Rig) -> Meters:
        """Begin now."""
        return cls(cpu=rig.cpu_meter(), statements_before=rig.statements())


@dataclass(frozen=True, slots=True)
class Measured:
    """What every scenario has at its end."""

    load: Load
    receipts: Receipts
    meters: Meters
    ceilings: list[Figure]
    warm_up_events: int


async def publish(size: Size) -> Result:
    """One event a request over many connections, as fast as they are delivered."""
    async with open_rig() as rig:
        ceilings = await _ceilings(rig, size)
        bodies = rig.single_bodies(await rig.create_endpoints())
        warm_up = await rig.publish(
            bodies=bodies, connections=CONNECTIONS, seconds=size.warm_up_seconds, backlog=BACKLOG
        )
        await rig.wait_for_receipts(warm_up.events)
        await rig.forget()

        meters = Meters.start(rig)
        load = await rig.publish(
            bodies=bodies, connections=CONNECTIONS, seconds=size.publish_seconds, backlog=BACKLOG
        )
        waiting = rig.queued()
        receipts = await _all_receipts(rig, load)
        within = sum(at <= load.ended for _, at in receipts.received)
        latency = _latencies(load, receipts)
        return await _finish(
            "publish",
            rig=rig,
            size=size,
            figures=[
                Figure("published, delivered and logged", within / load.seconds, "events/s", "≥ 1,500"),
                Figure("start of the call → receipt, p50", latency["p50"], "ms"),
                Figure("start of the call → receipt, p99", latency["p99"], "ms"),
                Figure("waiting at the end", waiting, "deliveries", f"≤ {BACKLOG:,}"),
            ],
            measured=Measured(load, receipts, meters, ceilings, warm_up.events),
            notes=[f"{CONNECTIONS} connections, {len(bodies)} endpoints, {size.publish_seconds:g} s"],
        )


async def steady(size: Size) -> Result:
    """A fixed 500 events a second: the latency of a service that is at work."""
    return await _at_rate(
        "steady",
        size=size,
        rate=STEADY_RATE,
        connections=CONNECTIONS,
        requests=round(STEADY_RATE * size.steady_seconds),
        targets=("≤ 20", "≤ 100"),
    )


async def idle(size: Size) -> Result:
    """One event at a time with pauses between: the latency of a service that is idle."""
    return await _at_rate(
        "idle",
        size=size,
        rate=IDLE_RATE,
        connections=1,
        requests=size.idle_requests,
        targets=("≤ 10", "≤ 40"),
    )


async def batch(size: Size) -> Result:
    """1,000 events a request: first while no worker runs, then while the workers deliver them."""
    async with open_rig(workers=0) as rig:
        ceilings = await _ceilings(rig, size)
        types = await rig.create_endpoints()
        meters = Meters.start(rig)
        alone = await _publish_batches(rig, types, size.batch_events)
        _start_worker(rig)
        beside = await _publish_batches(rig, types, size.batch_events)
        load = Load(
            accepted=alone.accepted + beside.accepted,
            events=alone.events + beside.events,
            statuses=beside.statuses,
            began=alone.began,
            ended=beside.ended,
        )
        receipts = await _all_receipts(rig, load)
        return await _finish(
            "batch",
            rig=rig,
            size=size,
            figures=[
                Figure("accepted, no worker at work", alone.events / alone.seconds, "events/s", "≥ 10,000"),
                Figure("accepted, a worker at work", beside.events / beside.seconds, "events/s"),
            ],
            measured=Measured(load, receipts, meters, ceilings, 0),
            notes=[f"{BATCH_SIZE:,} events a request, {BATCH_CONNECTIONS} connections"],
        )


async def drain(size: Size) -> Result:
    """A backlog over 20 endpoints, made while no worker ran, and one worker process that delivers it."""
    return await _drain("drain", size=size, processes=1)


async def drain2(size: Size) -> Result:
    """The same backlog with two worker processes, which must not be slower than one."""
    return await _drain("drain2", size=size, processes=2)


SCENARIOS: dict[str, Callable[[Size], Awaitable[Result]]] = {
    "publish": publish,
    "steady": steady,
    "idle": idle,
    "batch": batch,
    "drain": drain,
    "drain2": drain2,
}


async def _at_rate(
    name: str, *, size: Size, rate: float, connections: int, requests: int, targets: tuple[str, str]
) -> Result:
    async with open_rig() as rig:
        ceilings = await _ceilings(rig, size)
        bodies = rig.single_bodies(await rig.create_endpoints())
        warm_up = await rig.publish(
            bodies=bodies, connections=connections, rate=rate, seconds=size.warm_up_seconds
        )
        await rig.wait_for_receipts(warm_up.events)
        await rig.forget()

        meters = Meters.start(rig)
        load = await rig.publish(bodies=bodies, connections=connections, rate=rate, requests=requests)
        receipts = await _all_receipts(rig, load)
        latency = _latencies(load, receipts)
        answers = percentiles_ms(answered - started for _, started, answered in load.accepted)
        return await _finish(
            name,
            rig=rig,
            size=size,
            figures=[
                Figure("start of the call → receipt, p50", latency["p50"], "ms", targets[0]),
                Figure("start of the call → receipt, p99", latency["p99"], "ms", targets[1]),
                Figure("start of the call → receipt, worst", latency["p100"], "ms"),
                Figure("start of the call → 202, p50", answers["p50"], "ms"),
                Figure("start of the call → 202, p99", answers["p99"], "ms"),
            ],
            measured=Measured(load, receipts, meters, ceilings, warm_up.events),
            notes=[f"{rate:g} events/s, {requests:,} events"],
        )


async def _drain(name: str, *, size: Size, processes: int) -> Result:
    settings = {"BELLWIRE_WORKER_PROCESSES": str(processes)}
    async with open_rig(workers=0, settings=settings) as rig:
        ceilings = await _ceilings(rig, size)
        load = await _publish_batches(rig, await rig.create_endpoints(), size.drain_events)
        _start_worker(rig)
        meters = Meters.start(rig)
        receipts = await _all_receipts(rig, load)
        times = [at for _, at in receipts.received]
        seconds = (max(times) - min(times)) / 1e9
        return await _finish(
            name,
            rig=rig,
            size=size,
            figures=[
                Figure("first to last receipt", len(times) / seconds, "deliveries/s", "≥ 4,000"),
                Figure("took", seconds, "s"),
                Figure("accepted while no worker ran", load.events / load.seconds, "events/s"),
            ],
            measured=Measured(load, receipts, meters, ceilings, 0),
            notes=[f"{load.events:,} deliveries, 20 endpoints, {processes} worker process(es)"],
        )


async def _finish(
    name: str, *, rig: Rig, size: Size, figures: list[Figure], measured: Measured, notes: list[str]
) -> Result:
    """Take the rest of the measurements, the CPU time first: the ceilings would add to it."""
    meters, events = measured.meters, measured.load.events
    used = meters.cpu.per_thousand(events)
    statements = Figure(
        "SQL statements",
        (rig.statements() - meters.statements_before) / events,
        "an event",
        # At load: an idle service asks for each event anew.
        "≤ 0.2" if name == "publish" else "",
    )
    memory = memory_mb(rig.groups())
    logged = await rig.wait_until_recorded() - measured.warm_up_events
    after = await _ceilings(rig, size, when="after") if size.ceilings_twice else []
    return Result(
        scenario=name,
        figures=[*figures, statements],
        ceilings=measured.ceilings + after,
        tally=rig.tally(measured.load, measured.receipts),
        attempts_logged=logged,
        cpu_seconds_per_1000=used,
        memory_mb=memory,
        notes=notes,
    )


async def _ceilings(rig: Rig, size: Size, *, when: str = "before") -> list[Figure]:
    """What the machine does without Bellwire; where before and after differ, it was not the same all the time."""
    http = await http_ceiling(rig, seconds=size.ceiling_seconds)
    single, rows = await insert_ceilings(rig, seconds=size.ceiling_seconds)
    return [
        Figure(f"generator → receiver, signed POSTs ({when})", http, "requests/s"),
        Figure(f"Postgres, one durable row a commit ({when})", single, "rows/s"),
        Figure(f"Postgres, 500 durable rows a commit ({when})", rows, "rows/s"),
    ]


def _start_worker(rig: Rig) -> None:
    """Start the worker; it begins by itself, and CPU time is counted from here."""
    rig.stack.workers.append(rig.stack.start_worker())


async def _publish_batches(rig: Rig, types: list[str], events: int) -> Load:
    return await rig.publish(
        path="/v1/events/batch",
        bodies=rig.batch_bodies(types, BATCH_SIZE),
        connections=BATCH_CONNECTIONS,
        requests=max(1, events // BATCH_SIZE),
    )


async def _all_receipts(rig: Rig, load: Load) -> Receipts:
    await rig.wait_for_receipts(load.events)
    await rig.wait_until_recorded()
    return await rig.receipts()


def _latencies(load: Load, receipts: Receipts) -> dict[str, float]:
    started = {event: at for event, at, _ in load.accepted}
    return percentiles_ms(at - started[event] for event, at in receipts.received if event in started)
