"""Collects results and records many of them in one statement: at once when idle, together under load.

While the database is away the results in hand are kept and tried again; the lease token decides then whether
they still count.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import structlog

from app.core import metrics
from app.core.db import is_away, may_retry
from app.deliveries.circuit import CircuitState
from app.deliveries.circuit_changes import settle_circuits
from app.deliveries.record import Finished, Settle, record

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.core.db import Autocommit

log = structlog.get_logger(__name__)

MOST_PER_FLUSH = 500
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 2.0
# Longer than Postgres' own limit of a statement: an answer that is not here by then will not come.
FLUSH_DEADLINE_SECONDS = 20.0
# How much longer than it was asked for results are kept: timers may be early by a turn of the loop.
KEPT_MARGIN_SECONDS = 1.0
# A result that waits for longer is not kept again: claims may follow each other without a pause.
MOST_WAIT_SECONDS = 0.1
# Results wait behind it.
CIRCUITS_DEADLINE_SECONDS = 5.0


class InHand(NamedTuple):
    """A result that waits for its record. Times are instants of `time.monotonic()`."""

    item: Finished
    since: float
    # Until then its place under the endpoint's cap may be used again before the record; 0.0 for never.
    lease_ends: float


class Recorder:
    """One per worker process. `settled` is told of each flush that was committed.

    `engine` commits each statement; `transactions` is for what takes several.
    """

    def __init__(
        self,
        *,
        engine: Autocommit,
        transactions: AsyncEngine,
        flush_seconds: float,
        settled: Callable[[Sequence[Finished]], None],
    ) -> None:
        self._engine = engine
        self._transactions = transactions
        self._flush_seconds = flush_seconds
        self._settled = settled
        self._waiting: list[InHand] = []
        # Taken out of these while a claim counts on their places, and what comes of their endpoints meanwhile: an
        # endpoint's results are recorded in their order. See `keeping`.
        self._kept: list[InHand] = []
        self._kept_endpoints: set[UUID] = set()
        # Endpoints with results in hand that are no successes: their records decide what goes next.
        self._undecided: Counter[UUID] = Counter()
        self._something = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to flush."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="recorder")

    def add(self, finished: Finished, *, lease_ends: float = 0.0) -> bool:
        """Take a result; it is recorded soon.

        With `lease_ends`, an instant of `time.monotonic()`, a success's place under the endpoint's cap may be used again
        before that. Return whether it may be now.
        """
        endpoint_id = finished.endpoint_id
        if finished.settle is not Settle.SUCCEEDED:
            # It may open the circuit or hold the endpoint.
            self._undecided[endpoint_id] += 1
            lease_ends = 0.0
        entry = InHand(finished, time.monotonic(), lease_ends)
        (self._kept if endpoint_id in self._kept_endpoints else self._waiting).append(entry)
        self._empty.clear()
        self._something.set()
        return lease_ends > 0.0 and not self._undecided[endpoint_id]

    def answered(self, *, seconds: float) -> Counter[UUID]:
        """Count, by endpoint, the successes in hand whose places may be used again by what takes `seconds` at most."""
        return Counter(entry.item.endpoint_id for entry in self._reusable(seconds=seconds))

    @contextmanager
    def keeping(
        self, endpoint_ids: Container[UUID] | None = None, *, seconds: float
    ) -> Iterator[Counter[UUID]]:
        """Count as `answered` does, of these endpoints or of all, and record none of what was counted in the block.

        The database has these requests as in flight, then. After `seconds` they are recorded all the same: a block that
        took longer may use no place of theirs.
        """
        kept = self._reusable(endpoint_ids, seconds=seconds)
        if not kept:
            yield Counter()
            return
        tokens = {entry.item.token for entry in kept}
        self._waiting = [entry for entry in self._waiting if entry.item.token not in tokens]
        self._kept = [*kept]
        self._kept_endpoints = {entry.item.endpoint_id for entry in kept}
        timer = asyncio.get_running_loop().call_later(seconds + KEPT_MARGIN_SECONDS, self._let_go)
        try:
            yield Counter(entry.item.endpoint_id for entry in kept)
        finally:
            timer.cancel()
            self._let_go()

    def _reusable(self, endpoint_ids: Container[UUID] | None = None, *, seconds: float) -> list[InHand]:
        now = time.monotonic()
        # Until the block is over, and then as long again: for the record.
        until = now + 2 * seconds
        return [
            entry
            for entry in self._waiting
            if entry.lease_ends > until
            and now - entry.since < MOST_WAIT_SECONDS
            and not self._undecided[entry.item.endpoint_id]
            and (endpoint_ids is None or entry.item.endpoint_id in endpoint_ids)
        ]

    def _let_go(self) -> None:
        if self._kept:
            self._waiting[:0] = self._kept
            self._kept = []
            self._kept_endpoints = set()
            self._something.set()

    async def drained(self) -> None:
        """Wait until everything that was added is recorded."""
        await self._empty.wait()

    async def stop(self) -> None:
        """Stop flushing; call `drained` first where results must not be lost to their lease."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                if len(self._waiting) < MOST_PER_FLUSH and self._flush_seconds:
                    # What finishes in this moment shares the statement.
                    await asyncio.sleep(self._flush_seconds)
                batch, self._waiting = self._waiting[:MOST_PER_FLUSH], self._waiting[MOST_PER_FLUSH:]
                if batch:
                    await self._flush([entry.item for entry in batch])
            if not self._waiting and not self._kept:
                self._empty.set()

    async def _flush(self, batch: Sequence[Finished]) -> None:
        pause = FIRST_RETRY_SECONDS
        while True:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(FLUSH_DEADLINE_SECONDS), self._engine.connect() as connection:
                    recorded = await record(connection, batch)
            except Exception as error:
                if not (is_away(error) or may_retry(error) or isinstance(error, TimeoutError)):
                    if len(batch) > 1:
                        # One row that Postgres refuses must not hold up the others.
                        middle = len(batch) // 2
                        await self._flush(batch[:middle])
                        await self._flush(batch[middle:])
                        return
                    log.exception("record.refused", delivery_id=str(batch[0].id))
                    metrics.RESULTS_REFUSED.inc()
                    # Its lease runs out and the sweep takes it up; the attempt is then `unknown`.
                    self._note_settled(batch)
                    return
                log.warning("record.delayed", error=type(error).__name__, results=len(batch))
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY_SECONDS)
                continue
            metrics.RECORD_SECONDS.observe(time.perf_counter() - started)
            if recorded.stale:
                log.warning("record.stale_results", results=recorded.stale)
                metrics.STALE_RESULTS.inc(recorded.stale)
            if recorded.circuits:
                # Before the slots are free again, so that this process claims nothing of a circuit that opens.
                await self._settle_circuits(recorded.circuits)
            self._note_settled(batch)
            return

    def _note_settled(self, batch: Sequence[Finished]) -> None:
        for item in batch:
            if item.settle is not Settle.SUCCEEDED:
                self._undecided[item.endpoint_id] -= 1
                if not self._undecided[item.endpoint_id]:
                    del self._undecided[item.endpoint_id]
        self._settled(batch)

    async def _settle_circuits(self, endpoint_ids: Sequence[UUID]) -> None:
        """Open and close circuits. A failure costs nothing but time: the endpoint's next result asks again."""
        try:
            async with (
                asyncio.timeout(CIRCUITS_DEADLINE_SECONDS),
                self._transactions.begin() as connection,
            ):
                made = await settle_circuits(connection, endpoint_ids)
        except Exception as error:
            if is_away(error) or may_retry(error) or isinstance(error, TimeoutError):
                log.warning("circuits.not_settled", error=type(error).__name__, endpoints=len(endpoint_ids))
            else:
                log.exception("circuits.failed", endpoints=len(endpoint_ids))
            metrics.CIRCUITS_NOT_SETTLED.inc()
            return
        for endpoint_id, transition in made:
            log.warning(
                "circuit.moved", endpoint_id=str(endpoint_id), to=transition.target, reason=transition.reason
            )
            if transition.target is CircuitState.CLOSED:
                metrics.CIRCUITS_CLOSED.inc()
            else:
                metrics.CIRCUITS_OPENED.inc()
