"""Endpoints that fail for days: their workspace is warned twice, then they are disabled.

`decide` is the rule, pure. An endpoint fails from its first failure after a success (or after it was opened) until
the next success; while it is disabled or paused nothing counts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from sqlalchemy import text

from app.core.clock import rfc3339
from app.endpoints.disabling import DisabledBy, disable, lock_for_disabling
from app.operations import notices
from app.operations.notices import Notice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection

# The first warning, and the second.
WARN_AFTER = (timedelta(hours=24), timedelta(hours=72))
DISABLE_AFTER = timedelta(days=5)
# An endpoint that gets an event a day has not been tried often enough to be given up.
FEWEST_FAILURES = 20
MOST_AT_ONCE = 500


class Warn(msgspec.Struct, frozen=True):
    """Tell its operators; `level` 1 is the first warning, 2 the second."""

    level: int


class Disable(msgspec.Struct, frozen=True):
    """Disable it, and tell its operators."""


class Failing(msgspec.Struct, frozen=True):
    """An endpoint's health over days, as its runtime row has it."""

    endpoint_id: UUID
    failing_since: datetime
    failures: int
    warnings: int


def decide(
    *, failing_since: datetime | None, failures: int, warnings: int, now: datetime
) -> Warn | Disable | None:
    """Return what is due; None: nothing is.

    Only the highest warning that is due is given, so one that upkeep was too late for is not made up for. After the
    five days an endpoint is disabled with however many warnings it had.
    """
    if failing_since is None:
        return None
    lasted = now - failing_since
    if lasted >= DISABLE_AFTER and failures >= FEWEST_FAILURES:
        return Disable()
    level = sum(lasted >= after for after in WARN_AFTER)
    return Warn(level) if level > warnings else None


# Those of which something may be due: `decide` has the last word, with the row locked.
_CANDIDATES = text(
    """
SELECT endpoint_id, failing_since, consecutive_failures, failure_warnings, now() AS now
FROM endpoint_runtime
WHERE open AND failing_since <= now() - CAST(:first AS interval)
  AND (failure_warnings < 1 OR (failure_warnings < 2 AND failing_since <= now() - CAST(:second AS interval))
    OR (consecutive_failures >= :fewest AND failing_since <= now() - CAST(:disable AS interval)))
ORDER BY failing_since LIMIT :most
"""
)
_LOCKED = text(
    """
SELECT endpoint_id, failing_since, consecutive_failures, failure_warnings, now() AS now
FROM endpoint_runtime
WHERE endpoint_id = ANY(CAST(:ids AS uuid[])) AND open ORDER BY endpoint_id FOR UPDATE
"""
)
_WARNED = text(
    "UPDATE endpoint_runtime r SET failure_warnings = given.level"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:levels AS int[])) AS given(id, level) WHERE r.endpoint_id = given.id"
)


async def settle_failing(connection: AsyncConnection, *, most: int = MOST_AT_ONCE) -> tuple[int, int]:
    """Warn of and disable the endpoints for which that is due, in the caller's transaction.

    Returns how many of each. Safe to repeat: each warning is given once, until a success comes between.
    """
    first, second = WARN_AFTER
    looked_at = await _decide(
        connection,
        _CANDIDATES,
        {
            "first": first,
            "second": second,
            "disable": DISABLE_AFTER,
            "fewest": FEWEST_FAILURES,
            "most": most,
        },
    )
    if not looked_at:
        return 0, 0
    to_disable = [found.endpoint_id for found, due in looked_at if isinstance(due, Disable)]
    await lock_for_disabling(connection, to_disable)
    # A success may have come since; what has become due to be disabled only now is for the next minute.
    due_now = await _decide(connection, _LOCKED, {"ids": [found.endpoint_id for found, _ in looked_at]})
    warned = [(found, due.level) for found, due in due_now if isinstance(due, Warn)]
    failed = [found for found, due in due_now if isinstance(due, Disable) and found.endpoint_id in to_disable]
    await _warn(connection, warned)
    disabled = await disable(
        connection,
        {found.endpoint_id: _reason(found) for found in failed},
        by=DisabledBy.FAILING,
        told={found.endpoint_id: _told(found) for found in failed},
    )
    return len(warned), disabled


async def _decide(
    connection: AsyncConnection, statement: TextClause, values: dict[str, object]
) -> list[tuple[Failing, Warn | Disable]]:
    decided = []
    for row in await connection.execute(statement, values):
        due = decide(
            failing_since=row.failing_since,
            failures=row.consecutive_failures,
            warnings=row.failure_warnings,
            now=row.now,
        )
        if due is not None:
            decided.append((Failing(*row[:4]), due))
    return decided


async def _warn(connection: AsyncConnection, warned: Sequence[tuple[Failing, int]]) -> None:
    if not warned:
        return
    await connection.execute(
        _WARNED, {"ids": [found.endpoint_id for found, _ in warned], "levels": [level for _, level in warned]}
    )
    await notices.note(
        connection,
        [
            Notice(
                found.endpoint_id,
                notices.ENDPOINT_FAILING,
                _told(found) | {"warning": level, "disable_at": rfc3339(found.failing_since + DISABLE_AFTER)},
            )
            for found, level in warned
        ],
    )


def _told(found: Failing) -> dict[str, object]:
    return {"failing_since": rfc3339(found.failing_since), "consecutive_failures": found.failures}


def _reason(found: Failing) -> str:
    return (
        f"Every attempt since {found.failing_since:%Y-%m-%d %H:%M} UTC failed, {found.failures} in all. "
        f"After {DISABLE_AFTER.days} days without one success it was disabled. Repair the receiver, then enable the "
        "endpoint: what waits for it is sent then."
    )
