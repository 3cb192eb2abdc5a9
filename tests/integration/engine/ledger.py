"""What many claimers at once know of each other: it is told what they do, and raises at the first broken promise.

Only what is certain counts. A lease begins here when its claim has returned, and ends before its result is sent:
between the two it exists in the database for sure, whatever runs beside it. Where the harness changes something
(a cap, a pause), the old and the new value hold while the change is under way.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.deliveries import ranks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from app.deliveries.claim import Claimed

# Between the clock that is read here and Postgres' own, which steps in microseconds.
CLOCK_SECONDS = 0.005


class Broken(AssertionError):
    """A promise of the engine does not hold; the message says which, and for which delivery or endpoint."""


@dataclass
class Track:
    """One endpoint, as the claimers see it."""

    id: UUID
    fifo: bool
    cap: int
    rate: float | None
    burst: int | None
    # The caps that may be in force, each with the moment until which (None: still).
    caps: list[tuple[int, float | None]] = field(default_factory=list)
    closed_since: float | None = None
    # Nothing may go between these two moments: the receiver asked for it.
    held: tuple[float, float] = (0.0, 0.0)
    in_hand: set[int] = field(default_factory=set)
    # For the rate: when each claim began and returned, and how many it took.
    claims: list[tuple[float, float, int]] = field(default_factory=list)
    deleted: bool = False
    # Whoever opens or closes it, or changes its cap, does it alone.
    switching: asyncio.Lock = field(default_factory=asyncio.Lock)

    def most(self, since: float) -> int:
        """Return the largest cap that was in force at some moment since then."""
        if self.fifo:
            return 1
        return max(cap for cap, until in self.caps if until is None or until >= since)


@dataclass
class Story:
    """One delivery."""

    id: UUID
    track: Track
    seq: int | None
    rank: int
    # When it was ready for sure; None where nobody knows.
    ready: float | None
    holder: int | None = None
    claimed: bool = False
    # A person has meddled with it, or it was lost: its place in line is no longer that of its acceptance.
    touched: bool = False
    # It may be final: whoever waits behind it in a FIFO lane may go. Of the lease with this token it was said.
    leaving: bool = False
    left_by: int | None = None
    # A person may have opened it again after it was final.
    reopened: bool = False
    # The lease whose request is over, and that waits for its record.
    over: int | None = None
    # Passed by one of a lower rank, at this moment.
    passed: float | None = None


class Ledger:
    """All endpoints, deliveries and leases of one simulation."""

    def __init__(self) -> None:
        self.tracks: dict[UUID, Track] = {}
        self.stories: dict[UUID, Story] = {}
        self.tokens: set[int] = set()
        self.lanes: dict[UUID, list[Story]] = {}

    # What is set up and changed

    def opened(
        self, endpoint_id: UUID, *, fifo: bool, cap: int, rate: float | None, burst: int | None
    ) -> Track:
        """Note a new endpoint."""
        track = Track(endpoint_id, fifo=fifo, cap=cap, rate=rate, burst=burst, caps=[(cap, None)])
        self.tracks[endpoint_id] = track
        self.lanes[endpoint_id] = []
        return track

    def accepting(self, delivery_id: UUID, endpoint_id: UUID, *, seq: int, high: bool) -> Story:
        """Note a delivery whose transaction is about to be committed."""
        track = self.tracks[endpoint_id]
        rank = ranks.FIFO if track.fifo else (ranks.HIGH if high else ranks.NORMAL)
        story = Story(delivery_id, track=track, seq=seq, rank=rank, ready=None)
        self.stories[delivery_id] = story
        self.lanes[endpoint_id].append(story)
        return story

    def changing_cap(self, track: Track, cap: int) -> None:
        """Note that another cap is about to be in force."""
        track.caps.append((cap, None))

    def changed_cap(self, track: Track, cap: int) -> None:
        """Note that no other cap is in force any more."""
        now = time.monotonic()
        # Claims that began earlier may still return.
        track.caps = [(old, until if until is not None else now) for old, until in track.caps[:-1]]
        track.caps.append((cap, None))
        track.cap = cap

    # What claimers do

    def claimed(self, items: Sequence[Claimed], *, begun: float) -> None:
        """Check what a claim has taken."""
        now = time.monotonic()
        by_track: dict[UUID, list[Claimed]] = {}
        for item in items:
            by_track.setdefault(item.endpoint_id, []).append(item)
        for endpoint_id, mine in by_track.items():
            track = self.tracks[endpoint_id]
            track.claims.append((begun, now, len(mine)))
            for item in mine:
                self._take(track, item, begun=begun, now=now)
            if len(track.in_hand) > track.most(begun):
                raise Broken(
                    f"{len(track.in_hand)} of {endpoint_id} are in flight; its cap was {track.most(begun)}"
                )
            self._check_ranks(track, mine, begun=begun, now=now)

    def answered(self, item: Claimed) -> None:
        """Note that a request is over: its place may be used again, and its lease is young enough to hold that long."""
        story = self.stories[item.id]
        story.over = item.token
        story.track.in_hand.discard(item.token)

    def finishing(self, item: Claimed, *, final: bool) -> None:
        """Note that a result is about to be sent."""
        story = self.stories[item.id]
        self._drop(story, item.token)
        if final:
            story.leaving, story.left_by = True, item.token

    def held(self, endpoint_id: UUID, *, since: float, until: float) -> None:
        """Note that a receiver's wish to be left alone is recorded."""
        track = self.tracks[endpoint_id]
        if until > track.held[1]:
            track.held = (since, until)

    def losing(self, token: int, delivery_id: UUID) -> None:
        """Note that a lease is about to end."""
        story = self.stories[delivery_id]
        story.touched = True
        self._drop(story, token)

    def still_there(self, items: Iterable[Claimed]) -> None:
        """Take back that these leases may have ended their deliveries: the deliveries are in the queue.

        Meanwhile a later lease may have ended one of them: that stands.
        """
        for item in items:
            story = self.stories[item.id]
            if story.left_by == item.token:
                story.leaving = False

    # In the end

    def check_rates(self) -> None:
        """Check that no stretch of time has more claims than a burst and what came in that time."""
        for track in self.tracks.values():
            if track.rate is None or track.burst is None:
                continue
            ends = sorted(track.claims, key=lambda claim: claim[1])
            for begun in sorted({claim[0] for claim in track.claims}):
                taken = 0
                for first, last, count in ends:
                    if first < begun:
                        continue
                    taken += count
                    allowed = track.burst + track.rate * (last - begun + CLOCK_SECONDS)
                    if taken > allowed:
                        raise Broken(
                            f"{taken} of {track.id} were taken within {last - begun:.3f} s; its rate allows {allowed:.1f}"
                        )

    def _take(self, track: Track, item: Claimed, *, begun: float, now: float) -> None:
        story = self.stories.get(item.id)
        if story is None:
            # Made by an expanded fan-out; nobody knows since when.
            story = self.stories[item.id] = Story(
                item.id, track=track, seq=None, rank=ranks.NORMAL, ready=None
            )
            story.touched = True
        if item.token in self.tokens:
            raise Broken(f"the lease token {item.token} was given out twice")
        self.tokens.add(item.token)
        if story.holder is not None:
            raise Broken(f"{item.id} is leased twice: by {story.holder} and {item.token}")
        if story.passed is not None and begun > story.passed and not (story.touched or item.lost_count):
            raise Broken(f"{item.id} was ready when one of a lower rank was taken of {track.id}")
        forced = item.trigger != 0
        if track.closed_since is not None and begun > track.closed_since and not forced:
            raise Broken(f"{item.id} was taken of {track.id}, which is closed")
        if track.held[0] < begun and now < track.held[1] - CLOCK_SECONDS and not forced:
            raise Broken(f"{item.id} was taken of {track.id}, which is held")
        if track.fifo and story.seq is not None and not story.touched:
            self._check_line(track, story)
        story.holder, story.claimed, story.passed = item.token, True, None
        track.in_hand.add(item.token)

    def _check_line(self, track: Track, story: Story) -> None:
        for other in self.lanes[track.id]:
            assert story.seq is not None
            assert other.seq is not None
            if other.seq < story.seq and not (other.leaving or other.touched):
                raise Broken(
                    f"{story.id} went before {other.id}, which was accepted before it, in {track.id}"
                )

    def _check_ranks(self, track: Track, mine: Sequence[Claimed], *, begun: float, now: float) -> None:
        """Whoever is ready of a higher rank, and is only taken by a later claim, was passed by."""
        levels = [_level(item, self.stories[item.id]) for item in mine]
        if track.fifo or None in levels:
            return
        lowest = max(level for level in levels if level is not None)
        for story in self.lanes[track.id]:
            waits = not (story.claimed or story.touched or story.leaving)
            if waits and story.ready is not None and story.ready < begun and story.rank < lowest:
                story.passed = story.passed or now

    def _drop(self, story: Story, token: int) -> None:
        if story.holder == token:
            story.holder = None
            story.track.in_hand.discard(token)


def _level(item: Claimed, story: Story) -> int | None:
    if item.trigger or story.touched:
        return None
    return ranks.RETRY if item.schedule_step else story.rank
