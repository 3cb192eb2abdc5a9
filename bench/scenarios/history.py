"""A full history: the drain beside millions of old deliveries and attempts, and without them, in one run."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from bench.ceilings import measure_ceilings
from bench.endpoints import create_endpoints
from bench.result import Figure, mean_ceiling
from bench.rig import console
from bench.scenarios._shared import Found, finish
from bench.scenarios.draining import drain_once, together
from bench.seed import seed

if TYPE_CHECKING:
    from bench.opening import Bench
    from bench.result import Result
    from bench.rig import Rig
    from bench.sizes import Size


async def old(bench: Bench) -> Result:
    """The drain on young tables, then beside 5 million old deliveries and 6 million old attempts."""
    size = bench.size
    async with bench.open_rig(workers=0) as rig:
        types = await create_endpoints(rig)
        before = await measure_ceilings(rig, size, when="before, young")
        young = await drain_once(rig, types, size.drain_events, processes=1, checkpoint=True)
        seconds = await _seed(rig, size)
        between = await measure_ceilings(rig, size, when="before, old")
        full = await drain_once(rig, types, size.drain_events, processes=1, checkpoint=True)
        tally, events = together([young, full])
        ratio = 100 * full.rate / young.rate
        speeds = [mean_ceiling(part, "python") or 1.0 for part in (before, between)]
        found = Found(
            figures=[
                Figure("with old rows, to without", ratio, "%", "≥ 80"),
                # If the machine itself became slower or faster in between, this is the fairer one.
                Figure("the same, by one thread's speed then", ratio * speeds[0] / speeds[1], "%"),
                Figure("without old rows", young.rate, "deliveries/s", ceiling="http"),
                Figure("with old rows", full.rate, "deliveries/s", ceiling="http"),
                # These change least with whatever else the machine does.
                *(
                    Figure(f"CPU of {name} for a delivery, {what}", run.cpu_us[role], "µs")
                    for name, role in (("the worker", "worker"), ("Postgres", "postgres"))
                    for what, run in (("without", young), ("with", full))
                ),
            ],
            tally=tally,
            deliveries=full.load.events - full.meters.received_before,
            series=[young.line("without old rows"), full.line("with old rows")],
            notes=[
                f"{size.old_deliveries:,} old deliveries and {size.old_attempts:,} old attempts over 7 days, "
                f"written in {seconds:.0f} s; {events:,} deliveries drained in all"
            ],
            logged_before=young.logged,
        )
        return await finish(
            "old", rig=rig, size=size, meters=full.meters, ceilings=before + between, found=found
        )


async def _seed(rig: Rig, size: Size) -> float:
    began = time.monotonic()
    await asyncio.to_thread(
        seed,
        rig.stack.postgres.url,
        keys=rig.stack.environment["BELLWIRE_ENCRYPTION_KEYS"].split(","),
        deliveries=size.old_deliveries,
        attempts=size.old_attempts,
        tell=lambda line: console.print(f"  {line}"),
    )
    return time.monotonic() - began
