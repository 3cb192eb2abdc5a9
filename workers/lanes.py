"""Whose turn it is: lanes (endpoints with ready deliveries), walked round robin. Pure and in memory.

The walk goes workspace → application → endpoint, so that a workspace with ten thousand endpoints gets one
turn, not ten thousand. What a claim found decides about a lane: empty ones are forgotten (the next look at the
queue finds them again), blocked and full ones are parked for a while.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from app.deliveries.claim import Lane, LaneResult

MAX_LANES = 20_000
# A lane that is closed for long is looked at again so often: its settings may have changed.
MAX_PARK_SECONDS = 1.0
# A lane at its cap is free again when one of its requests is over or recorded, here or by another worker.
FULL_PARK_SECONDS = 0.05


class LaneBook:
    """The lanes that this worker knows to have work."""

    def __init__(self) -> None:
        self._tree: OrderedDict[UUID, OrderedDict[UUID, OrderedDict[UUID, None]]] = OrderedDict()
        self._lanes: dict[UUID, Lane] = {}
        self._parked: dict[UUID, float] = {}
        # Those of them that wait for nothing but a place.
        self._full: set[UUID] = set()
        self._parked_by_time: list[tuple[float, UUID]] = []

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def eligible(self) -> int:
        """How many lanes may be claimed from now."""
        return len(self._lanes) - len(self._parked)

    def add(self, lanes: Iterable[Lane]) -> int:
        """Note lanes that have ready deliveries; return how many of them are news."""
        news = 0
        for lane in lanes:
            if lane.endpoint_id in self._lanes or len(self._lanes) >= MAX_LANES:
                continue
            self._lanes[lane.endpoint_id] = lane
            self._link(lane)
            news += 1
        return news

    def next(self, turns: int, *, now: float) -> dict[UUID, int]:
        """Deal out this many turns and return how many of them each lane got, first come first served.

        The only lane of a workspace gets as many as all lanes of another workspace together.
        """
        self._unpark_due(now)
        dealt: dict[UUID, int] = {}
        for _ in range(turns):
            endpoint_id = self._rotate()
            if endpoint_id is None:
                break
            dealt[endpoint_id] = dealt.get(endpoint_id, 0) + 1
        return dealt

    def park(self, endpoint_id: UUID, *, now: float) -> None:
        """Pass a lane by until one of its requests is over or recorded: this process has enough of it under way."""
        if endpoint_id in self._lanes:
            self._park(endpoint_id, now + MAX_PARK_SECONDS, full=True)

    def settle(self, result: LaneResult, *, now: float) -> None:
        """Note what a claim found in a lane."""
        endpoint_id = result.endpoint_id
        if endpoint_id not in self._lanes:
            return
        if result.blocked:
            wait = result.wait_seconds if result.wait_seconds is not None else MAX_PARK_SECONDS
            self._park(endpoint_id, now + min(max(wait, 0.0), MAX_PARK_SECONDS), full=False)
        elif result.taken < result.room or (result.room and not result.more):
            self.forget(endpoint_id)
        elif result.room < result.share:
            wait = result.wait_seconds if result.wait_seconds is not None else FULL_PARK_SECONDS
            self._park(endpoint_id, now + min(wait, MAX_PARK_SECONDS), full=result.wait_seconds is None)

    def unpark(self, endpoint_id: UUID) -> None:
        """Let a lane take part again: one of its requests has been recorded."""
        if self._parked.pop(endpoint_id, None) is not None:
            self._full.discard(endpoint_id)
            self._link(self._lanes[endpoint_id])

    def unpark_full(self, endpoint_id: UUID) -> bool:
        """Let a lane take part again that waits for a place: one of its requests is over. Return whether it did."""
        if endpoint_id not in self._full:
            return False
        self.unpark(endpoint_id)
        return True

    def forget(self, endpoint_id: UUID) -> None:
        """Drop a lane that has nothing ready (or whose endpoint is gone)."""
        lane = self._lanes.pop(endpoint_id, None)
        self._full.discard(endpoint_id)
        if lane is not None and self._parked.pop(endpoint_id, None) is None:
            self._unlink(lane)

    def next_unpark(self) -> float | None:
        """Return when the first parked lane may be looked at again, or None."""
        while (
            self._parked_by_time
            and self._parked.get(self._parked_by_time[0][1]) != self._parked_by_time[0][0]
        ):
            heapq.heappop(self._parked_by_time)
        return self._parked_by_time[0][0] if self._parked_by_time else None

    def _park(self, endpoint_id: UUID, until: float, *, full: bool) -> None:
        if endpoint_id not in self._parked:
            self._unlink(self._lanes[endpoint_id])
        self._parked[endpoint_id] = until
        if full:
            self._full.add(endpoint_id)
        else:
            self._full.discard(endpoint_id)
        heapq.heappush(self._parked_by_time, (until, endpoint_id))

    def _unpark_due(self, now: float) -> None:
        while (due := self.next_unpark()) is not None and due <= now:
            self.unpark(heapq.heappop(self._parked_by_time)[1])

    def _link(self, lane: Lane) -> None:
        applications = self._tree.setdefault(lane.workspace_id, OrderedDict())
        applications.setdefault(lane.application_id, OrderedDict())[lane.endpoint_id] = None

    def _unlink(self, lane: Lane) -> None:
        applications = self._tree[lane.workspace_id]
        endpoints = applications[lane.application_id]
        del endpoints[lane.endpoint_id]
        if not endpoints:
            del applications[lane.application_id]
        if not applications:
            del self._tree[lane.workspace_id]

    def _rotate(self) -> UUID | None:
        if not self._tree:
            return None
        workspace_id, applications = next(iter(self._tree.items()))
        application_id, endpoints = next(iter(applications.items()))
        endpoint_id = next(iter(endpoints))
        endpoints.move_to_end(endpoint_id)
        applications.move_to_end(application_id)
        self._tree.move_to_end(workspace_id)
        return endpoint_id
