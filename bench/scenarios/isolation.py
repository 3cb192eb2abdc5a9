"""Bad neighbours: an endpoint that hangs, and one with a million waiting; what the others notice of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bench.backlog import write_backlog
from bench.ceilings import measure_ceilings
from bench.endpoints import create_aside, create_endpoints
from bench.result import Figure
from bench.rig import Load, console
from bench.scenarios._shared import (
    CONNECTIONS,
    TO_RECEIPT,
    Found,
    Meters,
    all_receipts,
    finish,
    publish_batches,
    tally_of,
    throughput,
    to_receipt,
)
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from bench.opening import Bench
    from bench.result import Result
    from bench.rig import Rig

HEALTHY = 50
HEALTHY_RATE = 200.0
# Then the first requests time out, and its circuit opens: what follows is easier for the healthy ones.
ALL_HANG_SECONDS = 12.0
# The default cap of an endpoint.
CAP = 10
FLOOD_RATE = 10.0
# The flooded endpoint's receiver: ten a second at its cap of ten.
SLOW_SECONDS = 1.0
SHOWS_SECONDS = 60.0


async def hang(bench: Bench) -> Result:
    """50 healthy endpoints at 200/s: alone, then beside one that never answers, with 10,000 waiting for it."""
    size = bench.size
    async with bench.open_rig() as rig:
        ceilings = await measure_ceilings(rig, size)
        await rig.receiver.ask("answer_aside", seconds=None)
        bodies = rig.single_bodies(await create_endpoints(rig, HEALTHY))
        hanging = await create_aside(rig, "hangs")
        requests = round(HEALTHY_RATE * size.hang_seconds)
        warm_up = await rig.publish(
            bodies=bodies, connections=CONNECTIONS, rate=HEALTHY_RATE, seconds=size.warm_up_seconds
        )
        await all_receipts(rig, warm_up.events)
        await rig.forget()

        meters = Meters.start(rig)
        alone = await rig.publish(
            bodies=bodies, connections=CONNECTIONS, rate=HEALTHY_RATE, requests=requests
        )
        await all_receipts(rig, alone.events)
        await publish_batches(rig, [hanging], size.hang_waiting)
        await _wait_for_aside(rig)
        beside = await rig.publish(
            bodies=bodies, connections=CONNECTIONS, rate=HEALTHY_RATE, requests=requests
        )
        receipts = await all_receipts(rig, alone.events + beside.events)
        aside = await rig.receiver.ask("aside")
        first, second = to_receipt(alone, receipts), to_receipt(beside, receipts)
        worst = to_receipt(beside.first(ALL_HANG_SECONDS), receipts)
        load = Load.of(alone, beside)
        found = Found(
            figures=[
                Figure(
                    "p95 beside the hanging endpoint, to p95 alone", second.ms(95) / first.ms(95), "×", "≤ 2"
                ),
                Figure(
                    f"the same, first {ALL_HANG_SECONDS:g} s: all hang",
                    worst.ms(95) / first.ms(95),
                    "×",
                    "≤ 2",
                ),
                *(
                    Figure(f"{TO_RECEIPT}, p{p}, {what}", latency.ms(p), "ms")
                    for what, latency in (("alone", first), ("beside it", second))
                    for p in (50, 95, 99)
                ),
                Figure("hanging requests at once, most", aside["most_open"], "requests", f"≤ {CAP}"),
                Figure("hanging requests in all", aside["requests"], "requests"),
            ],
            tally=tally_of(load, receipts),
            deliveries=load.events,
            latencies={"alone": first, "beside a hanging endpoint": second},
            series=[throughput("delivered to the healthy", receipts, began=load.began, ended=load.ended)],
            notes=[
                f"{HEALTHY} healthy endpoints at {HEALTHY_RATE:g}/s in all, {size.hang_seconds:g} s each; "
                f"{size.hang_waiting:,} waiting for the hanging one, which is not in the tally"
            ],
        )
        return await finish("hang", rig=rig, size=size, meters=meters, ceilings=ceilings, found=found)


async def flood(bench: Bench) -> Result:
    """A million waiting for one slow endpoint, and single events for another; then the flood flows at full speed."""
    size = bench.size
    async with bench.open_rig(workers=0) as rig:
        ceilings = await measure_ceilings(rig, size)
        await rig.receiver.ask("answer_aside", seconds=SLOW_SECONDS)
        bodies = rig.single_bodies(await create_endpoints(rig, 1))
        await create_aside(rig, "flooded")
        seconds = await asyncio.to_thread(
            write_backlog, rig.stack.database_url, endpoint_id=rig.asides[0], rows=size.flood_waiting
        )
        console.print(f"  {size.flood_waiting:,} waiting rows, written in {seconds:.0f} s")
        # So much is published in hours; its checkpoint is not of the measurement.
        rig.stack.sql("CHECKPOINT")
        rig.start_worker()
        await _wait_for_aside(rig)
        warm_up = await rig.publish(bodies=bodies, connections=1, rate=FLOOD_RATE, requests=5)
        await rig.wait_for_receipts(warm_up.events)

        meters = Meters.start(rig)
        slow = await rig.publish(bodies=bodies, connections=1, rate=FLOOD_RATE, requests=size.flood_requests)
        await rig.wait_for_receipts(warm_up.events + slow.events)
        await rig.receiver.ask("answer_aside", seconds=0)
        fast = await rig.publish(bodies=bodies, connections=1, rate=FLOOD_RATE, requests=size.flood_requests)
        await rig.wait_for_receipts(warm_up.events + slow.events + fast.events)
        aside = await rig.receiver.ask("aside")
        receipts = await rig.receipts()
        load = Load.of(warm_up, slow, fast)
        first, second = to_receipt(slow, receipts), to_receipt(fast, receipts)
        found = Found(
            figures=[
                Figure(f"{TO_RECEIPT}, p50", first.ms(50), "ms"),
                Figure(f"{TO_RECEIPT}, p99", first.ms(99), "ms", "≤ 100"),
                Figure(f"{TO_RECEIPT}, worst", first.ms(100), "ms", "≤ 100"),
                Figure(f"{TO_RECEIPT}, p50, while the flood flows", second.ms(50), "ms"),
                Figure(f"{TO_RECEIPT}, p99, while the flood flows", second.ms(99), "ms", "≤ 100"),
                Figure(f"{TO_RECEIPT}, worst, while the flood flows", second.ms(100), "ms"),
                Figure("requests of the flood at once, most", aside["most_open"], "requests", f"≤ {CAP}"),
                Figure("of the flood, delivered meanwhile", aside["requests"], "requests"),
            ],
            tally=tally_of(load, receipts),
            deliveries=load.events + aside["requests"],
            latencies={"beside the waiting million": first, "while the million flows": second},
            notes=[
                f"{size.flood_waiting:,} waiting, written through the tables in {seconds:.0f} s: the rows that "
                f"publishing makes, each with an event of its own; not in the tally",
                f"single events at {FLOOD_RATE:g}/s; first the receiver of the flood takes {SLOW_SECONDS:g} s for "
                "each, then it answers at once",
            ],
        )
        return await finish("flood", rig=rig, size=size, meters=meters, ceilings=ceilings, found=found)


async def _wait_for_aside(rig: Rig) -> None:
    """Wait until the bad neighbour has all the requests that its cap allows."""

    async def shows() -> bool:
        return int((await rig.receiver.ask("aside"))["open"]) >= CAP

    await wait_until(shows, seconds=SHOWS_SECONDS, what="the bad neighbour has as many requests as its cap")
