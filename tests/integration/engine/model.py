"""What the engine promises about one statement at a time, in plain Python: the twin that the SQL is held against.

Nothing here knows how the SQL does it. Time is not modelled: whatever waits, waits until a test says that its
time has come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.deliveries import ranks
from app.deliveries.record import Settle
from app.deliveries.state import State

if TYPE_CHECKING:
    from uuid import UUID

READY, LEASED, SCHEDULED = 0, 1, 2
MANUAL = 1
LOSSES_ALONE = 3


@dataclass
class Parcel:
    """One delivery."""

    id: UUID
    lane: Road
    seq: int
    rank: int
    state: State = State.PENDING
    place: int = READY
    trigger: int = 0
    token: int | None = None
    attempts: int = 0
    step: int = 0
    blocked: int = 0
    lost: int = 0
    lost_alone: int = 0
    alone: bool = False
    cancel_requested: bool = False
    late: bool = False
    # It has failed or was given back, and is due later.
    waits: bool = False
    # In which probing of its circuit it was leased.
    episode: int | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Its place in its lane."""
        return self.rank, self.seq

    @property
    def queued(self) -> bool:
        """Whether there is a queue row."""
        return self.state is State.PENDING

    def end(self, state: State) -> None:
        """Make it final."""
        self.state, self.token = state, None

    def wait(self, place: int) -> None:
        """Give the lease up and wait."""
        self.place, self.token, self.alone = place, None, False


