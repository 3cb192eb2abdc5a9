"""A simulated day: many claimers on real connections, people who meddle, connections that die; all at random.

The choices come from a seed, which a failure tells. BELLWIRE_TEST_SEED repeats them (the interleaving is the
machine's), BELLWIRE_TEST_ROUNDS says how many days: 1,000 make a long run.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from app.core.db import Autocommit, is_away, make_engine
from app.core.runtime import Runtime
from app.deliveries import recover
from app.deliveries.circuit_changes import settle_circuits
from app.deliveries.claim import Claimed, Lane, claim, discover, look, promote
from app.deliveries.record import Finished, Settle, record
from app.events.fanout import expand_next
from tests.integration.engine.ledger import Broken, Ledger
from tests.integration.engine.making import MARGIN_SECONDS
from tests.integration.engine.people import Person
from workers.lanes import LaneBook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.deliveries.claim import LaneResult
    from tests.integration.engine.making import Workshop

ROUNDS = int(os.environ.get("BELLWIRE_TEST_ROUNDS", "1"))
SEED = int(os.environ["BELLWIRE_TEST_SEED"]) if "BELLWIRE_TEST_SEED" in os.environ else None

CLAIMERS = 8
PEOPLE = 3
LANES = 8
FIRST_EVENTS = 40
# Turns of one claim, and lanes looked for at once: fewer than there are lanes.
TURNS = 6
HOPS = 5
LOOK_AROUND = 0.3
# How often looking and taking is one statement.
TAKE_AT_ONCE = 0.5
# A request takes so many rounds of its claimer.
LONGEST_ROUNDS = 8
# The pause of a parked lane in rounds: it is a second in a worker.
ROUND_SECONDS = 0.1
# A claimer that comes round so often, when nobody meddles any more, has found a lane that starves or a lost row.
MOST_CALM_ROUNDS = 2_000
# From then on a delivery succeeds, so that a day ends.
MOST_ATTEMPTS = 6
CLAIMERS_NAME = "claimers"

# True in every snapshot: a delivery is pending exactly as long as it has a queue row.
_TORN = """
SELECT count(*) FROM deliveries d FULL JOIN delivery_queue q USING (id)
WHERE d.id IS NULL OR (d.state = 'pending') <> (q.id IS NOT NULL)
"""

# No snapshot shows it: two probes of one circuit. What a person has forced may go beside one.
_TWO_PROBES = """
SELECT count(*) FROM (
  SELECT 1 FROM delivery_queue q JOIN endpoint_runtime r USING (endpoint_id)
  WHERE q.state = 1 AND q.trigger = 0 AND r.circuit_state = 'half_open' AND q.leased_at >= r.half_open_at
  GROUP BY q.endpoint_id HAVING count(*) > 1
) AS lanes
"""


def seeds() -> Iterator[int]:
    """Return one seed for each round."""
    first = 1 if SEED is None else SEED
    yield from range(first, first + ROUNDS)


class Day:
    """What claimers and people of one simulation share."""

    def __init__(self, shop: Workshop, engine: AsyncEngine, runtime: Runtime, *, seed: int) -> None:
        self.shop = shop
        self.seed = seed
        self.ledger = Ledger()
        self.hot = Autocommit(engine)
        self.runtime = runtime
        # Nobody meddles any more: what is left is to be delivered.
        self.calm = False
        self.over = False
        # Names of claims whose answer was lost: they may hold leases that nobody knows of.
        self.lost_claims: list[str] = []
        self.results: list[Finished] = []
        self.swept = 0
        self.seen: Counter[str] = Counter()

    async def run(self) -> None:
        """Let everybody loose until all is delivered."""
        people = [
            Person(self.shop, self.ledger, self.runtime, seed=f"{self.seed}p{n}") for n in range(PEOPLE)
        ]
        await people[0].set_up(lanes=LANES, events=FIRST_EVENTS)
        async with asyncio.TaskGroup() as group:
            for n in range(CLAIMERS):
                group.create_task(Claimer(self, f"c{n}").run())
            meddling = [group.create_task(person.meddle()) for person in people]
            await asyncio.wait(meddling)
            await people[0].calm_down()
            self.calm = True
        for person in people:
            self.seen.update(person.seen)

    async def look(self) -> None:
        """Look for torn rows and wrong counters, while everybody works."""
        self.seen["looks"] += 1
        if torn := await self.shop.value(_TORN):
            raise Broken(f"{torn} deliveries are pending without a queue row, or the other way round")
        if doubled := await self.shop.value(_TWO_PROBES):
            raise Broken(f"{doubled} circuits that are half open have two probes under way")
        async with self.shop.transaction() as connection:
            if wrong := await recover.reconcile(connection):
                raise Broken(f"counters differ from the leased rows: {wrong}")

    async def look_whether_over(self) -> None:
        """End the day when nothing is left."""
        if self.calm and not await self.shop.value(
            "SELECT (SELECT count(*) FROM delivery_queue) + (SELECT count(*) FROM fanouts)"
        ):
            self.over = True

    async def check_books(self) -> None:
        """Check, when all is over, that nothing was lost, doubled or left."""
        self.ledger.check_rates()
        shop = self.shop
        assert await shop.value(_TORN) == 0
        assert await shop.value("SELECT count(*) FROM delivery_queue") == 0
        assert await shop.value("SELECT count(*) FROM endpoint_runtime WHERE in_flight <> 0") == 0
        deliveries = {row.id: row for row in await shop.sql("SELECT * FROM deliveries")}
        assert set(self.ledger.stories) <= set(deliveries)
        attempts = await shop.sql("SELECT id, delivery_id, outcome, stale FROM attempts")
        # Each result that was sent is on record once, each lease that was lost as one attempt more.
        sent = {item.attempt_id for item in self.results if item.attempt_id is not None}
        assert {row.id for row in attempts if row.outcome != "unknown"} == sent
        assert sum(row.outcome == "unknown" for row in attempts) == self.swept
        counted = Counter(row.delivery_id for row in attempts if not row.stale)
        assert {id_: row.attempt_count for id_, row in deliveries.items()} == {
            id_: counted[id_] for id_ in deliveries
        }
        good = Counter(row.delivery_id for row in attempts if row.outcome == "succeeded" and not row.stale)
        for id_, row in deliveries.items():
            story = self.ledger.stories.get(id_)
            if row.state == "succeeded":
                assert good[id_] >= 1
            if story is None or not story.reopened:
                assert good[id_] == (row.state == "succeeded") or row.state == "cancelled"


class Claimer:
    """What a worker's loop does, with requests that take a few rounds; now and then it vanishes with its leases."""

    def __init__(self, day: Day, name: str) -> None:
        self._day = day
        self._name = name
        self._random = random.Random(f"{day.seed}{name}")  # noqa: S311 - choices, no secrets
        self._book = LaneBook()
        self._walk_after: Lane | None = None
        self._round = 0
        self._claims = 0
        self._calm_rounds = 0
        # What is under way, and the round in which its answer comes.
        self._hand: list[tuple[int, Claimed]] = []
        # What has succeeded and waits to be recorded: its places are used again.
        self._over: list[Claimed] = []

    async def run(self) -> None:
        """Work until the day is over."""
        while not self._day.over:
            self._round += 1
            self._calm_rounds += self._day.calm
            if self._calm_rounds > MOST_CALM_ROUNDS:
                rows = await self._day.shop.sql(
                    "SELECT q.state, q.rank, q.due_at - now() AS due_in, r.open, r.held_until - now() AS held,"
                    " r.in_flight, r.tokens FROM delivery_queue q JOIN endpoint_runtime r USING (endpoint_id) LIMIT 5"
                )
                raise Broken(f"{self._name} came round {MOST_CALM_ROUNDS} times, and there is still {rows}")
            work = self._random.choices(
                [self._claim, self._answer, self._record, self._keep_up, self._day.look, self._vanish],
                [10, 6, 8, 3, 0.5, 0 if self._day.calm else 0.1],
            )[0]
            await work()

    async def _claim(self) -> None:
        now = self._round * ROUND_SECONDS
        self._claims += 1
        worker = f"{self._name}/{self._claims}"
        around = not self._book.eligible or self._random.random() < LOOK_AROUND
        begun = time.monotonic()
        if around and self._random.random() < TAKE_AT_ONCE:
            answer = await self._ask(lambda connection: self._look(connection, worker), otherwise=None)
        else:
            if around:
                found = await self._ask(
                    lambda connection: discover(connection, after=self._walk_after, hops=HOPS), otherwise=[]
                )
                self._walk_after = found[-1] if len(found) == HOPS else None
                self._book.add(found)
            share = self._random.randint(1, 4)
            turn = {id_: turns * share for id_, turns in self._book.next(TURNS, now=now).items()}
            if not turn:
                return
            begun = time.monotonic()
            answer = await self._ask(
                lambda connection: claim(
                    connection,
                    list(turn.items()),
                    margin_seconds=MARGIN_SECONDS,
                    worker=worker,
                    answered=Counter(item.endpoint_id for item in self._over),
                ),
                otherwise=None,
            )
            for gone in turn.keys() - {result.endpoint_id for result in answer[1]} if answer else ():
                self._book.forget(gone)
        if answer is None:
            self._day.lost_claims.append(worker)
            return
        claimed, results = answer
        self._day.ledger.claimed(claimed, begun=begun)
        self._day.seen["claimed"] += len(claimed)
        over = Counter(item.endpoint_id for item in self._over)
        for endpoint_id in {item.endpoint_id for item in claimed}:
            track = self._day.ledger.tracks[endpoint_id]
            self._day.seen["places used again"] += len(track.in_hand) + over[endpoint_id] > track.cap
        longest = 1 if self._day.calm else LONGEST_ROUNDS
        self._hand += [(self._round + self._random.randint(0, longest), item) for item in claimed]
        self._book.add(result.lane for result in results)
        for result in results:
            self._book.settle(result, now=now)

    async def _look(self, connection: AsyncConnection, worker: str) -> tuple[list[Claimed], list[LaneResult]]:
        """Take of the first lanes in line, without asking which these are."""
        answered = Counter(item.endpoint_id for item in self._over)
        under_way = Counter(item.endpoint_id for _, item in self._hand)
        most = self._random.randint(1, 4)
        claimed, results, _ = await look(
            connection, hops=HOPS, want=self._random.randint(1, 12), most=most, in_flight=under_way + answered,
            answered=answered, margin_seconds=MARGIN_SECONDS, worker=worker,
        )  # fmt: skip
        for endpoint_id, count in Counter(item.endpoint_id for item in claimed).items():
            if under_way[endpoint_id] + count > most:
                raise Broken(
                    f"a look took {count} of {endpoint_id} beside {under_way[endpoint_id]}, of {most}"
                )
        self._day.seen["taken at once"] += len(claimed)
        return claimed, results

    async def _answer(self) -> None:
        """Some requests succeed; what became of them is recorded later."""
        for due, item in [*self._hand]:
            if (
                due <= self._round
                and self._random.random() < 0.5
                and self._day.ledger.stories[item.id].holder == item.token
            ):
                self._hand.remove((due, item))
                self._over.append(item)
                self._day.ledger.answered(item)

    async def _record(self) -> None:
        over, self._over = self._over, []
        ready = [item for due, item in self._hand if due <= self._round]
        if not ready and not over:
            return
        self._hand = [(due, item) for due, item in self._hand if due > self._round]
        finished = [*(self._result(item) for item in ready), *(self._day.shop.result(item) for item in over)]
        self._day.seen[Settle.SUCCEEDED] += len(over)
        ready += over
        for item, result in zip(ready, finished, strict=True):
            final = result.settle in {Settle.SUCCEEDED, Settle.DEAD, Settle.CANCELLED}
            self._day.ledger.finishing(item, final=final)
        sent = time.monotonic()
        self._day.results += finished
        while (
            recorded := await self._ask(lambda connection: record(connection, finished), otherwise=None)
        ) is None:
            self._day.seen["recorded again"] += 1
        recorded_at = time.monotonic()
        if recorded.circuits:
            async with self._day.shop.transaction() as connection:
                self._day.seen["circuits moved"] += len(await settle_circuits(connection, recorded.circuits))
        self._day.seen["settled"] += recorded.settled
        self._day.seen["stale"] += recorded.stale
        for result in finished:
            self._book.unpark(result.endpoint_id)
            if result.hold_seconds is not None and not recorded.stale:
                self._day.ledger.held(result.endpoint_id, since=recorded_at, until=sent + result.hold_seconds)
        if recorded.stale:
            rows = await self._day.shop.sql(
                "SELECT id FROM delivery_queue WHERE id = ANY(:ids)", ids=[item.id for item in finished]
            )
            there = {row[0] for row in rows}
            self._day.ledger.still_there(item for item in ready if item.id in there)

    def _result(self, item: Claimed) -> Finished:
        settle = self._random.choices(
            [Settle.SUCCEEDED, Settle.RETRY, Settle.DEAD, Settle.RELEASED, Settle.CANCELLED],
            [60, 28, 3, 8, 1],
        )[0]
        if item.attempt_count >= MOST_ATTEMPTS:
            settle = Settle.SUCCEEDED
        changes: dict[str, Any] = {}
        if settle is Settle.RETRY:
            changes["delay_seconds"] = self._random.choice([0.0, 0.01, 0.05])
        if settle is Settle.RELEASED:
            changes["delay_seconds"] = self._random.choice([None, None, 0.02])
        if settle in {Settle.RETRY, Settle.DEAD} and self._random.random() < 0.2:
            changes["hold_seconds"] = self._random.choice([0.05, 0.2])
        self._day.seen[settle] += 1
        return self._day.shop.result(item, settle, **changes)

    async def _keep_up(self) -> None:
        """What every worker does beside its deliveries."""
        day = self._day
        lost, day.lost_claims = day.lost_claims, []
        if lost:
            await day.shop.sql(
                "UPDATE delivery_queue SET lease_until = now() - interval '1 s'"
                " WHERE state = 1 AND leased_by = ANY(:names)",
                names=lost,
            )
        unix_ms = day.shop.clock.unix_ms()
        async with day.shop.engine.connect() as connection:
            # On a connection that nobody ends: what was swept is counted.
            swept = await recover.sweep_lost_leases(connection, unix_ms=unix_ms)
        day.swept += swept
        # Half a minute is long in a day of seconds.
        await day.shop.sql(
            "UPDATE endpoint_runtime SET next_probe_at = now()"
            " WHERE circuit_state = 'open' AND next_probe_at IS NOT NULL"
        )
        await self._ask(promote, otherwise=None)
        await self._ask(recover.expire, otherwise=None)
        await self._ask(recover.cancel_orphans, otherwise=None)
        await self._ask(
            lambda connection: expand_next(
                connection, clock=day.shop.clock, settings=day.shop.settings, most=3
            ),
            otherwise=None,
        )
        await day.look_whether_over()

    async def _vanish(self) -> None:
        """The process dies: what it had in hand is swept; another one begins in its place."""
        self._day.seen["vanished"] += 1
        held = [*(item for _, item in self._hand), *self._over]
        for item in held:
            self._day.ledger.losing(item.token, item.id)
        for item in held:
            await self._day.shop.sql(
                "UPDATE delivery_queue SET lease_until = now() - interval '1 s' WHERE lease_token = :token",
                token=item.token,
            )
        self._hand, self._over, self._book, self._walk_after = [], [], LaneBook(), None

    async def _ask(self, work: Callable[[AsyncConnection], Awaitable[Any]], *, otherwise: Any) -> Any:
        """Run a statement; if its connection is lost nobody knows whether it was committed."""
        try:
            async with self._day.hot.connect() as connection:
                return await work(connection)
        except Exception as error:
            if not is_away(error):
                raise
            self._day.seen["connections lost"] += 1
            return otherwise


@asynccontextmanager
async def open_day(shop: Workshop, *, seed: int) -> AsyncIterator[Day]:
    """Open a simulation; a failure tells how it is tried again."""
    engine = make_engine(shop.settings, name=CLAIMERS_NAME, pool_size=CLAIMERS, few_statements=True)
    runtime = Runtime.open(shop.settings, name="people")
    try:
        yield Day(shop, engine, runtime, seed=seed)
    except BaseException as error:
        error.add_note(f"Try it again with BELLWIRE_TEST_SEED={seed} BELLWIRE_TEST_ROUNDS=1.")
        raise
    finally:
        await engine.dispose()
        await runtime.close()
