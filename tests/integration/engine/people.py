"""People in a simulated day: they publish, pause, disable, cancel, retry, delete, change limits, and kill connections.

Each tells the ledger what it is about to do before it does it.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.core import ids
from app.core.context import Caller
from app.core.errors import Conflict, NotFound, TooBusy
from app.core.roles import Role
from app.deliveries.service import cancel_delivery, retry_delivery
from app.endpoints.circuit import close_circuit, open_circuit, probe_circuit
from app.endpoints.service import delete_endpoint
from app.endpoints.switches import set_enabled, set_paused
from app.events.accept import Verdict, accept
from app.events.routing import Route
from tests.integration.engine.making import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.runtime import Runtime
    from tests.integration.engine.ledger import Ledger, Story, Track
    from tests.integration.engine.making import Workshop

# What each person does before the day calms down.
DEEDS = 40
KEEP_LANES = 4
# So often one looks for a claimer that waits for a lock.
LOOKS = 10
_KILL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'bellwire-claimers' AND wait_event_type = 'Lock' AND datname = current_database()
"""


class Person:
    """One of several who act at the same time."""

    def __init__(self, shop: Workshop, ledger: Ledger, runtime: Runtime, *, seed: str) -> None:
        self._shop = shop
        self._ledger = ledger
        self._runtime = runtime
        self._random = random.Random(seed)  # noqa: S311 - choices, no secrets
        self._caller = Caller(shop.workspace_id, role=Role.ADMIN, actor_kind="key", actor_id="test")
        self.seen: Counter[str] = Counter()

    async def set_up(self, *, lanes: int, events: int) -> None:
        """Make endpoints and the first events."""
        for n in range(lanes):
            cap, fifo = self._random.randint(1, 6), n % 4 == 1
            limited = not fifo and self._random.random() < 0.4
            limits: dict[str, Any] = {}
            if limited:
                limits = {
                    "rate_per_second": float(self._random.randint(20, 60)),
                    "rate_burst": self._random.randint(1, 5),
                }
            made = await self._shop.endpoint(fifo=fifo, max_in_flight=cap, **limits)
            self._ledger.opened(
                made, fifo=fifo, cap=cap, rate=limits.get("rate_per_second"), burst=limits.get("rate_burst")
            )
        for _ in range(events):
            await self._publish()

    async def meddle(self) -> None:
        """Do one thing after the other."""
        deeds = {
            self._publish: 10,
            self._publish_to_many: 1,
            self._pause: 3,
            self._resume: 3,
            self._disable: 1,
            self._enable: 2,
            self._hold_open: 2,
            self._close_circuit: 2,
            self._probe: 2,
            self._change_cap: 3,
            self._cancel: 3,
            self._retry: 3,
            self._let_expire: 1,
            self._end_lease: 3,
            self._kill: 3,
            self._delete: 0.3,
        }
        for deed in self._random.choices(list(deeds), list(deeds.values()), k=DEEDS):
            await deed()
            self.seen[deed.__name__] += 1

    async def calm_down(self) -> None:
        """Open all lanes again."""
        for track in self._ledger.tracks.values():
            if not track.deleted:
                await self._switch(track, set_enabled, enabled=True)
                await self._switch(track, set_paused, paused=False)
                await self._switch(track, close_circuit)

    async def _publish(self) -> None:
        track = self._track()
        if track is not None:
            await self._accept([track], count=self._random.randint(1, 3))

    async def _publish_to_many(self) -> None:
        tracks = [track for track in self._ledger.tracks.values() if not track.deleted]
        await self._accept(tracks, count=1, inline=2)

    async def _accept(self, tracks: list[Track], *, count: int, inline: int = 1_000) -> None:
        high = self._random.random() < 0.3
        routes = [Route(track.id, fifo=track.fifo, max_age_seconds=DAY_SECONDS) for track in tracks]
        stories: list[Story] = []
        async with self._shop.transaction() as connection:
            version = (
                await connection.execute(text("SELECT routing_version FROM applications"))
            ).scalar_one()
            made = [self._shop.submission(routes, routing_version=version, high=high) for _ in range(count)]
            verdicts = await accept(connection, made, inline=inline, keep_days=30)
            if set(verdicts) != {Verdict.ACCEPTED}:
                # Somebody changed an endpoint in this moment; the API would match the event again.
                assert set(verdicts) == {Verdict.STALE}
                return
            rows = await connection.execute(
                text("SELECT id, endpoint_id, seq FROM delivery_queue WHERE event_id = ANY(:events)"),
                {"events": [submission.id for submission in made]},
            )
            stories = [
                self._ledger.accepting(row.id, row.endpoint_id, seq=row.seq, high=high) for row in rows
            ]
        now = time.monotonic()
        for story in stories:
            story.ready = now

    async def _pause(self) -> None:
        await self._close(set_paused, paused=True)

    async def _disable(self) -> None:
        await self._close(set_enabled, enabled=False)

    async def _resume(self) -> None:
        await self._open(set_paused, paused=False)

    async def _enable(self) -> None:
        await self._open(set_enabled, enabled=True)

    async def _close(self, switch: Callable[..., Awaitable[object]], **on: bool) -> None:
        track = self._track()
        if track is not None:
            async with track.switching:
                if await self._ask(lambda session: switch(session, self._caller, _name(track), **on)):
                    track.closed_since = track.closed_since or time.monotonic()

    async def _open(self, switch: Callable[..., Awaitable[object]], **on: bool) -> None:
        track = self._track()
        if track is not None:
            await self._switch(track, switch, **on)

    async def _switch(self, track: Track, switch: Callable[..., Awaitable[object]], **on: bool) -> None:
        async with track.switching:
            track.closed_since = None
            await self._ask(lambda session: switch(session, self._caller, _name(track), **on))

    async def _hold_open(self) -> None:
        await self._close(open_circuit)

    async def _close_circuit(self) -> None:
        await self._open(close_circuit)

    async def _probe(self) -> None:
        await self._open(probe_circuit)

    async def _change_cap(self) -> None:
        track = self._track()
        if track is not None:
            cap = self._random.randint(1, 6)
            async with track.switching:
                self._ledger.changing_cap(track, cap)
                await self._shop.change_cap(track.id, cap)
                self._ledger.changed_cap(track, cap)

    async def _cancel(self) -> None:
        story = self._story()
        story.touched = story.leaving = True
        await self._ask(
            lambda session: cancel_delivery(session, self._caller, ids.to_text(ids.DELIVERY, story.id))
        )

    async def _retry(self) -> None:
        story = self._story()
        story.touched = story.reopened = True
        await self._ask(
            lambda session: retry_delivery(
                session, self._caller, ids.to_text(ids.DELIVERY, story.id), runtime=self._runtime
            )
        )

    async def _let_expire(self) -> None:
        story = self._story()
        story.touched = story.leaving = True
        await self._shop.sql("UPDATE delivery_queue SET deadline_at = now() WHERE id = :id", id=story.id)

    async def _end_lease(self) -> None:
        """A claimer is slow: its lease ends while it goes on."""
        story = self._story(leased=True)
        if story.holder is not None:
            token = story.holder
            self._ledger.losing(token, story.id)
            await self._shop.sql(
                "UPDATE delivery_queue SET lease_until = now() - interval '1 s' WHERE lease_token = :token",
                token=token,
            )

    async def _kill(self) -> None:
        """End the connections of claimers that are in the middle of a statement: they wait for this one's locks."""
        async with self._shop.transaction() as connection:
            await connection.execute(text("SELECT 1 FROM endpoint_runtime ORDER BY endpoint_id FOR UPDATE"))
            for _ in range(LOOKS):
                killed = await self._shop.value(_KILL)
                self.seen["killed"] += killed
                if killed:
                    break

    async def _delete(self) -> None:
        track = self._track()
        if track is None or sum(not one.deleted for one in self._ledger.tracks.values()) <= KEEP_LANES:
            return
        track.deleted = True
        for story in self._ledger.lanes[track.id]:
            story.touched = story.leaving = True
        await self._ask(lambda session: delete_endpoint(session, self._caller, _name(track)))
        track.closed_since = time.monotonic()

    async def _ask(self, work: Callable[[AsyncSession], Awaitable[object]]) -> bool:
        """Do it in one transaction; False: it was refused."""
        async with self._runtime.sessions() as session:
            try:
                await work(session)
            except (Conflict, NotFound, TooBusy):
                return False
            await session.commit()
            return True

    def _track(self) -> Track | None:
        there = [track for track in self._ledger.tracks.values() if not track.deleted]
        return self._random.choice(there)

    def _story(self, *, leased: bool = False) -> Story:
        stories = list(self._ledger.stories.values())
        leased_ones = [story for story in stories if story.holder not in {None, story.over}]
        return self._random.choice(leased_ones if leased and leased_ones else stories)


def _name(track: Track) -> str:
    return ids.to_text(ids.ENDPOINT, track.id)
