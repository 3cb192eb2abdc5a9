"""Whose turn it is: workspace by workspace, without anybody being passed by for ever."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.deliveries.claim import LOWEST, Lane, LaneResult
from workers.lanes import FULL_PARK_SECONDS, MAX_LANES, MAX_PARK_SECONDS, LaneBook


def lane(workspace: int, application: int, endpoint: int) -> Lane:
    """Return a lane; its endpoint's id holds all three numbers."""
    return Lane(UUID(int=workspace), UUID(int=application), endpoint_of(workspace, application, endpoint))


def endpoint_of(workspace: int, application: int, endpoint: int) -> UUID:
    """Return the id of an endpoint."""
    return UUID(int=(workspace << 32) + (application << 16) + endpoint)


def found(
    endpoint_id: UUID,
    *,
    taken: int,
    room: int,
    share: int = 2,
    blocked: bool = False,
    wait: float | None = None,
    more: bool = True,
) -> LaneResult:
    """Return what a claim found."""
    return LaneResult(
        lane=Lane(LOWEST, LOWEST, endpoint_id),
        share=share,
        settings_version=1,
        timeout_seconds=15,
        taken=taken,
        room=room,
        blocked=blocked,
        wait_seconds=wait,
        more=more,
    )


def book_of(*lanes: Lane) -> LaneBook:
    """Return a book that knows these lanes."""
    book = LaneBook()
    book.add(lanes)
    return book


def turns_of_workspaces(dealt: dict[UUID, int]) -> Counter[int]:
    """Add up the turns of each workspace."""
    turns: Counter[int] = Counter()
    for endpoint_id, count in dealt.items():
        turns[endpoint_id.int >> 32] += count
    return turns


def test_empty_book_deals_nothing() -> None:
    """Without lanes there are no turns, whatever was asked for."""
    assert LaneBook().next(10, now=0.0) == {}


def test_large_workspace_gets_one_workspaces_turns() -> None:
    """A workspace with a thousand endpoints gets as many turns as one with a single endpoint."""
    book = book_of(*(lane(1, 1, n) for n in range(1_000)), lane(2, 1, 1), lane(3, 1, 1))

    assert turns_of_workspaces(book.next(300, now=0.0)) == {1: 100, 2: 100, 3: 100}


def test_large_application_gets_one_applications_turns() -> None:
    """Within a workspace the turns go from application to application."""
    book = book_of(*(lane(1, 1, n) for n in range(100)), lane(1, 2, 1))

    dealt = book.next(50, now=0.0)

    assert dealt[endpoint_of(1, 2, 1)] == 25
    assert sum(dealt.values()) == 50


def test_lanes_of_an_application_take_turns_over_many_claims() -> None:
    """Turns go on where they ended; after as many claims as needed each lane had one."""
    book = book_of(*(lane(1, 1, n) for n in range(10)))

    dealt: Counter[UUID] = Counter()
    for _ in range(5):
        dealt.update(book.next(2, now=0.0))

    assert dealt == {endpoint_of(1, 1, n): 1 for n in range(10)}


def test_known_lane_is_not_added_twice() -> None:
    """The walk over the queue finds the same lanes again and again."""
    book = book_of(lane(1, 1, 1), lane(1, 1, 2))

    news = book.add([lane(1, 1, 1), lane(1, 1, 3)])

    assert (news, len(book), book.eligible) == (1, 3, 3)


def test_book_is_bounded() -> None:
    """More lanes than the book holds are left for a later walk."""
    book = LaneBook()

    book.add(lane(1, 1, n) for n in range(MAX_LANES + 10))

    assert len(book) == MAX_LANES


def test_empty_lane_is_forgotten() -> None:
    """A lane that gave less than it might have has nothing more."""
    book = book_of(lane(1, 1, 1), lane(1, 1, 2))

    book.settle(found(endpoint_of(1, 1, 1), taken=1, room=2), now=0.0)

    assert (len(book), book.next(4, now=0.0)) == (1, {endpoint_of(1, 1, 2): 4})


def test_lane_that_gave_all_it_might_stays() -> None:
    """There may be more in it."""
    book = book_of(lane(1, 1, 1))

    book.settle(found(endpoint_of(1, 1, 1), taken=2, room=2), now=0.0)

    assert book.eligible == 1


