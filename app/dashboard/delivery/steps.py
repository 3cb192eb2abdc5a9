"""A step of a delivery's timeline, and how an attempt is named in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.dashboard.delivery.deeds import Deed
    from app.models import Attempt

_TRIGGERS = {"scheduled": "automatic", "manual": "manual", "replay": "replay", "test": "test"}


@dataclass(frozen=True, slots=True)
class Step:
    """One line. `kind`: moment, attempt, deed, wait, now, planned, end or deadline.

    `share` is a wait's part of the longest one, from 0 to 1. `counts_down` says that `at` is still to come.
    """

    kind: str
    title: str
    detail: str = ""
    at: datetime | None = None
    tone: str = ""
    seconds: float | None = None
    share: float = 0.0
    attempt: Attempt | None = None
    counts_down: bool = False


def key_of(attempt: Attempt) -> str:
    """Return how an attempt is named in addresses: by its number, and a late result apart from the one it missed."""
    return f"{attempt.number}-late" if attempt.stale else str(attempt.number)


def trigger_words(attempt: Attempt, deeds: Sequence[Deed]) -> str:
    """Return why an attempt was made, and by whom if that is known."""
    words = _TRIGGERS.get(attempt.trigger, attempt.trigger)
    if attempt.number == 1 and attempt.trigger == "scheduled":
        return "first try"
    if attempt.trigger in ("manual", "replay"):
        asked = [
            deed for deed in deeds if deed.action == "delivery.retried" and deed.at <= attempt.started_at
        ]
        if asked:
            return f"{words}, by {asked[-1].who}"
    return words


def attempt_end(attempt: Attempt) -> datetime:
    """Return when an attempt was over."""
    return attempt.started_at + timedelta(milliseconds=attempt.duration_ms or 0)
