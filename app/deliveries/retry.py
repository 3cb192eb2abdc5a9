"""When to try again: pure. The jitter is passed in, so that a table of examples can test it.

The place in the schedule moves on failures only; a lost worker costs the receiver no attempt.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

JITTER_LOW, JITTER_HIGH = 0.8, 1.2
# With full jitter no retry comes sooner.
FULL_JITTER_FLOOR_SECONDS = 1.0
MAX_RETRY_AFTER_SECONDS = 86_400
MAX_BLOCKED_TRIES = 3


def next_delay_seconds(
    schedule: Sequence[int],
    step: int,
    *,
    jitter: float,
    least_seconds: float = 0.0,
    retry_after_seconds: float | None = None,
) -> float | None:
    """Return the seconds until the next attempt, counted from the end of this one; None: used up.

    Args:
        schedule: delays in seconds; entry `n` comes after the failure number `n` (from 0).
        step: failures before this one.
        jitter: a factor from `draw_jitter` or `draw_full_jitter`.
        least_seconds: no delay is shorter, whatever the jitter.
        retry_after_seconds: what the receiver asked for; it can lengthen a delay, up to 24 hours.

    """
    if step >= len(schedule):
        return None
    delay = max(schedule[step] * jitter, least_seconds)
    if retry_after_seconds is not None:
        delay = max(delay, min(max(retry_after_seconds, 0.0), MAX_RETRY_AFTER_SECONDS))
    return delay


def draw_jitter() -> float:
    """Draw the factor that spreads retries of one moment over a range."""
    return random.uniform(JITTER_LOW, JITTER_HIGH)  # noqa: S311 - spreading load, not a secret


def draw_full_jitter() -> float:
    """Draw the factor that spreads retries over the whole delay: a receiver that is back is not knocked down again."""
    return random.uniform(0.0, 1.0)  # noqa: S311 - spreading load, not a secret
