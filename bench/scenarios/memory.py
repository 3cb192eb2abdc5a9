"""Memory: API and worker under load for minutes, looked at each second."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from bench.ceilings import measure_ceilings
from bench.endpoints import create_endpoints
from bench.measure import slope
from bench.result import Figure, Series
from bench.scenarios._shared import (
    CONNECTIONS,
    Found,
    Meters,
    all_receipts,
    finish,
    tally_of,
    throughput,
)
from bench.scenarios.publishing import BACKLOG

if TYPE_CHECKING:
    from bench.opening import Bench
    from bench.result import Result
    from bench.rig import Rig

API, WORKER, PARENT = "API", "worker process", "worker's parent"
TARGETS_MB = {API: "≤ 150", WORKER: "≤ 200", PARENT: ""}
# The first part of the load is the warm-up: pools, caches and statistics fill.
WARM_UP_SHARE = 3


async def memory(bench: Bench) -> Result:
    """Memory of API and worker while events are published and delivered for minutes, as fast as they can."""
    size = bench.size
    async with bench.open_rig() as rig:
        ceilings = await measure_ceilings(rig, size)
        bodies = rig.single_bodies(await create_endpoints(rig))
        sampler = Sampler(rig)
        meters = Meters.start(rig)
        watching = asyncio.create_task(sampler.run(every=size.sample_seconds))
        try:
            load = await rig.publish(
                bodies=bodies, connections=CONNECTIONS, seconds=size.memory_seconds, backlog=BACKLOG
            )
        finally:
            watching.cancel()
        sampler.look()
        receipts = await all_receipts(rig, load.events)
        figures = [
            Figure(f"{name}, most", max(mb for _, mb in points), "MB", TARGETS_MB[name])
            for name, points in sampler.points.items()
        ]
        figures += [
            Figure(
                f"{name}, rise after warm-up",
                60 * slope(points[len(points) // WARM_UP_SHARE :]),
                "MB/min",
                "≤ 0.5",
            )
            for name, points in sampler.points.items()
        ]
        found = Found(
            figures=figures,
            tally=tally_of(load, receipts),
            deliveries=load.events,
            series=[
                *(Series("memory", name, points) for name, points in sampler.points.items()),
                throughput("delivered", receipts, began=load.began, ended=load.ended),
            ],
            notes=[
                f"{load.events / load.seconds:,.0f} events/s for {load.seconds:.0f} s; resident memory, shared "
                "pages counted for each process"
            ],
        )
        return await finish("memory", rig=rig, size=size, meters=meters, ceilings=ceilings, found=found)


class Sampler:
    """Reads the resident memory of the API's and the worker's processes; the largest where there are several."""

    def __init__(self, rig: Rig) -> None:
        worker = rig.stack.workers[0]
        self._processes: dict[str, list[psutil.Process]] = {
            API: [psutil.Process(rig.stack.api.pid)],
            WORKER: rig.stack.drains_of(worker),
            PARENT: [psutil.Process(worker.pid)],
        }
        self._began = time.monotonic()
        self.points: dict[str, list[tuple[float, float]]] = {name: [] for name in self._processes}
        self.look()

    async def run(self, *, every: float) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(every)
            self.look()

    def look(self) -> None:
        """Take one sample of each."""
        at = round(time.monotonic() - self._began, 2)
        for name, processes in self._processes.items():
            sizes = []
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    sizes.append(process.memory_info().rss / 1e6)
            if sizes:
                self.points[name].append((at, round(max(sizes), 2)))
