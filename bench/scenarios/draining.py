"""Draining: a backlog made while no worker ran, by one worker, by several, and over few and many endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.ceilings import measure_ceilings
from bench.endpoints import create_endpoints
from bench.machine import thread_ceilings
from bench.measure import Tally, rate_points
from bench.result import Ceiling, Figure, Series
from bench.scenarios._shared import Found, Meters, all_receipts, finish, publish_batches, tally_of
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.opening import Bench
    from bench.result import Result
    from bench.rig import Load, Receipts, Rig
    from bench.sizes import Size

FIRST_RECEIPT_SECONDS = 60.0
# Workers are compared in one run; a difference below this is the machine's.
TWO_TO_ONE = 100.0


@dataclass(frozen=True, slots=True)
class Drained:
    """One backlog, delivered."""

    load: Load
    receipts: Receipts
    meters: Meters
    # CPU for a delivery, by role.
    cpu_us: dict[str, float]
    logged: int

    @property
    def seconds(self) -> float:
        """From the first receipt to the last."""
        return (max(self.receipts.times) - min(self.receipts.times)) / 1e9

    @property
    def rate(self) -> float:
        """Deliveries per second."""
        return len(self.receipts.times) / max(self.seconds, 1e-3)

    def line(self, name: str) -> Series:
        """Return its throughput over time."""
        times = self.receipts.times
        return Series("throughput", name, rate_points(times, began=min(times), ended=max(times)))


async def drain_once(
    rig: Rig, types: Sequence[str], events: int, *, processes: int | None = None, checkpoint: bool = False
) -> Drained:
    """End all workers, publish a backlog, start one, and measure from the first receipt on.

    The worker's start is not of the measurement: neither its time nor its CPU.
    """
    rig.stop_workers()
    await rig.forget()
    load = await publish_batches(rig, types, events)
    if checkpoint:
        rig.stack.sql("CHECKPOINT")
    rig.start_worker(processes=processes)
    await wait_until(rig.count, seconds=FIRST_RECEIPT_SECONDS, what="the first receipt")
    meters = Meters.start(rig)
    receipts = await all_receipts(rig, load.events)
    deliveries = max(load.events - meters.received_before, 1)
    cpu_us = {role: seconds * 1e6 / deliveries for role, seconds in meters.cpu.used().items()}
    return Drained(load=load, receipts=receipts, meters=meters, cpu_us=cpu_us, logged=rig.attempts_logged())


async def drain(bench: Bench) -> Result:
    """A backlog over 20 endpoints, made while no worker ran, and one worker process that delivers it."""
    size = bench.size
    async with bench.open_rig(workers=0) as rig:
        ceilings = await measure_ceilings(rig, size)
        drained = await drain_once(rig, await create_endpoints(rig), size.drain_events, processes=1)
        found = Found(
            figures=[
                Figure("first to last receipt", drained.rate, "deliveries/s", "≥ 4,000", "http"),
                Figure("took", drained.seconds, "s"),
                Figure("CPU of the worker for a delivery", drained.cpu_us["worker"], "µs", "≤ 200"),
            ],
            tally=tally_of(drained.load, drained.receipts),
            deliveries=drained.load.events - drained.meters.received_before,
            series=[drained.line("delivered")],
            notes=[f"{drained.load.events:,} deliveries, 20 endpoints, 1 worker process"],
            statements_target="≤ 0.2",
        )
        return await finish(
            "drain", rig=rig, size=size, meters=drained.meters, ceilings=ceilings, found=found
        )


async def workers(bench: Bench) -> Result:
    """The same backlog with 1, 2 and 4 worker processes: two must not be slower than one."""
    size = bench.size
    async with bench.open_rig(workers=0) as rig:
        ceilings = await measure_ceilings(rig, size)
        types = await create_endpoints(rig)
        runs = {}
        for processes in size.worker_counts:
            ceilings += _probe(size, when=f"before {processes}")
            runs[f"{processes} process(es)"] = await drain_once(
                rig, types, size.drain_events, processes=processes
            )
        one, two = list(runs.values())[:2]
        ratio = Figure("two processes to one", 100 * two.rate / one.rate, "%", f"≥ {TWO_TO_ONE:g}")
        return await _finish_runs("workers", rig, size=size, runs=runs, ceilings=ceilings, more=[ratio])


async def lanes(bench: Bench) -> Result:
    """A backlog over 1, 20 and 2,000 endpoints, one worker process: alone, an endpoint is bounded by its cap."""
    size = bench.size
    async with bench.open_rig(workers=0) as rig:
        ceilings = await measure_ceilings(rig, size)
        runs = {}
        for number in size.lane_counts:
            ceilings += _probe(size, when=f"before {number:,}")
            types = await create_endpoints(rig, number)
            events = size.single_lane_events if number == 1 else size.drain_events
            runs[f"{number:,} endpoint(s)"] = await drain_once(rig, types, events, processes=1)
        return await _finish_runs("lanes", rig, size=size, runs=runs, ceilings=ceilings, more=[])


def together(runs: Sequence[Drained]) -> tuple[Tally, int]:
    """Return the tally of several drains, each counted by itself, and how many deliveries they were."""
    parts = [tally_of(run.load, run.receipts) for run in runs]
    names = Tally.__dataclass_fields__
    return Tally(**{name: sum(getattr(part, name) for part in parts) for name in names}), sum(
        run.load.events for run in runs
    )


def _probe(size: Size, *, when: str) -> list[Ceiling]:
    """Measure how fast one thread is just now, between the parts of a comparison."""
    return thread_ceilings(seconds=size.probe_seconds, when=when)


async def _finish_runs(
    name: str,
    rig: Rig,
    *,
    size: Size,
    runs: dict[str, Drained],
    ceilings: list[Ceiling],
    more: list[Figure],
) -> Result:
    tally, events = together(list(runs.values()))
    *earlier, last = runs.values()
    figures = []
    for what, run in runs.items():
        figures += [
            Figure(what, run.rate, "deliveries/s", ceiling="http"),
            Figure(f"{what}: CPU of the workers for a delivery", run.cpu_us["worker"], "µs"),
        ]
    found = Found(
        figures=[*figures, *more],
        tally=tally,
        deliveries=last.load.events - last.meters.received_before,
        series=[run.line(what) for what, run in runs.items()],
        notes=[f"{events:,} deliveries in all; CPU by role is of the last part"],
        logged_before=sum(run.logged for run in earlier),
    )
    return await finish(name, rig=rig, size=size, meters=last.meters, ceilings=ceilings, found=found)
