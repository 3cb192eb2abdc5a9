"""Upkeep: duties that come round every minute, each in a file of its own.

They run under an advisory lock, so two beats, or two workers that got the same message, do no harm.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text

from workers.upkeep import counters, failing, forgetting, orphans, storage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.core.settings import Settings

log = structlog.get_logger(__name__)

_LOCK = 0x62656C6C_0003

DUTIES: tuple[tuple[str, Callable[..., Awaitable[int]]], ...] = (
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
)


async def run_upkeep(engine: AsyncEngine, *, settings: Settings) -> dict[str, int]:
    """Run every duty that no other process is at; return what each did. One that fails does not stop the others."""
    done: dict[str, int] = {}
    for name, duty in DUTIES:
        started = time.perf_counter()
        try:
            async with engine.begin() as connection:
                if not await _mine(connection, name):
                    continue
                done[name] = await duty(connection, settings=settings)
        except Exception:
            log.exception("upkeep.duty_failed", duty=name)
            continue
        if done[name]:
            log.info(
                "upkeep.done", duty=name, count=done[name], seconds=round(time.perf_counter() - started, 3)
            )
    return done


async def _mine(connection: AsyncConnection, name: str) -> bool:
    taken = await connection.execute(
        text("SELECT pg_try_advisory_xact_lock(CAST(:lock AS int), hashtext(:name))"),
        {"lock": _LOCK >> 16 & 0x7FFFFFFF, "name": name},
    )
    return bool(taken.scalar_one())
