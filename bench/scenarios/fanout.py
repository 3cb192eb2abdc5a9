"""Fan-out: one event to 10,000 endpoints, each with a secret, a runtime row and a path of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.ceilings import measure_ceilings
from bench.endpoints import write_endpoints
from bench.measure import Latency, Tally
from bench.result import Figure
from bench.rig import Load
from bench.scenarios._shared import Found, Meters, all_receipts, finish, throughput

if TYPE_CHECKING:
    from bench.opening import Bench
    from bench.result import Result

TYPE = "bench.fanout"


async def fanout(bench: Bench) -> Result:
    """One event to 10,000 endpoints, several times: until the last of them has it."""
    size = bench.size
    async with bench.open_rig() as rig:
        ceilings = await measure_ceilings(rig, size)
        paths = [f"/fanout/{n}" for n in range(size.fanout_endpoints)]
        write_endpoints(
            rig.stack.postgres.url,
            keys=rig.stack.environment["BELLWIRE_ENCRYPTION_KEYS"].split(","),
            secret=rig.secret,
            targets=[(f"http://127.0.0.1:{rig.receiver_port}{path}", [TYPE]) for path in paths],
        )
        bodies = rig.single_bodies([TYPE])
        meters = Meters.start(rig)
        rounds: list[Load] = []
        for number in range(1, size.fanout_rounds + 1):
            rounds.append(await rig.publish(bodies=bodies, connections=1, requests=1))
            await all_receipts(rig, number * len(paths))
        load = Load.of(*rounds)
        receipts = await rig.receipts()
        started = {event: at for event, at, _ in load.accepted}
        last = [
            max((at for of, at, _ in receipts.received if of == event), default=0) - at0
            for event, at0 in started.items()
        ]
        latency = Latency.of(at - started[event] for event, at, _ in receipts.received if event in started)
        found = Found(
            figures=[
                Figure(
                    "start of the call → last of all receipts, slowest round", max(last) / 1e9, "s", "≤ 5"
                ),
                # Nobody has asked for the endpoints' settings before it.
                Figure("the same, first round", last[0] / 1e9, "s"),
                Figure("the same, fastest round", min(last) / 1e9, "s"),
                Figure("start of the call → receipt, p50", latency.ms(50), "ms"),
                Figure(
                    "deliveries in the fastest round",
                    len(paths) / max(min(last) / 1e9, 1e-3),
                    "deliveries/s",
                    ceiling="http",
                ),
            ],
            tally=Tally.of(
                accepted=((event, path) for event in started for path in paths),
                received=((event, path) for event, _, path in receipts.received),
                unsigned=receipts.unsigned,
            ),
            deliveries=len(receipts.received),
            latencies={"start of the call → receipt": latency},
            series=[
                throughput(
                    "delivered", receipts, began=load.began, ended=max(receipts.times, default=load.ended)
                )
            ],
            notes=[
                f"{len(paths):,} endpoints, {len(rounds)} events one after the other; tally by event and endpoint",
                "the endpoints were written through the tables, with secrets really sealed",
            ],
        )
        return await finish("fanout", rig=rig, size=size, meters=meters, ceilings=ceilings, found=found)
