"""What the scenarios have in common: publishing batches, waiting for receipts, and the end of the measurement."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.ceilings import measure_ceilings
from bench.machine import NoiseMeter
from bench.measure import Latency, Tally, memory_mb, rate_points
from bench.result import Ceiling, Figure, Result, Series, with_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import CpuMeter
    from bench.rig import Load, Receipts, Rig
    from bench.sizes import Size

CONNECTIONS = 64
BATCH_SIZE = 1_000
BATCH_CONNECTIONS = 2
TO_RECEIPT = "start of the call → receipt"
TO_ANSWER = "start of the call → 202"


@dataclass(slots=True)
class Meters:
    """What is counted from the start of the measurement to its end."""

    cpu: CpuMeter
    noise: NoiseMeter
    statements_before: int
    received_before: int

    @classmethod
    def start(cls, rig: Rig) -> Meters:
        """Begin now."""
        return cls(
            cpu=rig.cpu_meter(),
            noise=NoiseMeter(),
            statements_before=rig.statements(),
            received_before=rig.count(),
        )


@dataclass(slots=True)
class Found:
    """What a scenario found by itself; `finish` adds the rest."""

    figures: list[Figure]
    tally: Tally
    # How many deliveries the CPU time and the statements are divided by.
    deliveries: int
    latencies: dict[str, Latency] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # The target of SQL statements an event; None where no load is on and each event is asked for anew.
    statements_target: str | None = None
    # Attempts of parts that were counted by themselves.
    logged_before: int = 0


async def finish(
    name: str, *, rig: Rig, size: Size, meters: Meters, ceilings: list[Ceiling], found: Found
) -> Result:
    """Take the rest of the measurements, the CPU time first: all that follows would add to it."""
    used, seconds = meters.cpu.used(), meters.cpu.seconds
    noise = meters.noise.stop(ours=used)
    deliveries = max(found.deliveries, 1)
    figures = list(found.figures)
    if found.statements_target is not None:
        statements = (rig.statements() - meters.statements_before) / deliveries
        figures.append(
            Figure("SQL statements, by pg_stat_statements", statements, "an event", found.statements_target)
        )
    figures.append(
        # Far from 100, it is not the receiver that bounds the figures; its ceiling says the same.
        Figure("CPU of the receiver", 100 * used["receiver"] / seconds, "% of a core", "≤ 80")
    )
    memory = memory_mb(rig.groups())
    await rig.wait_until_recorded()
    logged = rig.attempts_logged() + found.logged_before
    after = await measure_ceilings(rig, size, when="after") if size.ceilings_twice else []
    return Result(
        scenario=name,
        figures=with_shares(figures, ceilings + after),
        ceilings=ceilings + after,
        tally=found.tally,
        attempts_logged=logged,
        cpu_seconds_per_1000={role: round(value * 1000 / deliveries, 4) for role, value in used.items()},
        busy_cores={role: round(value / seconds, 3) for role, value in used.items()},
        memory_mb=memory,
        noise=noise,
        latencies=found.latencies,
        series=found.series,
        notes=found.notes,
    )


async def publish_batches(rig: Rig, types: Sequence[str], events: int) -> Load:
    """Publish so many events (at least one batch), spread over the types."""
    size = min(BATCH_SIZE, max(events, 1))
    return await rig.publish(
        path="/v1/events/batch",
        bodies=rig.batch_bodies(types, size),
        connections=BATCH_CONNECTIONS,
        requests=max(1, events // size),
    )


async def all_receipts(rig: Rig, events: int) -> Receipts:
    """Wait until all has come and is recorded."""
    await rig.wait_for_receipts(events)
    await rig.wait_until_recorded()
    return await rig.receipts()


def tally_of(load: Load, receipts: Receipts) -> Tally:
    """Compare what was accepted with what arrived; each event goes to one endpoint."""
    return Tally.of(
        accepted=(event for event, _, _ in load.accepted),
        received=(event for event, _, _ in receipts.received),
        unsigned=receipts.unsigned,
    )


def to_receipt(load: Load, receipts: Receipts) -> Latency:
    """Return how long it took from the start of the publish call to the receiver."""
    started = {event: at for event, at, _ in load.accepted}
    return Latency.of(at - started[event] for event, at, _ in receipts.received if event in started)


def to_answer(load: Load) -> Latency:
    """Return how long it took from the start of the publish call to its answer."""
    return Latency.of(answered - started for _, started, answered in load.accepted)


def throughput(name: str, receipts: Receipts, *, began: int, ended: int) -> Series:
    """Return the line of deliveries per second."""
    return Series("throughput", name, rate_points(receipts.times, began=began, ended=ended))


def monotonic_ns() -> int:
    """Return the clock that generator and receiver use, too."""
    return time.monotonic_ns()
