"""The checker notices each kind of wrong: an invariant that cannot fail proves nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from app.core import ids
from tests.faults.harness.checker import Checker
from tests.faults.harness.ledger import Receipt
from tests.faults.harness.publisher import Accepted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.faults

PATH = "/a"
URL = "http://127.0.0.1:20000" + PATH
EVENTS = [UUID(int=number) for number in (1, 2, 3)]
NAMES = [ids.to_text(ids.EVENT, event) for event in EVENTS]


class World:
    """What publisher, receiver and database say; at first they agree. The checker's stack and receiver in one."""

    def __init__(self) -> None:
        self.receipts = [_receipt(number, NAMES[number], mark=f"m{number}") for number in range(3)]
        self.garbage: list[str] = []
        self.attempts = dict.fromkeys(EVENTS, 1)
        self.left = (0, 0, 0)
        self.dead: list[UUID] = []
        self.cancelled: list[UUID] = []
        self.endpoint = [URL, 1, "fifo"]
        self.logs: list[str] = []
        accepted = {
            name: Accepted(name, f"m{number}", float(number), float(number), 1)
            for number, name in enumerate(NAMES)
        }
        self.publisher = SimpleNamespace(accepted=accepted, marks={"m0", "m1", "m2"})

    @property
    def receiver(self) -> World:
        return self

    def refresh(self) -> None:
        """Everything is known already."""

    def succeeded(self) -> set[str]:
        return {receipt.event_id for receipt in self.receipts if receipt.status == 200}

    def on(self, path: str) -> list[Receipt]:
        return [receipt for receipt in self.receipts if receipt.path == path]

    def counts(self) -> dict[tuple[str, str], int]:
        keys = [(receipt.path, receipt.event_id) for receipt in self.receipts]
        return {key: keys.count(key) for key in keys}

    def worker_logs(self) -> list[str]:
        return self.logs

    def sql(self, query: str, parameters: Sequence[str] = ()) -> list[Any]:
        if "FROM attempts" in query:
            return [(URL, event, number) for event, number in self.attempts.items()]
        if "FROM delivery_queue" in query:
            return [self.left]
        if "FROM deliveries" in query:
            return [(event,) for event in {"dead": self.dead, "cancelled": self.cancelled}[parameters[0]]]
        return [tuple(self.endpoint)]


def _receipt(number: int, name: str, *, mark: str, status: int = 200) -> Receipt:
    return Receipt(
        number=number,
        path=PATH,
        event_id=name,
        genuine=True,
        wrong=None,
        at=float(number),
        unix=0.0,
        timestamp=0,
        connection=1,
        concurrent=1,
        headers={},
        body=json.dumps({"data": {"mark": mark}}),
        status=status,
    )


def _lose(world: World) -> None:
    del world.receipts[1]


def _invent(world: World) -> None:
    world.receipts.append(_receipt(4, ids.to_text(ids.EVENT, UUID(int=9)), mark="strange"))


def _swap(world: World) -> None:
    world.receipts[0] = _receipt(0, NAMES[0], mark="m1")


def _forge(world: World) -> None:
    world.receipts[0] = replace(world.receipts[0], genuine=False, wrong="No matching signature found")


def _repeat(world: World) -> None:
    world.receipts.append(world.receipts[2])
    world.attempts[EVENTS[2]] = 2


def _leave_a_lease(world: World) -> None:
    world.left = (1, 1, 1)


def _correct_a_counter(world: World) -> None:
    world.logs = ['{"event":"upkeep.counter_wrong"}']


def _forget_an_attempt(world: World) -> None:
    world.attempts[EVENTS[0]] = 0


def _crowd(world: World) -> None:
    world.receipts[0] = replace(world.receipts[0], concurrent=2)


def _reorder(world: World) -> None:
    world.receipts.reverse()


@pytest.mark.parametrize(
    ("spoil", "invariant"),
    [
        (_lose, "I1"),
        (_invent, "I2"),
        (_swap, "I2"),
        (_forge, "I2"),
        (_repeat, "I3"),
        (_correct_a_counter, "I4"),
        (_forget_an_attempt, "I5"),
        (_crowd, "I6"),
        (_reorder, "I6"),
    ],
)
async def test_checker_notices(spoil: Callable[[World], None], invariant: str) -> None:
    """Each wrong fails the check by the invariant that it breaks."""
    world = World()
    spoil(world)

    with pytest.raises(AssertionError, match=f"^{invariant}"):
        await _checker(world).check()


async def test_checker_waits_for_what_is_in_flight_and_says_what() -> None:
    """A lease that never ends fails the check with the counts in the message."""
    world = World()
    _leave_a_lease(world)

    with pytest.raises(AssertionError, match="1 queued, 1 leased, 1 in flight"):
        await _checker(world).check(settle_seconds=0.1)


async def test_checker_accepts_a_world_in_order() -> None:
    """With everything delivered once, in order and on record there is nothing to say."""
    await _checker(World()).check()


async def test_checker_accepts_what_is_dead_or_explained() -> None:
    """A dead delivery is not lost, and a repetition that the fault explains is none."""
    world = World()
    _repeat(world)
    del world.receipts[1]
    world.dead = [EVENTS[1]]
    checker = _checker(world)
    checker.explain({NAMES[2]})

    await checker.check()


@pytest.mark.parametrize("expected", [True, False])
async def test_checker_tells_cancelled_by_the_test_from_cancelled_by_mistake(*, expected: bool) -> None:
    """An event that the test cancelled is not lost; one that ended as cancelled for no reason is."""
    world = World()
    _lose(world)
    world.cancelled = [EVENTS[1]]
    checker = _checker(world)

    if expected:
        checker.expect_cancelled({NAMES[1]})
        await checker.check()
    else:
        with pytest.raises(AssertionError, match="I1"):
            await checker.check()


def _checker(world: World) -> Checker:
    return Checker(world, world.publisher)  # type: ignore[arg-type]
