"""Upkeep: duties that come round every minute, each in a file of its own.

They run under an advisory lock, so two beats, or two workers that got the same message, do no harm. A duty is one
transaction; one that has more to do than fits into a short one says so (`Step`) and is run again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text

from workers.upkeep import counters, failing, forgetting, orphans, rollups, storage
from workers.upkeep.stepping import Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.core.settings import Settings

log = structlog.get_logger(__name__)

_LOCK = 0x62656C6C_0003

# A duty that has more to do gives way to the others after so long, and goes on in the next round.
MOST_SECONDS = 20.0

DUTIES: tuple[tuple[str, Callable[..., Awaitable[int | Step]]], ...] = (
    ("partitions_made", storage.make_partitions),
    ("partitions_dropped", storage.drop_old_partitions),
    ("keys_forgotten", forgetting.forget_keys),
    ("heartbeats_forgotten", forgetting.forget_heartbeats),
    ("transitions_forgotten", forgetting.forget_transitions),
    ("sign_ins_forgotten", forgetting.forget_sign_ins),
    ("secrets_forgotten", forgetting.forget_secrets),
    ("audit_entries_forgotten", forgetting.forget_audit_entries),
    ("orphans_cancelled", orphans.cancel_orphans),
    ("counters_corrected", counters.correct_counters),
    ("failing_attended", failing.attend_to_failing),
    ("backlog_sampled", rollups.note_backlog),
    ("minutes_counted", rollups.count_fresh),
    ("minutes_settled", rollups.settle),
    ("rollups_forgotten", rollups.forget_rollups),
)
# These write the same sums, so that only one process may be at either of them.
_SHARED_LOCKS = {"minutes_settled": "minutes_counted"}


async def run_upkeep(engine: AsyncEngine, *, settings: Settings) -> dict[str, int]:
    """Run every duty that no other process is at; return what each did. One that fails does not stop the others."""
    done: dict[str, int] = {}
    for name, duty in DUTIES:
        started = time.perf_counter()
        try:
            more = True
            while more and time.perf_counter() - started < MOST_SECONDS:
                async with engine.begin() as connection:
                    if not await _mine(connection, name):
                        break
                    step = await duty(connection, settings=settings)
                    count, more = (step.count, step.more) if isinstance(step, Step) else (step, False)
                done[name] = done.get(name, 0) + count
        except Exception:
            log.exception("upkeep.duty_failed", duty=name)
            continue
        if done.get(name):
            log.info(
                "upkeep.done", duty=name, count=done[name], seconds=round(time.perf_counter() - started, 3)
            )
    return done


async def _mine(connection: AsyncConnection, name: str) -> bool:
    taken = await connection.execute(
        text("SELECT pg_try_advisory_xact_lock(CAST(:lock AS int), hashtext(:name))"),
        {"lock": _LOCK >> 16 & 0x7FFFFFFF, "name": _SHARED_LOCKS.get(name, name)},
    )
    return bool(taken.scalar_one())
