"""The strip of Overview: whether workers, broker, database and scheduler are alive, each in a word and a sentence. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from app.dashboard import words
from app.health.checks import WORKER_SILENT_SECONDS, Check, State

if TYPE_CHECKING:
    from app.dashboard.overview.queries import Signs

# Upkeep counts the minute that has just ended; a healthy one is never this far behind.
SCHEDULER_LATE = timedelta(minutes=3)
# A page is drawn from so many answers of the database; one that takes longer is felt by people.
DATABASE_SLOW_MS = 200.0
_TONES = {State.OK: "ok", State.DEGRADED: "warn", State.FAILED: "bad"}


@dataclass(frozen=True, slots=True)
class Sign:
    """One part: its name, how it is in a few words, the colour, and the sentence for who wants to know more."""

    name: str
    state: str
    tone: str
    detail: str


def signs_of(signs: Signs, broker: Check | None, *, database_ms: float, now: datetime) -> list[Sign]:
    """Return the strip."""
    return [_workers(signs, now), _broker(broker), _database(database_ms), _scheduler(signs, now)]


def nobody_works(signs: Signs, now: datetime) -> str | None:
    """Return what to say in red when no worker lives; None if one does."""
    if signs.workers:
        return None
    since = (
        f"No worker has given a sign of life for {words.duration((now - signs.beat_at).total_seconds())}"
        if signs.beat_at
        else "No worker has ever given a sign of life"
    )
    return f"{since}: events are accepted and wait, and nothing is sent. Start one with: bellwire worker"


def _workers(signs: Signs, now: datetime) -> Sign:
    beat = f"Last sign of life {words.ago(signs.beat_at, now)}."
    if not signs.workers:
        return Sign("Workers", "none alive", "bad", f"None for {WORKER_SILENT_SECONDS} s. {beat}")
    return Sign("Workers", f"{signs.workers:,} alive", "ok", beat)


def _broker(check: Check | None) -> Sign:
    if check is None:
        return Sign("Broker", "asked", "", "It has not answered yet; the next view of this page says more.")
    state = {State.OK: "reachable", State.DEGRADED: "away", State.FAILED: "away"}[check.state]
    return Sign("Broker", state, _TONES[check.state], check.detail)


def _database(milliseconds: float) -> Sign:
    slow = milliseconds > DATABASE_SLOW_MS
    return Sign(
        "Database",
        words.milliseconds(milliseconds),
        "warn" if slow else "ok",
        "How long Postgres took for the largest part of this page." + (" That is slow." if slow else ""),
    )


def _scheduler(signs: Signs, now: datetime) -> Sign:
    if signs.counted_until is None:
        return Sign("Scheduler", "no tick yet", "warn", "Upkeep has not run yet: is `bellwire beat` running?")
    # What is marked is the beginning of the minute that is being counted.
    behind = now - signs.counted_until
    if behind > SCHEDULER_LATE:
        return Sign(
            "Scheduler",
            f"{words.duration(behind.total_seconds())} behind",
            "bad",
            "Upkeep is late: retries go on, charts stand still, and workers run it by themselves after five minutes. Is "
            "`bellwire beat` running, and does the broker answer?",
        )
    return Sign(
        "Scheduler", "ticking", "ok", f"Charts are counted up to {signs.counted_until:%H:%M} UTC and beyond."
    )