def test_lane_without_more_is_forgotten() -> None:
    """A lane whose last deliveries were taken is not visited again in vain."""
    book = book_of(lane(1, 1, 1), lane(1, 1, 2))

    book.settle(found(endpoint_of(1, 1, 1), taken=2, room=2, more=False), now=0.0)

    assert set(book.next(4, now=0.0)) == {endpoint_of(1, 1, 2)}


@pytest.mark.parametrize(
    ("result", "seconds"),
    [
        # Closed, with no time known; held for long; held for a moment.
        ({"taken": 0, "room": 5, "blocked": True}, MAX_PARK_SECONDS),
        ({"taken": 0, "room": 5, "blocked": True, "wait": 600.0}, MAX_PARK_SECONDS),
        ({"taken": 0, "room": 5, "blocked": True, "wait": 0.25}, 0.25),
        # A forced delivery went, the others wait.
        ({"taken": 5, "room": 5, "blocked": True}, MAX_PARK_SECONDS),
        # At its cap; out of tokens.
        ({"taken": 3, "room": 3}, FULL_PARK_SECONDS),
        ({"taken": 0, "room": 0}, FULL_PARK_SECONDS),
        ({"taken": 0, "room": 0, "wait": 0.5}, 0.5),
        ({"taken": 0, "room": 0, "wait": 60.0}, MAX_PARK_SECONDS),
    ],
)
def test_blocked_and_full_lanes_are_parked(result: dict[str, float | bool], seconds: float) -> None:
    """They are passed by until it is worth another look, and then take part again."""
    book = book_of(lane(1, 1, 1))

    book.settle(found(endpoint_of(1, 1, 1), share=5, **result), now=100.0)  # type: ignore[arg-type]

    assert (book.eligible, book.next_unpark()) == (0, pytest.approx(100 + seconds))
    assert book.next(1, now=100 + seconds * 0.9) == {}
    assert book.next(1, now=100 + seconds) == {endpoint_of(1, 1, 1): 1}
    assert book.next_unpark() is None


def test_parked_lane_leaves_its_turns_to_the_others() -> None:
    """Five hundred closed lanes in front cost those behind them nothing."""
    book = book_of(*(lane(1, 1, n) for n in range(500)), lane(1, 1, 900))
    for n in range(500):
        book.settle(found(endpoint_of(1, 1, n), taken=0, room=1, blocked=True, share=1), now=0.0)

    assert book.next(3, now=0.5) == {endpoint_of(1, 1, 900): 3}


def test_recorded_result_ends_the_parking() -> None:
    """A lane at its cap takes part again as soon as one of its requests is recorded."""
    book = book_of(lane(1, 1, 1))
    book.park(endpoint_of(1, 1, 1), now=0.0)
    parked = book.eligible

    book.unpark(endpoint_of(1, 1, 1))

    assert (parked, book.eligible, book.next_unpark()) == (0, 1, None)


def test_unknown_lanes_are_none_of_its_business() -> None:
    """Results of lanes that were forgotten meanwhile change nothing."""
    book = book_of(lane(1, 1, 1))
    stranger = endpoint_of(9, 9, 9)

    book.settle(found(stranger, taken=0, room=1, share=1), now=0.0)
    book.park(stranger, now=0.0)
    book.unpark(stranger)
    book.forget(stranger)

    assert (len(book), book.eligible) == (1, 1)


@pytest.mark.parametrize(
    ("result", "back"),
    [
        (found(endpoint_of(1, 1, 1), taken=1, room=1), True),
        (found(endpoint_of(1, 1, 1), taken=1, room=1, wait=0.5), False),
        (found(endpoint_of(1, 1, 1), taken=0, room=0, blocked=True), False),
        (found(endpoint_of(1, 1, 1), taken=2, room=2), False),
    ],
    ids=["its cap is reached", "no token is left", "blocked", "there is more"],
)
def test_an_answer_brings_back_what_waits_for_a_place(result: LaneResult, *, back: bool) -> None:
    """A lane that a token, a hold or a circuit keeps is not asked again for each answer."""
    book = book_of(lane(1, 1, 1))
    book.settle(result, now=0.0)
    parked = not book.eligible

    assert book.unpark_full(result.endpoint_id) is back
    assert book.eligible == (1 if back or not parked else 0)
    # Once is enough; and what was parked anew for another reason waits for that.
    assert book.unpark_full(result.endpoint_id) is False


