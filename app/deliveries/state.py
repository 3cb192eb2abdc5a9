"""The states of a delivery and every legal move: one table, pure. All writers go through it.

`sending` is stored as a lease on the queue row; the other states are stored on the delivery.
`docs/reference/states.md` is made from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.core.errors import BellwireError


class State(StrEnum):
    """Where a delivery is."""

    PENDING = "pending"
    SENDING = "sending"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Cause(StrEnum):
    """Why a delivery moves."""

    ACCEPTED = "accepted"
    CLAIMED = "claimed"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXHAUSTED = "exhausted"
    LEASE_LOST = "lease_lost"
    HANDED_BACK = "handed_back"
    POISONOUS = "poisonous"
    CANCEL = "cancel"
    RETRY = "retry"
    REPLAY = "replay"
    EXPIRED = "expired"
    RESOLVED = "resolved"


class QueueRow(StrEnum):
    """What becomes of the delivery's row in the live queue."""

    READY = "ready"
    LEASED = "leased"
    SCHEDULED = "scheduled"
    DELETED = "deleted"


class IllegalMove(BellwireError):
    """A writer tried a move that the table does not have: a bug, never the caller's fault."""


@dataclass(frozen=True, slots=True)
class Move:
    """One legal move: `source` is None for a new delivery."""

    source: State | None
    target: State
    cause: Cause
    queue_row: QueueRow
    meaning: str


FINAL = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED})

MOVES = (
    Move(None, State.PENDING, Cause.ACCEPTED, QueueRow.READY, "an event was accepted or fanned out"),
    Move(None, State.PENDING, Cause.REPLAY, QueueRow.READY, "replayed to another endpoint"),
    Move(State.PENDING, State.SENDING, Cause.CLAIMED, QueueRow.LEASED, "a worker leased it; fenced by a token"),
    Move(State.SENDING, State.SUCCEEDED, Cause.DELIVERED, QueueRow.DELETED, "2xx, and the lease was still ours"),
    Move(State.SENDING, State.PENDING, Cause.FAILED, QueueRow.SCHEDULED, "failed, with delays left (FIFO: ready, lane held)"),
    Move(State.SENDING, State.PENDING, Cause.LEASE_LOST, QueueRow.READY, "the lease ended without a result; due now, with an attempt `unknown`"),
    Move(State.SENDING, State.PENDING, Cause.HANDED_BACK, QueueRow.READY, "a worker stopped before it was sent; no attempt"),
    Move(State.SENDING, State.DEAD, Cause.EXHAUSTED, QueueRow.DELETED, "schedule used up, 410, or the third blocked target"),
    Move(State.SENDING, State.DEAD, Cause.POISONOUS, QueueRow.DELETED, "the third worker was lost while sending it alone"),
    Move(State.SENDING, State.CANCELLED, Cause.CANCEL, QueueRow.DELETED, "cancelled meanwhile; the attempt is kept"),
    Move(State.PENDING, State.PENDING, Cause.RETRY, QueueRow.READY, "retry now: due at once, fresh schedule"),
    Move(State.PENDING, State.CANCELLED, Cause.CANCEL, QueueRow.DELETED, "cancelled, endpoint or application deleted, or event erased"),
    Move(State.PENDING, State.DEAD, Cause.EXPIRED, QueueRow.DELETED, "older than its deadline"),
    Move(State.DEAD, State.CANCELLED, Cause.RESOLVED, QueueRow.DELETED, "marked resolved: somebody dealt with it by other means"),
    *(
        Move(source, State.PENDING, cause, QueueRow.READY, meaning)
        for source in (State.SUCCEEDED, State.DEAD, State.CANCELLED)
        for cause, meaning in ((Cause.RETRY, "sent again by a person"), (Cause.REPLAY, "sent again by a replay"))
    ),
)  # fmt: skip

_TABLE = {(move.source, move.cause, move.target): move for move in MOVES}


def require_move(source: State | None, target: State, *, cause: Cause) -> Move:
    """Return the move, or raise.

    Raises:
        IllegalMove: the table has no such move.

    """
    move = _TABLE.get((source, cause, target))
    if move is None:
        raise IllegalMove(f"A delivery cannot go from {source or 'nothing'} to {target} because of {cause}.")
    return move
