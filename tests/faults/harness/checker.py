"""What must hold after every fault: the six invariants of the fault tests.

I1 every id answered 202 was received, or is dead (or cancelled, where the test did that) and listed as such.
I2 nothing was received that was not published. I3 duplicates only where the fault explains them. I4 no lease and
no in-flight count is left. I5 the log has an attempt for every request that the receiver saw. I6 no concurrency
cap and no FIFO order was broken.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.core import ids
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.faults.harness.ledger import Receipt
    from tests.faults.harness.publisher import Publisher
    from tests.faults.harness.stack import Stack

SETTLE_SECONDS = 60.0


class Checker:
    """Asserts I1 to I6 over the publisher's, the receiver's and the database's word."""

    def __init__(self, stack: Stack, publisher: Publisher) -> None:
        self._stack = stack
        self._publisher = publisher
        self._may_repeat: set[str] = set()
        self._cancelled: set[str] = set()
        self._wrong_counters = 0

    def explain(self, events: Collection[str]) -> None:
        """Name events whose repetition the fault explains, for example those that were in flight."""
        self._may_repeat.update(events)

    def expect_cancelled(self, events: Collection[str]) -> None:
        """Name events that the test itself cancelled: they need not arrive, but must be listed as cancelled."""
        self._cancelled.update(events)

    def expect_wrong_counters(self, number: int) -> None:
        """Say that a test spoilt so many in-flight counters itself."""
        self._wrong_counters += number

    async def check(self, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        """Wait until all work is done, then assert everything."""
        await self.settle(seconds=settle_seconds)
        self.assert_none_lost()
        self.assert_none_invented()
        self.assert_repeats_explained()
        self.assert_nothing_in_flight()
        self.assert_every_request_logged()
        self.assert_caps_and_order_kept()

    async def settle(self, *, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until the queue is empty, and with it every lease and every counter."""
        await wait_until(
            lambda: self._left() == (0, 0, 0),
            seconds=seconds,
            what="the queue is empty and nothing is in flight",
            state=lambda: "{} queued, {} leased, {} in flight".format(*self._left()),
        )

    def assert_none_lost(self) -> None:
        """I1."""
        missing = set(self._publisher.accepted) - self._stack.receiver.succeeded()
        ended = self._in_state("dead") | (self._in_state("cancelled") & self._cancelled) if missing else set()
        lost = sorted(missing - ended)
        assert lost == [], f"I1: {len(lost)} accepted events were never delivered: {lost[:5]}"

    def assert_none_invented(self) -> None:
        """I2."""
        receiver, publisher = self._stack.receiver, self._publisher
        receiver.refresh()
        assert receiver.garbage == [], f"I2: the receiver got what is not HTTP: {receiver.garbage[:5]}"
        unsigned = [receipt.wrong for receipt in receiver.receipts if not receipt.genuine]
        assert unsigned == [], f"I2: {len(unsigned)} requests did not verify: {unsigned[:5]}"
        strangers = [
            receipt.event_id for receipt in receiver.receipts if not _was_published(receipt, publisher)
        ]
        assert strangers == [], f"I2: received but not published: {strangers[:5]}"

    def assert_repeats_explained(self) -> None:
        """I3: a second request only after a failure that the receiver itself made, or for those explained."""
        receiver = self._stack.receiver
        receiver.refresh()
        once: Counter[tuple[str, str]] = Counter()
        for receipt in receiver.receipts:
            refused = receipt.status is not None and receipt.status >= 300
            if not refused:
                once[receipt.path, receipt.event_id] += 1
        repeated = sorted({event for (_, event), n in once.items() if n > 1} - self._may_repeat)
        assert repeated == [], f"I3: {len(repeated)} events came twice without a reason: {repeated[:5]}"

    def assert_nothing_in_flight(self) -> None:
        """I4."""
        queued, leased, in_flight = self._left()
        assert (leased, in_flight) == (0, 0), f"I4: {leased} leases and {in_flight} in flight of {queued}"
        # Upkeep puts a wrong counter right: that it was wrong is the fault.
        corrected = sum(log.count("upkeep.counter_wrong") for log in self._stack.worker_logs())
        assert corrected == self._wrong_counters, f"I4: upkeep found {corrected} wrong counters"

    def assert_every_request_logged(self) -> None:
        """I5."""
        logged: Counter[tuple[str, str]] = Counter()
        rows = self._stack.sql(
            "SELECT p.url, a.event_id, count(*) FROM attempts a JOIN endpoints p ON p.id = a.endpoint_id GROUP BY 1, 2"
        )
        for url, event_id, number in rows:
            logged[urlsplit(url).path, ids.to_text(ids.EVENT, event_id)] += number
        seen = self._stack.receiver.counts()
        unlogged = {key: (n, logged[key]) for key, n in seen.items() if logged[key] < n}
        assert unlogged == {}, f"I5: (seen, logged) of {len(unlogged)}: {dict(list(unlogged.items())[:5])}"

    def assert_caps_and_order_kept(self) -> None:
        """I6."""
        receiver = self._stack.receiver
        rows = self._stack.sql("SELECT url, max_in_flight, ordering FROM endpoints")
        for url, cap, ordering in rows:
            receipts = receiver.on(urlsplit(url).path)
            most = max((receipt.concurrent for receipt in receipts), default=0)
            allowed = 1 if ordering == "fifo" else cap
            assert most <= allowed, f"I6: {url} had {most} requests at once, its cap is {allowed}"
            if ordering == "fifo":
                self._assert_order(url, [receipt.event_id for receipt in receipts])

    def _assert_order(self, url: str, received: list[str]) -> None:
        """No event comes after its successor; published one after the other, ids ascend as commits do."""
        order = [event for event, _ in groupby(received)]
        assert order == sorted(order), f"I6: {url} is FIFO but received {order[:20]}"
        assert len(order) == len(set(order)), f"I6: {url} is FIFO but an event came back after its successor"

    def leased_events(self) -> set[str]:
        """Return the ids of the events that are leased now: those a fault may repeat."""
        rows = self._stack.sql("SELECT DISTINCT event_id FROM delivery_queue WHERE state = 1")
        return {ids.to_text(ids.EVENT, event_id) for (event_id,) in rows}

    def _left(self) -> tuple[int, int, int]:
        rows = self._stack.sql(
            "SELECT count(*), count(*) FILTER (WHERE state = 1),"
            " (SELECT coalesce(sum(in_flight), 0) FROM endpoint_runtime) FROM delivery_queue"
        )
        queued, leased, in_flight = rows[0]
        return int(queued), int(leased), int(in_flight)

    def _in_state(self, state: str) -> set[str]:
        rows = self._stack.sql("SELECT event_id FROM deliveries WHERE state = %s", [state])
        return {ids.to_text(ids.EVENT, event_id) for (event_id,) in rows}


def _was_published(receipt: Receipt, publisher: Publisher) -> bool:
    """Tell whether we sent this content, and (where the answer is known) under this id."""
    mark = receipt.data.get("mark")
    accepted = publisher.accepted.get(receipt.event_id)
    return mark in publisher.marks and (accepted is None or accepted.mark == mark)