@dataclass
class Fuse:
    """The circuit of one endpoint."""

    state: str = "closed"
    # Open: whether a probe may go. Never by itself where a person holds it open (None).
    due: bool | None = False
    # Which time of probing this is: what was leased in an earlier one says nothing.
    episode: int = 0
    good_probes: int = 0
    probe_failed: bool = False
    ramp: int | None = None
    failures: int = 0
    good: int = 0
    bad: int = 0

    def note(self, results: list[tuple[bool, int | None]], *, cap: int) -> None:
        """Take in the results of one flush: (good or bad, in which probing it was leased)."""
        goods = sum(good for good, _ in results)
        bads = len(results) - goods
        self.good, self.bad = self.good + goods, self.bad + bads
        for good, episode in results:
            self.failures = 0 if good else self.failures + 1
            if self.state == "half_open" and episode == self.episode:
                self.good_probes += good
                self.probe_failed = self.probe_failed or not good
        if self.ramp is not None and bads:
            self.ramp = max(1, self.ramp // 2)
        elif self.ramp is not None:
            self.ramp = self.ramp + goods if self.ramp + goods < cap else None

    def decide(self) -> None:
        """Open or close, if it has come to that."""
        if (self.state == "closed" and (self.failures >= 10 or self._fails_mostly())) or (
            self.state == "half_open" and self.probe_failed
        ):
            self.open(due=False)
        elif self.state == "half_open" and self.good_probes >= 3:
            self.close()

    def open(self, *, due: bool | None) -> None:
        """Let nothing through until a probe is due."""
        self.state, self.due, self.good_probes, self.probe_failed, self.ramp = "open", due, 0, False, None

    def probe(self) -> None:
        """Let one through at a time."""
        self.state, self.due, self.good_probes, self.probe_failed = "half_open", None, 0, False
        self.episode += 1

    def close(self) -> None:
        """Begin anew, carefully."""
        self.state, self.due, self.good_probes, self.probe_failed, self.ramp = "closed", None, 0, False, 1
        self.failures = self.good = self.bad = 0

    def _fails_mostly(self) -> bool:
        results = self.good + self.bad
        return results >= 20 and self.bad >= 0.7 * results


@dataclass
class Road:
    """One endpoint, as claims see it."""

    id: UUID
    fifo: bool
    cap: int
    tokens: int | None
    burst: int | None
    enabled: bool = True
    paused: bool = False
    deleted: bool = False
    # Seconds until the hold ends; whether it is the wait of a FIFO head (or what the receiver asked for).
    hold: float | None = None
    backoff: bool = False
    fuse: Fuse = field(default_factory=Fuse)
    parcels: list[Parcel] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether anything but what a person forces may go."""
        return self.enabled and not self.paused and not self.deleted

    @property
    def in_flight(self) -> int:
        """How many are leased."""
        return sum(parcel.queued and parcel.place == LEASED for parcel in self.parcels)

    @property
    def line(self) -> list[Parcel]:
        """What is ready, first in line first."""
        ready = [parcel for parcel in self.parcels if parcel.queued and parcel.place == READY]
        return sorted(ready, key=lambda parcel: parcel.order)

    @property
    def blocked(self) -> bool:
        """Whether only what a person forces may go."""
        fuse = self.fuse
        probing = fuse.state == "half_open" or (fuse.state == "open" and fuse.due is True)
        return (
            not self.open
            or self.hold is not None
            or (fuse.state != "closed" and (not probing or self.in_flight > 0))
        )

    def claimable(self, share: int, *, answered: int = 0) -> list[Parcel]:
        """Return what a claim takes whose claimer has `answered` requests to record."""
        room = 1 if self.fifo else self.cap if self.fuse.ramp is None else min(self.cap, self.fuse.ramp)
        if self.fuse.state != "closed" and not self.blocked:
            room = 1
        elif not self.fifo:
            room += answered
        room = min(share, room - self.in_flight)
        if self.tokens is not None:
            room = min(room, self.tokens)
        # A FIFO head is overtaken by nobody, not even while it is not to be had itself.
        line = self.line[:1] if self.fifo else self.line
        may_go = [parcel for parcel in line if not parcel.late and (parcel.rank < 0 or not self.blocked)]
        return may_go[: max(0, room)]

    def take(self, parcels: list[Parcel], tokens: list[int]) -> None:
        """Lease them."""
        if parcels and self.fuse.state == "open" and not self.blocked:
            self.fuse.probe()
        for parcel, token in zip(parcels, tokens, strict=True):
            parcel.place, parcel.token, parcel.alone = LEASED, token, False
            parcel.episode = self.fuse.episode if self.fuse.state == "half_open" else None
        if self.tokens is not None:
            self.tokens -= len(parcels)

    def settle(
        self,
        parcel: Parcel,
        settle: Settle,
        *,
        delay: float | None = None,
        retry_after: float | None = None,
        blocked: bool = False,
    ) -> None:
        """Take a result in whose lease holds."""
        attempted = settle not in {Settle.RELEASED, Settle.CANCELLED}
        parcel.attempts += attempted
        if parcel.cancel_requested:
            settle = Settle.CANCELLED
        if settle is Settle.RETRY:
            self._wait(parcel, delay, given_back=False)
            parcel.rank = ranks.FIFO if self.fifo else ranks.RETRY
            parcel.trigger = parcel.lost = parcel.lost_alone = 0
            parcel.step, parcel.blocked = (
                (parcel.step, parcel.blocked + 1) if blocked else (parcel.step + 1, 0)
            )
        elif settle is Settle.RELEASED:
            self._wait(parcel, delay, given_back=True)
        else:
            parcel.end(State(settle.value))
            if self.backoff:
                self.end_hold()
        if retry_after is not None:
            self.hold, self.backoff = max(self.hold or 0.0, retry_after), False

    def lose(self, parcel: Parcel) -> None:
        """A sweep finds its lease ended."""
        parcel.attempts += 1
        if parcel.cancel_requested:
            parcel.end(State.CANCELLED)
            return
        parcel.lost += 1
        parcel.lost_alone += parcel.alone
        if parcel.alone and parcel.lost_alone == LOSSES_ALONE:
            parcel.end(State.DEAD)
        else:
            parcel.wait(READY)
            parcel.waits = False

    def drop(self, *parcels: Parcel, state: State) -> None:
        """End what waits: cancelled or expired. The wait of a FIFO lane is that of its head."""
        for parcel in parcels:
            parcel.end(state)
        if self.backoff and not any(parcel.waits for parcel in self.line[:1]):
            self.end_hold()

    def cancel(self, *parcels: Parcel) -> None:
        """A person cancels them; what is being sent ends with its result."""
        waiting = [parcel for parcel in parcels if parcel.place != LEASED]
        for parcel in parcels:
            parcel.cancel_requested = parcel.place == LEASED
        if waiting:
            self.drop(*waiting, state=State.CANCELLED)

    def retry(self, parcel: Parcel, *, seq: int) -> None:
        """A person wants it sent at once; nobody passes a FIFO lane's line."""
        if parcel.queued:
            others = [other for other in self.parcels if other.queued and other is not parcel]
            behind = self.fifo and any(
                other.place == LEASED or other.rank < 0 or other.seq < parcel.seq for other in others
            )
            if not behind:
                parcel.rank = ranks.FORCED
            parcel.place, parcel.step, parcel.blocked = READY, 0, 0
        else:
            parcel.state, parcel.place, parcel.seq, parcel.rank = State.PENDING, READY, seq, ranks.FORCED
            parcel.step = parcel.blocked = parcel.lost = parcel.lost_alone = 0
            parcel.token, parcel.alone, parcel.cancel_requested = None, False, False
        parcel.trigger, parcel.late, parcel.waits, parcel.cancel_requested = MANUAL, False, False, False

    def close(self) -> None:
        """What a person wanted sent at once is forgotten when the endpoint is paused or disabled."""
        for parcel in self.line:
            if parcel.rank < 0:
                parcel.rank = ranks.FIFO if self.fifo else ranks.RETRY

    def end_hold(self) -> None:
        """Its time has come, or its reason has gone."""
        self.hold, self.backoff = None, False

    def _wait(self, parcel: Parcel, delay: float | None, *, given_back: bool) -> None:
        # A FIFO head stays in its place and its lane waits, or the next one would overtake it.
        stays = self.fifo and not (given_back and parcel.rank < 0)
        parcel.wait(READY if delay is None or stays else SCHEDULED)
        if delay is None:
            return
        parcel.waits = True
        if self.fifo:
            self.backoff = self.hold is None or self.backoff
            self.hold = max(self.hold or 0.0, delay)
