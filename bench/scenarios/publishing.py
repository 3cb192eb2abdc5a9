"""Publishing: as fast as it is delivered, at a fixed rate, one by one, and in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.ceilings import measure_ceilings
from bench.endpoints import create_endpoints
from bench.result import Figure
from bench.rig import Load
from bench.scenarios._shared import (
    BATCH_CONNECTIONS,
    BATCH_SIZE,
    CONNECTIONS,
    TO_ANSWER,
    TO_RECEIPT,
    Found,
    Meters,
    all_receipts,
    finish,
    publish_batches,
    tally_of,
    throughput,
    to_answer,
    to_receipt,
)

if TYPE_CHECKING:
    from bench.opening import Bench
    from bench.result import Result

# Accepted events that may wait for their receipt: the load keeps below it, so the backlog cannot grow.
BACKLOG = 1_000
STEADY_RATE = 500.0
IDLE_RATE = 10.0


async def publish(bench: Bench) -> Result:
    """One event a request over many connections, as fast as they are delivered."""
    size = bench.size
    async with bench.open_rig() as rig:
        ceilings = await measure_ceilings(rig, size)
        bodies = rig.single_bodies(await create_endpoints(rig))
        warm_up = await rig.publish(
            bodies=bodies, connections=CONNECTIONS, seconds=size.warm_up_seconds, backlog=BACKLOG
        )
        await all_receipts(rig, warm_up.events)
        await rig.forget()

        meters = Meters.start(rig)
        load = await rig.publish(
            bodies=bodies, connections=CONNECTIONS, seconds=size.publish_seconds, backlog=BACKLOG
        )
        waiting = rig.queued()
        receipts = await all_receipts(rig, load.events)
        api_us = meters.cpu.used()["api"] * 1e6 / load.events
        within = sum(at <= load.ended for at in receipts.times)
        latency = to_receipt(load, receipts)
        found = Found(
            figures=[
                Figure(
                    "published, delivered and logged", within / load.seconds, "events/s", "≥ 1,500", "http"
                ),
                Figure(f"{TO_RECEIPT}, p50", latency.ms(50), "ms"),
                Figure(f"{TO_RECEIPT}, p99", latency.ms(99), "ms"),
                Figure("waiting at the end", waiting, "deliveries", f"≤ {BACKLOG:,}"),
                Figure("CPU of the API for a publish", api_us, "µs"),
            ],
            tally=tally_of(load, receipts),
            deliveries=load.events,
            latencies={TO_RECEIPT: latency, TO_ANSWER: to_answer(load)},
            series=[throughput("delivered", receipts, began=load.began, ended=load.ended)],
            notes=[f"{CONNECTIONS} connections, {len(bodies)} endpoints, {size.publish_seconds:g} s"],
            # At load: an idle service asks for each event anew.
            statements_target="≤ 0.2",
        )
        return await finish("publish", rig=rig, size=size, meters=meters, ceilings=ceilings, found=found)


async def steady(bench: Bench) -> Result:
    """A fixed 500 events a second: the latency of a service that is at work."""
    return await _at_rate(
        "steady",
        bench=bench,
        rate=STEADY_RATE,
        connections=CONNECTIONS,
        requests=round(STEADY_RATE * bench.size.steady_seconds),
        targets=("≤ 20", "≤ 100"),
    )


async def idle(bench: Bench) -> Result:
    """One event at a time with pauses between: the latency of a service that is idle."""
    return await _at_rate(
        "idle",
        bench=bench,
        rate=IDLE_RATE,
        connections=1,
        requests=bench.size.idle_requests,
        targets=("≤ 10", "≤ 40"),
    )


async def batch(bench: Bench) -> Result:
    """1,000 events a request: first while no worker runs, then while the workers deliver them."""
    size = bench.size
    async with bench.open_rig(workers=0) as rig:
        ceilings = await measure_ceilings(rig, size)
        types = await create_endpoints(rig)
        meters = Meters.start(rig)
        alone = await publish_batches(rig, types, size.batch_events)
        api_us = meters.cpu.used()["api"] * 1e6 / alone.events
        rig.start_worker()
        beside = await publish_batches(rig, types, size.batch_events)
        load = Load.of(alone, beside)
        receipts = await all_receipts(rig, load.events)
        found = Found(
            figures=[
                Figure(
                    "accepted, no worker at work",
                    alone.events / alone.seconds,
                    "events/s",
                    "≥ 10,000",
                    "rows",
                ),
                Figure(
                    "accepted, a worker at work", beside.events / beside.seconds, "events/s", ceiling="rows"
                ),
                Figure("CPU of the API for an event of a batch", api_us, "µs"),
            ],
            tally=tally_of(load, receipts),
            deliveries=load.events,
            latencies={"start of the call → 202, of a batch": to_answer(load)},
            notes=[f"{BATCH_SIZE:,} events a request, {BATCH_CONNECTIONS} connections"],
            statements_target="",
        )
        return await finish("batch", rig=rig, size=size, meters=meters, ceilings=ceilings, found=found)


async def _at_rate(
    name: str, *, bench: Bench, rate: float, connections: int, requests: int, targets: tuple[str, str]
) -> Result:
    size = bench.size
    async with bench.open_rig() as rig:
        ceilings = await measure_ceilings(rig, size)
        bodies = rig.single_bodies(await create_endpoints(rig))
        warm_up = await rig.publish(
            bodies=bodies, connections=connections, rate=rate, seconds=size.warm_up_seconds
        )
        await all_receipts(rig, warm_up.events)
        await rig.forget()

        meters = Meters.start(rig)
        load = await rig.publish(bodies=bodies, connections=connections, rate=rate, requests=requests)
        receipts = await all_receipts(rig, load.events)
        latency, answers = to_receipt(load, receipts), to_answer(load)
        found = Found(
            figures=[
                Figure(f"{TO_RECEIPT}, p50", latency.ms(50), "ms", targets[0]),
                Figure(f"{TO_RECEIPT}, p99", latency.ms(99), "ms", targets[1]),
                Figure(f"{TO_RECEIPT}, worst", latency.ms(100), "ms"),
                Figure(f"{TO_ANSWER}, p50", answers.ms(50), "ms"),
                Figure(f"{TO_ANSWER}, p99", answers.ms(99), "ms"),
            ],
            tally=tally_of(load, receipts),
            deliveries=load.events,
            latencies={TO_RECEIPT: latency, TO_ANSWER: answers},
            notes=[f"{rate:g} events/s, {requests:,} events, {connections} connection(s)"],
            statements_target="",
        )
        return await finish(name, rig=rig, size=size, meters=meters, ceilings=ceilings, found=found)
