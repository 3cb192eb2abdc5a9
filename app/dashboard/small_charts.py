"""Small pictures for rows and panels: bars beside a name, outcomes as dots, moments on an axis of time.

Like the figures of `charts.py` they are SVG, with colours by class and a sentence for who does not see them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from app.dashboard.axes import digits, sound

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPARK_WIDTH, _SPARK_HEIGHT = 80.0, 20.0
_DOT = 12
_RING = "m2 6a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"
# From the upper left corner of the place of a dot: full rounds, angles, and rings.
_SHAPES = {"ok": f"0{_RING}", "bad": "0m6 .5l5.5 5.5-5.5 5.5-5.5-5.5z", "": f"0{_RING}"}
# Marks that are closer than this share of the axis keep their hint, and lose their label.
_LABEL_SHARE = 0.13


@dataclass(frozen=True, slots=True)
class Dot:
    """One outcome in a row of them."""

    tone: str
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on an axis of time that begins at zero."""

    seconds: float
    label: str
    title: str = ""
    tone: str = ""


def spark(values: Sequence[float | None], tone: str = "", *, says: str = "") -> Markup:
    """Return small bars for a row of a table. Without a sentence it is hidden from who does not see it."""
    sizes = [sound(value) or 0.0 for value in values]
    largest = max(sizes, default=0.0) or 1.0
    step = _SPARK_WIDTH / (len(sizes) or 1)
    bars: list[str] = []
    for place, value in enumerate(sizes):
        height = max(1.0, (_SPARK_HEIGHT - 1) * value / largest) if value else 0.5
        bars.append(
            f"M{digits(place * step)} {_SPARK_HEIGHT:g}v-{digits(height)}h{digits(step - min(1.0, step * 0.3))}v{digits(height)}z"
        )
    name = Markup('role="img" aria-label="{}"').format(says) if says else Markup('aria-hidden="true"')
    return Markup('<svg class="spark {}" viewBox="0 0 80 20" {}>{}</svg>').format(
        tone, name, Markup('<path d="{}"/>').format("".join(bars))
    )


def dots(outcomes: Sequence[Dot], *, says: str) -> Markup:
    """Return outcomes in a row, oldest first: round ones went well, angular ones did not, hollow ones are unknown."""
    shapes = Markup().join(
        Markup('<path class="{}" d="M{} {}"><title>{}</title></path>').format(
            each.tone or "none", place * _DOT, _SHAPES.get(each.tone, _SHAPES[""]), each.title
        )
        for place, each in enumerate(outcomes)
    )
    width = max(1, len(outcomes)) * _DOT
    return Markup(
        '<svg class="dots" viewBox="0 0 {0} 12" width="{0}" height="12" role="img" aria-label="{1}">{2}</svg>'
    ).format(width, says, shapes)


def time_axis(marks: Sequence[Mark], *, says: str, even: bool = False) -> Markup:
    """Return moments on a line that begins at zero.

    Its scale grows, so that the first seconds and the last hours are both seen; `even` draws it to scale.
    """
    sound_marks = sorted(((sound(mark.seconds) or 0.0, mark) for mark in marks), key=lambda pair: pair[0])
    whole = max((seconds for seconds, _ in sound_marks), default=0.0) or 1.0
    drawn: list[Markup] = []
    labelled = -1.0
    for place, (seconds, mark) in enumerate(sound_marks):
        share = seconds / whole if even else math.log1p(seconds) / math.log1p(whole)
        at = f"{1 + 98 * share:.2f}%"
        drawn.append(
            Markup('<circle cx="{}" cy="10" r="5" class="{}"><title>{}</title></circle>').format(
                at, mark.tone or "none", mark.title or mark.label
            )
        )
        last = place == len(sound_marks) - 1
        # The last one says how long it takes in all, so its neighbour gives way to it.
        if last or (share - labelled >= _LABEL_SHARE and (1 - share >= _LABEL_SHARE)) or labelled < 0:
            anchor = "start" if share < 0.06 else "end" if share > 0.94 else "mid"  # noqa: PLR2004 - near an end
            drawn.append(
                Markup('<text x="{}" y="30" class="tick {}">{}</text>').format(at, anchor, mark.label)
            )
            labelled = share
    return Markup(
        '<svg class="time-axis" width="100%" height="36" role="img" aria-label="{}">'
        '<line x1="1%" x2="99%" y1="10" y2="10" class="grid"/>{}</svg>'
    ).format(says, Markup().join(drawn))
