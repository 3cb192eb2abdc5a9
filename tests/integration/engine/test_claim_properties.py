"""Claim, record, sweep and what people do meanwhile, one after the other, held against a model in plain Python.

BELLWIRE_TEST_ROUNDS makes a long run (see `chaos.py`), BELLWIRE_TEST_SEED one of other sequences.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import seed as reproducible
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from sqlalchemy import text

from app.core import ids
from app.core.context import Caller
from app.core.errors import Conflict, NotFound
from app.core.roles import Role
from app.core.runtime import Runtime
from app.deliveries import ranks, recover
from app.deliveries.circuit_changes import settle_circuits
from app.deliveries.claim import claim, discover, promote
from app.deliveries.record import Settle
from app.deliveries.service import cancel_delivery, retry_delivery
from app.deliveries.state import State
from app.endpoints.circuit import close_circuit, open_circuit, probe_circuit
from app.endpoints.service import delete_endpoint
from app.endpoints.switches import set_enabled, set_paused
from app.events.fanout import expand_next
from app.events.routing import Route
from tests.integration.engine.chaos import ROUNDS, SEED
from tests.integration.engine.making import DAY_SECONDS, MARGIN_SECONDS, WORKER, open_workshop
from tests.integration.engine.model import LEASED, READY, SCHEDULED, Parcel, Road

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.settings import Settings
    from app.deliveries.claim import Claimed
    from tests.conftest import Seed
    from tests.integration.engine.making import Workshop

# A power of two, so that the arithmetic of tokens is exact; one token comes in two hours.
RATE_PER_SECOND = 2.0**-13
# How far a hold may be from what was asked for: a test takes seconds, holds and delays take hours.
TOLERANCE_SECONDS = 900.0
MOST_LANES = 4
SEQUENCES_PER_ROUND = 24
STEPS = 50
DELAYS = st.sampled_from([3_600.0, 7_200.0, 14_400.0])
# Which of those that there are: taken modulo their number, so that what fails shrinks well.
WHICH = st.integers(0, 11)
MOSTLY = st.sampled_from([True, True, True, False])

QUEUE = """
SELECT id, state, rank, trigger, attempt_count, schedule_step, blocked_count, lost_count, lost_alone_count, alone,
  cancel_requested, lease_token FROM delivery_queue
"""
RECORD = """
SELECT d.id, d.state, d.attempt_count, d.completed_at IS NULL,
  (SELECT count(*) FROM attempts a WHERE a.delivery_id = d.id AND NOT a.stale) FROM deliveries d
"""
RUNTIME = """
SELECT endpoint_id, open, in_flight, consecutive_failures, circuit_state, ramp,
  CASE WHEN held_until > now() THEN extract(epoch FROM held_until - now())::float8 END FROM endpoint_runtime
"""


class Bench:
    """A workshop on a loop of its own, for rules that are no coroutines; one for all sequences of a test."""

    def __init__(self, options: Settings, seed: Seed) -> None:
        self._seed = seed
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._stack = AsyncExitStack()
        seed.restore(options.database_url.get_secret_value())
        self.shop: Workshop = self.run(self._stack.enter_async_context(open_workshop(options, pool_size=2)))
        self.runtime = Runtime.open(options, name="test-people")
        self.caller = Caller(self.shop.workspace_id, role=Role.ADMIN, actor_kind="key", actor_id="test")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for a coroutine."""
        return self._runner.run(work)

    def clear(self) -> None:
        """Begin again with an empty queue."""
        self._seed.restore(self.shop.url)
        self.run(self.shop.furnish())

    def close(self) -> None:
        """End everything."""
        self.run(self.runtime.close())
        self.run(self._stack.aclose())
        self._runner.close()

    def as_person(self, work: Callable[[AsyncSession], Awaitable[object]]) -> bool:
        """Do what a person asks for, in a transaction; False: it was refused."""

        async def ask() -> bool:
            async with self.runtime.sessions() as session:
                try:
                    await work(session)
                except (Conflict, NotFound):
                    return False
                await session.commit()
                return True

        done: bool = self.run(ask())
        return done