def test_an_answer_brings_back_what_had_its_share() -> None:
    """A lane that was passed by because this process has enough of it under way comes back, and one that is gone not."""
    book = book_of(lane(1, 1, 1), lane(1, 1, 2))
    one, other = endpoint_of(1, 1, 1), endpoint_of(1, 1, 2)
    for endpoint_id in (one, other):
        book.park(endpoint_id, now=0.0)
    book.forget(other)

    assert (book.unpark_full(one), book.unpark_full(other)) == (True, False)


LANES = st.builds(lane, st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))


class Walk(RuleBasedStateMachine):
    """Adds, parks, forgets and deals at random, beside a model of plain sets."""

    def __init__(self) -> None:
        super().__init__()
        self.book = LaneBook()
        self.known: dict[UUID, Lane] = {}
        self.parked: dict[UUID, float] = {}
        self.now = 0.0

    @rule(lanes=st.lists(LANES, max_size=6))
    def add(self, lanes: list[Lane]) -> None:
        self.book.add(lanes)
        for one in lanes:
            self.known.setdefault(one.endpoint_id, one)

    @rule(
        one=LANES,
        taken=st.integers(0, 3),
        room=st.integers(0, 3),
        blocked=st.booleans(),
        wait=st.none() | st.floats(0, 3),
        more=st.booleans(),
    )
    def settle(
        self, one: Lane, *, taken: int, room: int, blocked: bool, wait: float | None, more: bool
    ) -> None:
        taken = min(taken, room)
        result = found(
            one.endpoint_id, taken=taken, room=room, share=3, blocked=blocked, wait=wait, more=more
        )
        self.book.settle(result, now=self.now)
        if one.endpoint_id not in self.known:
            return
        if blocked:
            pause = MAX_PARK_SECONDS if wait is None else min(wait, MAX_PARK_SECONDS)
            self.parked[one.endpoint_id] = self.now + pause
        elif taken < room or (room and not more):
            del self.known[one.endpoint_id]
            self.parked.pop(one.endpoint_id, None)
        elif room < 3:
            pause = FULL_PARK_SECONDS if wait is None else min(wait, MAX_PARK_SECONDS)
            self.parked[one.endpoint_id] = self.now + pause

    @rule(one=LANES)
    def unpark(self, one: Lane) -> None:
        self.book.unpark(one.endpoint_id)
        self.parked.pop(one.endpoint_id, None)

    @rule(one=LANES)
    def forget(self, one: Lane) -> None:
        self.book.forget(one.endpoint_id)
        self.known.pop(one.endpoint_id, None)
        self.parked.pop(one.endpoint_id, None)

    @rule(seconds=st.floats(0, 1.5), turns=st.integers(1, 40))
    def deal(self, seconds: float, turns: int) -> None:
        self.now += seconds
        self.parked = {one: until for one, until in self.parked.items() if until > self.now}

        dealt = self.book.next(turns, now=self.now)

        assert set(dealt) <= set(self.known) - set(self.parked)
        assert sum(dealt.values()) == (turns if set(self.known) - set(self.parked) else 0)

    @precondition(lambda self: set(self.known) - set(self.parked))
    @rule()
    def nobody_starves(self) -> None:
        """Within as many turns as workspaces × applications × endpoints every lane that may go has one."""
        # The walk lets those take part again whose pause is over: a pause of 0 s is over at once.
        self.parked = {one: until for one, until in self.parked.items() if until > self.now}
        ready = {one: at for one, at in self.known.items() if one not in self.parked}

        dealt = self.book.next(4 * 3 * 4, now=self.now)

        assert set(dealt) == set(ready)
        shares = turns_of_workspaces(dealt).values()
        assert max(shares) - min(shares) <= 1

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.book) == len(self.known)
        assert self.book.eligible == len(self.known) - len(self.parked)
        assert self.book.next_unpark() == min(self.parked.values(), default=None)


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
