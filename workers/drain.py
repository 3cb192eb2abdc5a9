"""The resident loop of a worker process: claim due deliveries, send them, record them.

It runs when a wake-up comes, when something it knows of becomes due, and every two seconds by itself. No
transaction is open while a request is under way, and nothing depends on the broker but latency.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from app.core import metrics
from app.core.db import Autocommit, is_away
from app.deliveries import recover
from app.deliveries.claim import Claimed, Lane, claim, discover, look, promote
from app.deliveries.record import Finished, Settle
from app.endpoints.disabling import disable_gone, is_in_time
from app.events.fanout import expand_next
from workers.hosts import HostSlots
from workers.lanes import LaneBook
from workers.notices import NoticePublisher
from workers.sender import OWN_FAULT_SECONDS, cancelled, released
from workers.suspects import Suspects

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.core.clock import DatabaseClock
    from app.core.settings import Settings
    from workers.endpoint_settings import EndpointCache, EndpointSettings
    from workers.event_bodies import EventBody, EventCache
    from workers.recorder import Recorder
    from workers.sender import Sender

log = structlog.get_logger(__name__)

# Lanes looked for at once, and how often the walk over the queue goes on while there is work.
DISCOVER_HOPS = 200
# While there are fewer lanes than that, one statement looks for them and claims.
FEW_LANES = 32
DISCOVER_SECONDS = 0.1
PROMOTE_SECONDS = 0.5
MOST_PROMOTED = 1_000
# No wait for something that is nearly due is shorter.
SHORTEST_SECONDS = 0.01
# The requests of one endpoint hold at most this share of a process' slots, with its answered ones twice that.
ENDPOINT_SHARE = 10
# A claim is worth its round trip when this part of the slots is free.
CLAIM_WHEN_FREE = 4
AWAY_SECONDS = 1.0
# While requests are under way, the least time from one look for work to the next.
PACE_SECONDS = 0.005
# Deliveries that wait to be sent alone take at most this share of the slots; more of them come back later.
SUSPECTS_SHARE = 8
SUSPECT_DELAY_SECONDS = 2.0
# Longer than Postgres' own limit of a statement: an answer that is not here by then will not come.
ROUND_DEADLINE_SECONDS = 30.0
# A claim that uses the places of answered requests again sends nothing if it took longer.
REUSE_SECONDS = 5.0
# How long a stop waits for a round that is under way, beside the grace.
STOP_ROUND_SECONDS = 5.0


class Drain:
    """Claims, sends and records until it is stopped. One per worker process, on its own event loop."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        clock: DatabaseClock,
        settings: Settings,
        endpoints: EndpointCache,
        events: EventCache,
        sender: Sender,
        recorder: Recorder,
        worker: str,
    ) -> None:
        # For what takes several statements.
        self._transactions = engine
        # Each statement is a transaction of its own: BEGIN and COMMIT would be two more round trips.
        self._engine = Autocommit(engine)
        self._clock = clock
        self._settings = settings
        self._endpoints = endpoints
        self._events = events
        self._sender = sender
        self._recorder = recorder
        self._worker = worker
        self._hosts = HostSlots(settings.worker_host_limit)
        self._lanes = LaneBook()
        self._walk_after: Lane | None = None
        self._few_lanes = True
        self._kicked = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: Counter[UUID] = Counter()
        self._notices = NoticePublisher(engine=engine, clock=clock, settings=settings, routed=self.kick)
        self._suspects = Suspects(most=max(1, settings.worker_slots // SUSPECTS_SHARE))
        self._next_discover = self._next_promote = self._next_sweep = 0.0
        self._fanouts_waiting = True
        # When the last look for work ended well: what the heartbeat goes by.
        self.last_round_at = time.monotonic()

    @property
    def in_flight(self) -> int:
        """Requests under way, and results that wait for their record."""
        return self._in_flight.total()

    def kick(self) -> None:
        """Look for work now. Call it on the loop's own thread."""
        self._next_discover = 0.0
        self._fanouts_waiting = True
        self._kicked.set()

    def note_settled(self, finished: Sequence[Finished]) -> None:
        """Take back the slots of recorded results, and let their lanes take part again."""
        for item in finished:
            self._in_flight[item.endpoint_id] -= 1
            if self._in_flight[item.endpoint_id] <= 0:
                del self._in_flight[item.endpoint_id]
            self._lanes.unpark(item.endpoint_id)
            if item.error_class == "http_410" and not item.test and item.settle is Settle.DEAD:
                self._spawn(self._disable(item))
        self._kicked.set()

    async def run(self) -> None:
        """Drain until `stop` is called; a database that is away only makes it wait."""
        holding = asyncio.get_running_loop().create_task(
            self._suspects.hold(
                self._engine,
                margin_seconds=self._settings.lease_margin_seconds,
                lost=lambda item: self._recorder.add(released(item)),
            ),
            name="hold",
        )
        self._ended.clear()
        try:
            await self._run()
        finally:
            holding.cancel()
            self._ended.set()

    async def _run(self) -> None:
        began = 0.0
        while not self._stopping:
            if self._in_flight:
                # Under load one claim of many costs less than many of few; who is idle waits for nothing.
                await asyncio.sleep(began + PACE_SECONDS - time.monotonic())
            began = time.monotonic()
            self._kicked.clear()
            try:
                worked = await self._round()
            except Exception as error:
                if not is_away(error) and not isinstance(error, TimeoutError):
                    log.exception("drain.round_failed")
                    metrics.DRAIN_FAILURES.inc()
                else:
                    log.warning("drain.database_away", error=type(error).__name__)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            self.last_round_at = time.monotonic()
            if not worked and not self._stopping:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._kicked.wait(), self._idle_seconds())

    async def stop(self, *, grace_seconds: float) -> None:
        """Claim nothing more, finish what is under way within the grace, hand the rest back."""
        self._stopping = True
        self._notices.close()
        self._kicked.set()
        # The last claim's deliveries are sent or handed back, too.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), STOP_ROUND_SECONDS)
        for claimed in self._suspects.take_all():
            self._recorder.add(released(claimed))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._recorder.drained(), max(5.0, grace_seconds))
        if self._tasks:
            # What the last results set going: an endpoint that is gone is being disabled.
            await asyncio.wait(self._tasks, timeout=STOP_ROUND_SECONDS)

    async def _round(self) -> bool:
        """Do what is due; return whether there may be more to do at once."""
        now = time.monotonic()
        async with asyncio.timeout(ROUND_DEADLINE_SECONDS), self._engine.connect() as connection:
            if now >= self._next_sweep:
                await self._sweep(connection)
                self._next_sweep = now + self._settings.sweep_seconds
                # A wide fan-out is found without a wake-up, too.
                self._fanouts_waiting = True
            if now >= self._next_promote:
                promoted, next_due = await promote(connection, most=MOST_PROMOTED)
                soon = (
                    0.0 if promoted == MOST_PROMOTED else max(next_due or PROMOTE_SECONDS, SHORTEST_SECONDS)
                )
                self._next_promote = now + min(PROMOTE_SECONDS, soon)
                if promoted:
                    self._next_discover = 0.0
            if self._suspects.is_their_turn(in_flight=self.in_flight, now=now):
                if (alone := self._suspects.next(in_flight=self.in_flight)) is not None:
                    await self._send_alone(connection, alone)
                # What is awaited kicks when it is recorded.
                return False
            claimed = await self._claim(connection, now=now) or self._suspects.end_wait(
                in_flight=self.in_flight
            )
            if self._fanouts_waiting:
                # After the claim, so that what is ready does not wait for a look that finds nothing.
                self._fanouts_waiting = (
                    await expand_next(connection, clock=self._clock, settings=self._settings) > 0
                )
                if self._fanouts_waiting:
                    self._next_discover = 0.0
            return claimed or self._fanouts_waiting

    async def _claim(self, connection: AsyncConnection, *, now: float) -> bool:
        slots = self._settings.worker_slots
        free = slots - self.in_flight
        if free < max(1, slots // CLAIM_WHEN_FREE):
            return False
        want = min(free, self._settings.worker_claim_batch)
        tenth = max(1, slots // ENDPOINT_SHARE)
        due = now >= self._next_discover or not self._lanes.eligible
        if due:
            self._next_discover = now + DISCOVER_SECONDS
        if due and self._few_lanes:
            asked_at = time.monotonic()
            with self._recorder.keeping(seconds=REUSE_SECONDS) as answered:
                claimed, results, self._few_lanes = await look(
                    connection, hops=FEW_LANES, want=want, most=tenth, in_flight=self._in_flight, answered=answered,
                    margin_seconds=self._settings.lease_margin_seconds, worker=self._worker,
                )  # fmt: skip
            self._lanes.add(result.lane for result in results)
            if not self._few_lanes:
                self._next_discover = now
        else:
            if due:
                await self._discover(connection)
            turn = self._next_turn(want=want, tenth=tenth, now=now)
            if not turn:
                return self._lanes.eligible > 0
            asked_at = time.monotonic()
            with self._recorder.keeping(turn, seconds=REUSE_SECONDS) as answered:
                claimed, results = await claim(
                    connection, list(turn.items()), answered=answered,
                    margin_seconds=self._settings.lease_margin_seconds, worker=self._worker,
                )  # fmt: skip
            for endpoint_id in turn.keys() - {result.endpoint_id for result in results}:
                self._lanes.forget(endpoint_id)
        for result in results:
            self._lanes.settle(result, now=now)
        if claimed:
            metrics.CLAIMED.inc(len(claimed))
            # Leases whose places were used again may have run out meanwhile: the places may be another worker's.
            late = answered.keys() if time.monotonic() - asked_at > REUSE_SECONDS else ()
            await self._start(connection, claimed, claimed_from=now, late=late)
        return bool(claimed) or self._lanes.eligible > 0

    async def _discover(self, connection: AsyncConnection) -> None:
        found = await discover(connection, after=self._walk_after, hops=DISCOVER_HOPS)
        if len(found) < DISCOVER_HOPS and self._walk_after is not None:
            # The end of the walk: begin again at its start, now and not at the next turn.
            found += await discover(connection, after=None, hops=DISCOVER_HOPS - len(found))
        elif len(found) < FEW_LANES:
            self._few_lanes = True
        self._walk_after = found[-1] if len(found) == DISCOVER_HOPS else None
        self._lanes.add(found)

    def _next_turn(self, *, want: int, tenth: int, now: float) -> dict[UUID, int]:
        """Return whose turn it is, and how many deliveries each may get."""
        share = max(1, min(tenth, want // max(1, self._lanes.eligible)))
        answered = self._recorder.answered(seconds=REUSE_SECONDS)
        turn: dict[UUID, int] = {}
        for endpoint_id, turns in self._lanes.next(max(1, want // share), now=now).items():
            held = self._in_flight[endpoint_id]
            # Answered requests hold slots until they are recorded: of one endpoint so many at most.
            room = min(turns * share, tenth - held + answered[endpoint_id], 2 * tenth - held)
            if room > 0:
                turn[endpoint_id] = room
            else:
                self._lanes.park(endpoint_id, now=now)
        return turn

    async def _start(
        self,
        connection: AsyncConnection,
        claimed: list[Claimed],
        *,
        claimed_from: float,
        late: Collection[UUID],
    ) -> None:
        for item in claimed:
            self._in_flight[item.endpoint_id] += 1
        try:
            settings = await self._endpoints.get_many(
                connection, {(item.endpoint_id, item.settings_version) for item in claimed}
            )
        except BaseException:
            # They are leased already: give them back as soon as the database answers again.
            for item in claimed:
                self._recorder.add(released(item))
            raise
        for item in claimed:
            lease_ends = claimed_from + item.timeout_seconds + self._settings.lease_margin_seconds
            event, endpoint = self._events.of(item), settings.get(item.endpoint_id)
            if event is None or event.data is None or endpoint is None:
                self._recorder.add(cancelled(item))
            elif self._stopping or item.endpoint_id in late:
                self._recorder.add(released(item))
            elif item.lost_count:
                if not self._suspects.add(item):
                    self._recorder.add(released(item, delay_seconds=SUSPECT_DELAY_SECONDS))
            else:
                self._spawn(self._deliver(item, settings=endpoint, event=event, lease_ends=lease_ends))

    async def _deliver(
        self, item: Claimed, *, settings: EndpointSettings, event: EventBody, lease_ends: float
    ) -> None:
        origin = settings.target.origin if settings.target is not None else ""
        begun = False
        try:
            if not self._hosts.take(origin):
                await self._hosts.wait(origin)
            try:
                deadline = time.monotonic() + item.timeout_seconds
                if deadline > lease_ends:
                    # Too little of the lease is left for a whole attempt.
                    self._recorder.add(released(item))
                    return
                begun = True
                finished = await self._sender.send(item, settings=settings, event=event, deadline=deadline)
            finally:
                self._hosts.give_back(origin)
        except asyncio.CancelledError:
            # At the end of the grace. What has begun may have arrived: it is neither recorded nor given back; its
            # lease runs out and the sweep writes `unknown`.
            if not begun:
                self._recorder.add(released(item))
            raise
        except Exception:
            log.exception("deliver.failed", delivery_id=str(item.id))
            metrics.DRAIN_FAILURES.inc()
            finished = released(item, delay_seconds=OWN_FAULT_SECONDS)
        metrics.note_attempt(
            outcome=finished.outcome, error_class=finished.error_class, duration_ms=finished.duration_ms
        )
        # Where one goes at a time, the next one goes when this one is recorded; and what has no time is not kept.
        if item.fifo or item.recovering or lease_ends < time.monotonic() + 2 * REUSE_SECONDS:
            lease_ends = 0.0
        reusable = self._recorder.add(finished, lease_ends=lease_ends)
        if reusable and self._lanes.unpark_full(item.endpoint_id):
            self._kicked.set()

    async def _send_alone(self, connection: AsyncConnection, item: Claimed) -> None:
        margin = self._settings.lease_margin_seconds
        now = time.monotonic()
        try:
            ours = await recover.mark_alone(
                connection, delivery_id=item.id, token=item.token, timeout_seconds=item.timeout_seconds, margin_seconds=margin
            )  # fmt: skip
            settings = await self._endpoints.get_many(connection, [(item.endpoint_id, item.settings_version)])
            events = await self._events.get_many(connection, [item.event_id])
        except BaseException:
            # It was not sent: give it back, and its slot here, as soon as the database answers again.
            self._recorder.add(released(item))
            raise
        endpoint, event = settings.get(item.endpoint_id), events.get(item.event_id)
        if not ours:
            self._recorder.add(released(item))
        elif endpoint is None or event is None or event.data is None:
            self._recorder.add(cancelled(item))
        else:
            log.info("drain.sending_alone", delivery_id=str(item.id), lost_count=item.lost_count)
            lease_ends = now + item.timeout_seconds + margin
            self._spawn(self._deliver(item, settings=endpoint, event=event, lease_ends=lease_ends))

    async def _sweep(self, connection: AsyncConnection) -> None:
        lost = await recover.sweep_lost_leases(connection, unix_ms=self._clock.unix_ms())
        if lost:
            log.warning("sweep.leases_lost", deliveries=lost)
            metrics.LEASES_LOST.inc(lost)
        expired = await recover.expire(connection)
        if expired:
            log.info("sweep.deliveries_expired", deliveries=expired)
        if await self._notices.are_waiting(connection):
            self._spawn(self._notices.publish())

    async def _disable(self, item: Finished) -> None:
        try:
            async with self._transactions.begin() as connection:
                if await is_in_time(connection, attempt_id=item.attempt_id):
                    await disable_gone(connection, endpoint_id=item.endpoint_id)
        except Exception:
            # The next delivery to it gets a 410 again, and disables it then.
            log.exception("drain.disable_failed", endpoint_id=str(item.endpoint_id))

    def _idle_seconds(self) -> float:
        now = time.monotonic()
        until = min(now + self._settings.worker_poll_seconds, self._next_promote, self._next_sweep)
        if (parked := self._lanes.next_unpark()) is not None:
            until = min(until, parked)
        return max(0.005, until - now)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