class Engine(RuleBasedStateMachine):
    """One engine, its queue, and its twin."""

    bench: Bench

    def __init__(self) -> None:
        super().__init__()
        self.bench.clear()
        self.shop = self.bench.shop
        self.run = self.bench.run
        self.roads: dict[UUID, Road] = {}
        self.parcels: dict[UUID, Parcel] = {}
        self.leases: list[Claimed] = []
        self.fanouts: list[tuple[UUID, int, list[UUID]]] = []
        self.counted = 0

    @initialize(fifo=st.booleans(), cap=st.integers(2, 4), count=st.integers(2, 5))
    def first_endpoint(self, *, fifo: bool, cap: int, count: int) -> None:
        self._endpoint(fifo=fifo, cap=cap, burst=None)
        self.publish(0, count, high=False)

    @precondition(lambda self: len(self.roads) < MOST_LANES)
    @rule(fifo=st.booleans(), cap=st.integers(1, 3), burst=st.none() | st.integers(1, 3))
    def endpoint(self, *, fifo: bool, cap: int, burst: int | None) -> None:
        self._endpoint(fifo=fifo, cap=cap, burst=burst)

    # What comes in

    @rule(which=WHICH, count=st.integers(1, 3), high=st.booleans())
    def publish(self, which: int, count: int, *, high: bool) -> None:
        road = self._road(which)
        if road.deleted or not road.enabled:
            return
        made = self.run(self.shop.publish(road.id, count, fifo=road.fifo, high=high))
        for delivery_id in made:
            self._note(delivery_id, road, high=high)

    @rule(high=st.booleans())
    def publish_to_too_many(self, *, high: bool) -> None:
        """A publish that leaves its deliveries to the workers, but for those whose order counts."""
        targets = [road for road in self.roads.values() if road.enabled and not road.deleted]
        if not any(not road.fifo for road in targets):
            return
        version = self.run(self.shop.value("SELECT routing_version FROM applications"))
        routes = [Route(road.id, fifo=road.fifo, max_age_seconds=DAY_SECONDS) for road in targets]
        submission = self.shop.submission(routes, routing_version=version, high=high)
        self.run(self.shop.accept(submission, inline=0))
        at_once = [road for road in targets if road.fifo]
        for delivery_id, road in zip(submission.delivery_ids, at_once, strict=True):
            self._note(delivery_id, road, high=high)
        assert submission.id is not None
        rank = ranks.HIGH if high else ranks.NORMAL
        self.fanouts.append((submission.id, rank, [road.id for road in targets if not road.fifo]))

    @precondition(lambda self: self.fanouts)
    @rule()
    def expand(self) -> None:
        async def expand() -> int:
            async with self.shop.engine.connect() as connection:
                return await expand_next(connection, clock=self.shop.clock, settings=self.shop.settings)

        expanded = self.run(expand())
        event_id, rank, wanted = self.fanouts.pop(0)
        assert expanded == len(wanted)
        rows = self.run(
            self.shop.sql(
                "SELECT id, endpoint_id FROM deliveries WHERE event_id = :id AND endpoint_id = ANY(:ids)",
                id=event_id,
                ids=wanted,
            )
        )
        assert sorted(row[1] for row in rows) == sorted(id_ for id_ in wanted if not self.roads[id_].deleted)
        for delivery_id, endpoint_id in rows:
            self._note(delivery_id, self.roads[endpoint_id], high=rank == ranks.HIGH)

    # What workers do

    @precondition(lambda self: self._waiting(READY))
    @rule(share=st.integers(1, 4), answered=st.integers(0, 3))
    def claim_of_all(self, share: int, answered: int) -> None:
        self._claim({road.id: road for road in self.roads.values()}, share=share, answered=answered)

    @precondition(lambda self: self._waiting(READY))
    @rule(which=st.lists(WHICH, min_size=1, max_size=2), share=st.integers(1, 4))
    def claim_of_some(self, which: list[int], share: int) -> None:
        self._claim({road.id: road for road in map(self._road, which)}, share=share)

    def _claim(self, roads: dict[UUID, Road], *, share: int, answered: int = 0) -> None:
        over = {id_: min(answered, road.in_flight) for id_, road in roads.items()}

        async def ask() -> tuple[list[Claimed], list[Any]]:
            async with self.shop.engine.connect() as connection:
                return await claim(
                    connection, [(id_, share) for id_ in roads], margin_seconds=MARGIN_SECONDS, worker=WORKER,
                    answered=over,
                )  # fmt: skip

        blocked = {id_: road.blocked for id_, road in roads.items()}
        claimed, results = self.run(ask())
        for road in roads.values():
            wanted = road.claimable(share, answered=over[road.id])
            got = [item for item in claimed if item.endpoint_id == road.id]
            assert [item.id for item in got] == [parcel.id for parcel in wanted]
            (result,) = (result for result in results if result.endpoint_id == road.id)
            assert result.blocked is blocked[road.id]
            road.take(wanted, [item.token for item in got])
        tokens = [item.token for item in (*self.leases, *claimed)]
        assert len(set(tokens)) == len(tokens)
        self.leases += claimed

    @precondition(lambda self: self._in_flight())
    @rule(settle=st.sampled_from([Settle.SUCCEEDED, Settle.SUCCEEDED, Settle.RETRY]))
    def record_all(self, settle: Settle) -> None:
        """All that is under way is answered alike, in one flush."""
        tokens = {parcel.token for parcel in self._in_flight()}
        self._record([item for item in self.leases if item.token in tokens], settle)

    @precondition(lambda self: self.leases)
    @rule(
        which=st.lists(WHICH, min_size=1, max_size=3, unique=True),
        settle=st.sampled_from(Settle),
        delay=DELAYS,
        late=st.booleans(),
        retry_after=st.none() | DELAYS,
    )
    def record(
        self, which: list[int], settle: Settle, delay: float, *, late: bool, retry_after: float | None
    ) -> None:
        """Results of leases, of those that hold and of those that were lost meanwhile, in one statement."""
        items = {(item := self.leases[-1 - n % len(self.leases)]).token: item for n in which}
        self._record(list(items.values()), settle, delay=delay, late=late, retry_after=retry_after)

    def _record(
        self,
        items: list[Claimed],
        settle: Settle,
        *,
        delay: float = 3_600.0,
        late: bool = False,
        retry_after: float | None = None,
    ) -> None:
        waits = settle is Settle.RETRY or (settle is Settle.RELEASED and late)
        failed = settle in {Settle.RETRY, Settle.DEAD}
        changes: dict[str, Any] = {
            "delay_seconds": delay if waits else None,
            "hold_seconds": retry_after if failed else None,
            "blocked": failed and late,
            "counts": settle is Settle.SUCCEEDED or (failed and not late),
        }
        results = [self.shop.result(item, settle, **changes) for item in items]
        recorded = self.run(self.shop.record(*results))
        own = [item for item in items if self.parcels[item.id].token == item.token]
        assert (recorded.settled, recorded.stale) == (len(own), len(items) - len(own))
        for item in own:
            self.roads[item.endpoint_id].settle(
                self.parcels[item.id],
                settle,
                delay=changes["delay_seconds"],
                retry_after=changes["hold_seconds"],
                blocked=changes["blocked"],
            )
        for road in self.roads.values():
            mine = [self.parcels[item.id].episode for item in own if item.endpoint_id == road.id]
            if changes["counts"] and mine:
                good = settle is Settle.SUCCEEDED
                road.fuse.note([(good, episode) for episode in mine], cap=road.cap)
            if mine:
                road.fuse.decide()
        self._settle_circuits(recorded.circuits)

    @precondition(lambda self: self._in_flight())
    @rule(which=WHICH, alone=st.booleans())
    def lose(self, which: int, *, alone: bool) -> None:
        """A worker dies that had it, alone or not; the sweep finds it and nothing else."""
        parcel = self._pick(self._in_flight(), which)
        assert parcel.token is not None
        if alone:
            parcel.alone = self._mark_alone(parcel.id, parcel.token)
            assert parcel.alone
        self._sql("UPDATE delivery_queue SET lease_until = now() - interval '1 s' WHERE id = :id", parcel)
        assert self._sweep() == 1
        parcel.lane.lose(parcel)

    @precondition(lambda self: self._waiting(SCHEDULED))
    @rule(which=WHICH)
    def become_due(self, which: int) -> None:
        parcel = self._pick(self._waiting(SCHEDULED), which)
        self._sql("UPDATE delivery_queue SET due_at = now() WHERE id = :id", parcel)
        assert self._promote() == 1
        parcel.place, parcel.waits = READY, False

    @precondition(lambda self: self._waiting(READY, SCHEDULED))
    @rule(which=WHICH)
    def grow_old(self, which: int) -> None:
        parcel = self._pick(self._waiting(READY, SCHEDULED), which)
        self._sql("UPDATE delivery_queue SET deadline_at = now() WHERE id = :id", parcel)
        parcel.late = True

    @precondition(lambda self: any(one.late for one in self._waiting(READY, SCHEDULED)))
    @rule()
    def expire(self) -> None:
        async def expire() -> int:
            async with self.shop.engine.connect() as connection:
                return await recover.expire(connection)

        late = [parcel for parcel in self._waiting(READY, SCHEDULED) if parcel.late]
        assert self.run(expire()) == len(late)
        for road in self.roads.values():
            if mine := [one for one in late if one.lane is road]:
                road.drop(*mine, state=State.DEAD)

    @rule()
    def look_around(self) -> None:
        """Nothing is swept or promoted before its time; a walk in pieces finds each lane that has something ready."""

        async def walk() -> list[UUID]:
            found = []
            async with self.shop.engine.connect() as connection:
                after = None
                while part := await discover(connection, after=after, hops=2):
                    found += [lane.endpoint_id for lane in part]
                    after = part[-1]
            return found

        assert (self._sweep(), self._promote()) == (0, 0)
        assert self.run(walk()) == sorted(road.id for road in self.roads.values() if road.line)

    # Time

    @precondition(lambda self: self._held())
    @rule(which=WHICH)
    def hold_ends(self, which: int) -> None:
        road = self._held()[which % len(self._held())]
        for statement in (
            "UPDATE endpoint_runtime SET held_until = now() WHERE endpoint_id = :id",
            "UPDATE delivery_queue SET due_at = now() WHERE endpoint_id = :id AND state = 0",
        ):
            self.run(self.shop.sql(statement, id=road.id))
        for parcel in road.line:
            parcel.waits = False
        road.end_hold()

    @precondition(lambda self: self._limited())
    @rule(which=WHICH, count=st.integers(1, 4))
    def tokens_come(self, which: int, count: int) -> None:
        road = self._limited()[which % len(self._limited())]
        assert road.tokens is not None
        assert road.burst is not None
        self.run(
            self.shop.sql(
                "UPDATE endpoint_runtime SET tokens_at = tokens_at - make_interval(secs => :seconds)"
                " WHERE endpoint_id = :id",
                id=road.id,
                seconds=count / RATE_PER_SECOND,
            )
        )
        road.tokens = min(road.burst, road.tokens + count)

    @precondition(lambda self: self._fused("open"))
    @rule(which=WHICH)
    def probe_is_due(self, which: int) -> None:
        road = self._fused("open")[which % len(self._fused("open"))]
        self.run(
            self.shop.sql(
                "UPDATE endpoint_runtime SET next_probe_at = now()"
                " WHERE endpoint_id = :id AND next_probe_at IS NOT NULL",
                id=road.id,
            )
        )
        road.fuse.due = None if road.fuse.due is None else True

    @precondition(lambda self: self._fused("closed"))
    @rule(which=WHICH)
    def fail_often(self, which: int) -> None:
        """One failure more and the circuit opens."""
        road = self._fused("closed")[which % len(self._fused("closed"))]
        self.run(
            self.shop.sql(
                "UPDATE endpoint_runtime SET consecutive_failures = 9 WHERE endpoint_id = :id", id=road.id
            )
        )
        road.fuse.failures = 9

    # What people do

    @rule(which=WHICH, move=st.sampled_from([open_circuit, probe_circuit, probe_circuit, close_circuit]))
    def move_circuit(self, which: int, move: Callable[..., Awaitable[object]]) -> None:
        road = self._road(which)
        done = self.bench.as_person(lambda session: move(session, self.bench.caller, self._endpoint_id(road)))
        assert done is (not road.deleted and (move is not probe_circuit or road.fuse.state != "closed"))
        if done and move is open_circuit:
            road.fuse.open(due=None)
        elif done and move is probe_circuit and road.fuse.state == "open":
            road.fuse.due = True
        elif done and move is close_circuit and road.fuse.state != "closed":
            road.fuse.close()

    @rule(which=WHICH, on=MOSTLY)
    def resume_or_pause(self, which: int, *, on: bool) -> None:
        road = self._road(which)
        if road.deleted:
            return
        assert self.bench.as_person(
            lambda session: set_paused(session, self.bench.caller, self._endpoint_id(road), paused=not on)
        )
        if not on and not road.paused:
            road.close()
        road.paused = not on

    @rule(which=WHICH, on=MOSTLY)
    def enable_or_disable(self, which: int, *, on: bool) -> None:
        road = self._road(which)
        if road.deleted:
            return
        assert self.bench.as_person(
            lambda session: set_enabled(session, self.bench.caller, self._endpoint_id(road), enabled=on)
        )
        if road.enabled and not on:
            road.close()
        if on and not road.enabled:
            road.fuse.failures = 0
            if road.fuse.state != "closed":
                road.fuse.close()
        road.enabled = on

    @rule(which=WHICH, cap=st.integers(1, 3))
    def change_cap(self, which: int, cap: int) -> None:
        """Also below what is in flight."""
        road = self._road(which)
        self.run(self.shop.change_cap(road.id, cap))
        road.cap = cap

    @precondition(lambda self: sum(not road.deleted for road in self.roads.values()) > MOST_LANES // 2)
    @rule(which=WHICH)
    def delete(self, which: int) -> None:
        road = self._road(which)
        if road.deleted:
            return
        assert self.bench.as_person(
            lambda session: delete_endpoint(session, self.bench.caller, self._endpoint_id(road))
        )
        road.deleted, road.enabled = True, False
        road.cancel(*(one for one in road.parcels if one.queued))

    @precondition(lambda self: self.parcels)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        parcel = self._pick(list(self.parcels.values()), which)
        done = self.bench.as_person(
            lambda session: cancel_delivery(session, self.bench.caller, self._delivery_id(parcel))
        )
        assert done is parcel.queued
        if done:
            parcel.lane.cancel(parcel)

    @precondition(lambda self: self.parcels)
    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        parcel = self._pick(list(self.parcels.values()), which)
        done = self.bench.as_person(
            lambda session: retry_delivery(
                session, self.bench.caller, self._delivery_id(parcel), runtime=self.bench.runtime
            )
        )
        sending = parcel.queued and parcel.place == LEASED
        assert done is (not sending and parcel.lane.enabled and not parcel.lane.deleted)
        if done:
            self.counted += 1
            parcel.lane.retry(parcel, seq=self.counted)

    # What must be true at every moment

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        queue, record, lanes = self.run(self._look())
        assert {row[0]: tuple(row[1:]) for row in queue} == {
            one.id: (
                one.place, one.rank, one.trigger, one.attempts, one.step, one.blocked, one.lost, one.lost_alone,
                one.alone, one.cancel_requested, one.token,
            )
            for one in self.parcels.values()
            if one.queued
        }  # fmt: skip
        assert {row[0]: tuple(row[1:]) for row in record} == {
            one.id: (one.state, one.attempts, one.queued, one.attempts) for one in self.parcels.values()
        }
        assert {row[0]: tuple(row[1:6]) for row in lanes} == {
            road.id: (road.open, road.in_flight, road.fuse.failures, road.fuse.state, road.fuse.ramp)
            for road in self.roads.values()
        }
        holds = {row[0]: row[6] for row in lanes}
        wanted = {road.id: road.hold for road in self.roads.values()}
        assert holds == pytest.approx(wanted, abs=TOLERANCE_SECONDS)

    async def _look(self) -> list[Sequence[Any]]:
        async with self.shop.engine.connect() as connection:
            return [(await connection.execute(text(query))).all() for query in (QUEUE, RECORD, RUNTIME)]

    # Helpers

    def _endpoint(self, *, fifo: bool, cap: int, burst: int | None) -> None:
        limits = {} if burst is None else {"rate_per_second": RATE_PER_SECOND, "rate_burst": burst}
        made = self.run(self.shop.endpoint(fifo=fifo, max_in_flight=cap, **limits))
        self.roads[made] = Road(made, fifo=fifo, cap=cap, tokens=burst, burst=burst)

    def _note(self, delivery_id: UUID, road: Road, *, high: bool) -> None:
        self.counted += 1
        rank = ranks.FIFO if road.fifo else (ranks.HIGH if high else ranks.NORMAL)
        parcel = Parcel(delivery_id, lane=road, seq=self.counted, rank=rank)
        self.parcels[delivery_id] = parcel
        road.parcels.append(parcel)

    def _road(self, which: int) -> Road:
        return list(self.roads.values())[which % len(self.roads)]

    def _fused(self, state: str) -> list[Road]:
        return [road for road in self.roads.values() if road.fuse.state == state]

    def _settle_circuits(self, endpoint_ids: Sequence[UUID]) -> None:
        async def settle() -> None:
            async with self.shop.transaction() as connection:
                await settle_circuits(connection, endpoint_ids, jitter=lambda: 1.0)

        self.run(settle())

    def _held(self) -> list[Road]:
        return [road for road in self.roads.values() if road.hold is not None]

    def _limited(self) -> list[Road]:
        return [road for road in self.roads.values() if road.tokens is not None]

    def _pick(self, parcels: list[Parcel], which: int) -> Parcel:
        return parcels[which % len(parcels)]

    def _waiting(self, *places: int) -> list[Parcel]:
        return [one for one in self.parcels.values() if one.queued and one.place in places]

    def _in_flight(self) -> list[Parcel]:
        return self._waiting(LEASED)

    def _endpoint_id(self, road: Road) -> str:
        return ids.to_text(ids.ENDPOINT, road.id)

    def _delivery_id(self, parcel: Parcel) -> str:
        return ids.to_text(ids.DELIVERY, parcel.id)

    def _sql(self, statement: str, parcel: Parcel) -> None:
        self.run(self.shop.sql(statement, id=parcel.id))

    def _mark_alone(self, delivery_id: UUID, token: int) -> bool:
        async def mark() -> bool:
            async with self.shop.engine.connect() as connection:
                return await recover.mark_alone(
                    connection,
                    delivery_id=delivery_id,
                    token=token,
                    timeout_seconds=15,
                    margin_seconds=MARGIN_SECONDS,
                )

        marked: bool = self.run(mark())
        return marked

    def _sweep(self) -> int:
        async def sweep() -> int:
            async with self.shop.engine.connect() as connection:
                return await recover.sweep_lost_leases(connection, unix_ms=self.shop.clock.unix_ms())

        swept: int = self.run(sweep())
        return swept

    def _promote(self) -> int:
        async def work() -> int:
            async with self.shop.engine.connect() as connection:
                promoted, _ = await promote(connection)
                return promoted

        promoted: int = self.run(work())
        return promoted


@pytest.mark.timeout(600 + 60 * ROUNDS)  # What fails is made small, which takes its time.
def test_sequences_of_any_kind_end_as_the_model_says(
    clean_database: str, seed: Seed, settings: Settings
) -> None:
    """Whatever workers and people do one after the other: queue, record and lanes are as the model has them."""
    Engine.bench = Bench(settings, seed)
    machine = Engine if SEED is None else reproducible(SEED)(Engine)
    try:
        run_machine(
            machine,
            settings=examples(
                max_examples=SEQUENCES_PER_ROUND * ROUNDS,
                stateful_step_count=STEPS,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                derandomize=SEED is None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Engine.bench.close()
