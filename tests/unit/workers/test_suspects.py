"""Deliveries that must be sent alone: whose turn it is."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from app.deliveries.claim import Claimed
from workers.suspects import TURN_SECONDS, Suspects


def suspect(n: int) -> Claimed:
    """Return a delivery that has lost a worker."""
    return Claimed(
        id=UUID(int=n),
        token=n,
        endpoint_id=UUID(int=1),
        workspace_id=UUID(int=2),
        application_id=UUID(int=3),
        event_id=UUID(int=4),
        settings_version=1,
        timeout_seconds=15,
        fifo=False,
        trigger=0,
        attempt_count=0,
        schedule_step=0,
        blocked_count=0,
        lost_count=1,
        due_at=datetime(2026, 1, 31, tzinfo=UTC),
        queue_ms=0.0,
    )


def suspects_of(count: int) -> Suspects:
    """Return this many suspects that wait."""
    made = Suspects(most=count)
    for n in range(count):
        assert made.add(suspect(n))
    return made


def test_without_suspects_it_is_never_their_turn() -> None:
    """Nothing stops the others where nobody must be alone."""
    suspects = Suspects(most=5)

    assert not suspects.is_their_turn(in_flight=7, now=0.0)
    assert suspects.next(in_flight=0) is None


def test_others_finish_before_the_first_is_sent() -> None:
    """Once it is their turn nothing else begins, and the first goes when all others are recorded."""
    suspects = suspects_of(2)

    busy = suspects.is_their_turn(in_flight=5, now=0.0), suspects.next(in_flight=5)
    idle = suspects.is_their_turn(in_flight=2, now=0.5), suspects.next(in_flight=2)

    assert (busy, idle) == ((True, None), (True, suspect(0)))


def test_next_waits_for_the_one_before() -> None:
    """Two suspects are never under way together."""
    suspects = suspects_of(2)
    suspects.is_their_turn(in_flight=2, now=0.0)
    suspects.next(in_flight=2)

    sending = suspects.is_their_turn(in_flight=2, now=0.1), suspects.next(in_flight=2)
    done = suspects.is_their_turn(in_flight=1, now=0.2), suspects.next(in_flight=1)

    assert (sending, done[0], done[1] is not None) == ((True, None), True, True)


def test_others_get_as_long_a_turn() -> None:
    """After a second, or after a slow one, the process belongs to the others for as long as it took."""
    suspects = suspects_of(3)
    suspects.is_their_turn(in_flight=3, now=0.0)
    suspects.next(in_flight=3)

    took = 15 * TURN_SECONDS
    assert not suspects.is_their_turn(in_flight=2, now=took)
    assert not suspects.is_their_turn(in_flight=9, now=2 * took - 0.1)
    assert suspects.is_their_turn(in_flight=9, now=2 * took)


def test_idle_others_give_their_turn_away() -> None:
    """When nobody else has anything to do, the next suspect need not wait."""
    suspects = suspects_of(3)
    suspects.is_their_turn(in_flight=3, now=0.0)
    suspects.next(in_flight=3)
    suspects.is_their_turn(in_flight=2, now=5.0)

    assert not suspects.end_wait(in_flight=3)
    assert suspects.end_wait(in_flight=2)
    assert suspects.is_their_turn(in_flight=2, now=5.0)


def test_turn_ends_with_the_last_one() -> None:
    """When all are sent the others go on at once."""
    suspects = suspects_of(1)
    suspects.is_their_turn(in_flight=1, now=0.0)
    suspects.next(in_flight=1)

    assert suspects.is_their_turn(in_flight=1, now=0.1)
    assert not suspects.is_their_turn(in_flight=0, now=0.2)


def test_only_so_many_are_kept() -> None:
    """A process does not fill its slots with deliveries that wait."""
    suspects = suspects_of(2)

    assert not suspects.add(suspect(9))
    assert len(suspects) == 2


def test_stop_gives_them_all_up() -> None:
    """What waits is taken back to be handed back."""
    suspects = suspects_of(2)

    assert [item.token for item in suspects.take_all()] == [0, 1]
    assert len(suspects) == 0
