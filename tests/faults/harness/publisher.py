"""A publisher that remembers every id it was answered, and what became of every request it sent."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx2

from tests.faults.harness.stack import monotonic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.harness.stack import Stack

# 200 repeats the answer that the same uid got before.
ACCEPTED = frozenset({200, 202})


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that was answered 202. Times are seconds of the machine's monotonic clock."""

    id: str
    mark: str
    sent_at: float
    answered_at: float
    deliveries: int
    # The answer of an earlier request: the same uid or Idempotency-Key.
    replayed: bool = False

    @property
    def seconds(self) -> float:
        """How long the request took."""
        return self.answered_at - self.sent_at


class Publisher:
    """Publishes events that carry a mark, so that even one whose answer was lost is known when it arrives."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._numbers = count()
        self._run = secrets.token_hex(4)
        self.marks: set[str] = set()
        self.accepted: dict[str, Accepted] = {}
        self.statuses: Counter[int] = Counter()
        self.problems: list[str] = []
        # Requests without an answer: they may or may not have been stored.
        self.unanswered: set[str] = set()

    def make_mark(self) -> str:
        """Return a fresh mark, for a test that publishes the same content again."""
        return f"{self._run}-{next(self._numbers)}"

    async def publish(
        self, event_type: str = "test.fault", *, mark: str | None = None, key: str | None = None, **body: Any
    ) -> Accepted | None:
        """Publish one event, with an Idempotency-Key if `key` is given; return it if it was accepted."""
        mark = mark or self.make_mark()
        self.marks.add(mark)
        sent_at = monotonic()
        try:
            answer = await self._stack.client.post(
                "/v1/events",
                json={"type": event_type, "data": {"mark": mark}, **body},
                headers={"idempotency-key": key} if key else None,
            )
        except httpx2.HTTPError:
            self.unanswered.add(mark)
            return None
        answered_at = monotonic()
        self.statuses[answer.status_code] += 1
        if answer.status_code not in ACCEPTED:
            self.problems.append(answer.text)
            return None
        event = answer.json()
        replayed = answer.headers.get("idempotent-replayed") == "true"
        accepted = Accepted(event["id"], mark, sent_at, answered_at, event["deliveries"], replayed)
        self.accepted[accepted.id] = accepted
        return accepted

    async def publish_many(
        self, number: int, *, at_once: int = 8, event_types: Sequence[str] = ("test.fault",), **body: Any
    ) -> list[Accepted]:
        """Publish `number` events from `at_once` clients, the types in turn; return those accepted."""
        remaining = iter(range(number))
        done: list[Accepted] = []

        async def client() -> None:
            for index in remaining:
                accepted = await self.publish(event_types[index % len(event_types)], **body)
                if accepted is not None:
                    done.append(accepted)

        await asyncio.gather(*(client() for _ in range(at_once)))
        return done

    async def publish_until(self, stop: asyncio.Event, *, at_once: int = 4) -> None:
        """Publish without a pause until `stop` is set, whatever the answers are."""

        async def client() -> None:
            while not stop.is_set():
                if await self.publish() is None:
                    # Refused or unanswered: look again shortly, as a client with a back-off does.
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(client() for _ in range(at_once)))
