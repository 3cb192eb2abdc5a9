"""The state table: every legal move, and that nothing else is one."""

from __future__ import annotations

from itertools import product

import pytest

from app.deliveries.state import (
    FINAL,
    MOVES,
    Cause,
    IllegalMove,
    QueueRow,
    State,
    require_move,
)

# settled.md §1, written down once more by hand: (from, to, cause, what becomes of the queue row).
P, S, OK, D, X = State.PENDING, State.SENDING, State.SUCCEEDED, State.DEAD, State.CANCELLED
TABLE = {
    (None, P, Cause.ACCEPTED, QueueRow.READY),
    (None, P, Cause.REPLAY, QueueRow.READY),
    (P, S, Cause.CLAIMED, QueueRow.LEASED),
    (S, OK, Cause.DELIVERED, QueueRow.DELETED),
    (S, P, Cause.FAILED, QueueRow.SCHEDULED),
    (S, P, Cause.LEASE_LOST, QueueRow.READY),
    (S, P, Cause.HANDED_BACK, QueueRow.READY),
    (S, D, Cause.EXHAUSTED, QueueRow.DELETED),
    (S, D, Cause.POISONOUS, QueueRow.DELETED),
    (S, X, Cause.CANCEL, QueueRow.DELETED),
    (P, P, Cause.RETRY, QueueRow.READY),
    (P, X, Cause.CANCEL, QueueRow.DELETED),
    (P, D, Cause.EXPIRED, QueueRow.DELETED),
    (D, X, Cause.RESOLVED, QueueRow.DELETED),
    (OK, P, Cause.RETRY, QueueRow.READY),
    (D, P, Cause.RETRY, QueueRow.READY),
    (X, P, Cause.RETRY, QueueRow.READY),
    (OK, P, Cause.REPLAY, QueueRow.READY),
    (D, P, Cause.REPLAY, QueueRow.READY),
    (X, P, Cause.REPLAY, QueueRow.READY),
}


def test_table_is_the_one_that_was_settled() -> None:
    """The moves are those of the design, each once."""
    found = [(move.source, move.target, move.cause, move.queue_row) for move in MOVES]

    assert (set(found), len(found)) == (TABLE, len(TABLE))


@pytest.mark.parametrize(("source", "target", "cause"), list(product([None, *State], State, Cause)))
def test_only_moves_of_the_table_are_legal(source: State | None, target: State, cause: Cause) -> None:
    """Every combination of states and cause is either in the table or refused."""
    legal = {move[:3] for move in TABLE}

    if (source, target, cause) in legal:
        move = require_move(source, target, cause=cause)
        assert (move.source, move.target, move.cause) == (source, target, cause)
    else:
        with pytest.raises(IllegalMove, match=str(cause)):
            require_move(source, target, cause=cause)


def test_final_states_have_no_queue_row() -> None:
    """What is final has left the queue; only a person brings it back, or marks a dead one as resolved."""
    assert {move.target for move in MOVES if move.queue_row is QueueRow.DELETED} == FINAL
    leaving = {(move.cause, move.target) for move in MOVES if move.source in FINAL}
    assert leaving == {(Cause.RETRY, P), (Cause.REPLAY, P), (Cause.RESOLVED, X)}


def test_each_move_says_what_it_means() -> None:
    """The reference is made from these sentences."""
    assert all(move.meaning for move in MOVES)
