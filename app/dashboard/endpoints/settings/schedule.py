"""A retry schedule as a picture: when each attempt is made, counted from the first one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from app.dashboard import small_charts, words
from app.deliveries.retry import JITTER_HIGH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Planned:
    """One attempt: how long after the one before, and how long after the first, in seconds."""

    number: int
    delay: int
    after: int
    late: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule with its picture, and what the picture shows in one sentence."""

    attempts: list[Planned]
    axis: Markup
    says: str


def draw_schedule(delays: Sequence[int], *, deadline_seconds: int) -> Schedule:
    """Return a schedule as it is without its spread, and with attempts that answer at once."""
    after = [0, *accumulate(delays)]
    attempts = [
        Planned(
            number=place + 1,
            delay=0 if not place else delays[place - 1],
            after=each,
            late=each > deadline_seconds,
        )
        for place, each in enumerate(after)
    ]
    kept = [each for each in attempts if not each.late]
    last = words.duration(kept[-1].after)
    says = f"{words.plural(len(kept), 'attempt')} within {last}" if len(kept) > 1 else "One attempt"
    lost = len(attempts) - len(kept)
    if lost:
        says += f"; {lost} more would come after the deadline of {words.duration(deadline_seconds)}"
    marks = [
        small_charts.Mark(
            seconds=each.after,
            label="now" if not each.after else words.duration(each.after),
            title=f"attempt {each.number}"
            + (f": {words.duration(each.delay)} after the one before" if place else ": at once"),
            tone="bad" if each.late else "ok" if not place else "info",
        )
        for place, each in enumerate(attempts)
    ]
    spread = f"{(JITTER_HIGH - 1) * 100:.0f} %"
    return Schedule(
        attempts=attempts,
        axis=small_charts.time_axis(marks, says=says),
        says=f"{says}. Each delay is spread by ± {spread}.",
    )
