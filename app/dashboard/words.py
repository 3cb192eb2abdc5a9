"""States and times in words: the same on every page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from markupsafe import Markup

from app.core.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_SECOND_MS = 1_000
_UNITS = ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s"))
_SOON = timedelta(seconds=1)

# State -> the colour that goes with the word; words without one are neutral.
_TONES = {
    "succeeded": "ok",
    "closed": "ok",
    "active": "ok",
    "sending": "info",
    "pending": "",
    "scheduled": "",
    "retrying": "warn",
    "half_open": "warn",
    "paused": "warn",
    "unknown": "warn",
    "dead": "bad",
    "failed": "bad",
    "open": "bad",
    "disabled": "bad",
    "cancelled": "",
}


def tone(state: str) -> str:
    """Return the colour of a state: ok, info, warn, bad, or none."""
    return _TONES.get(state, "")


def pill(state: str) -> Markup:
    """Return a state as a word on its colour."""
    return Markup('<span class="pill {}">{}</span>').format(tone(state), state.replace("_", "-"))


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units at most; a negative one is none at all."""
    if seconds is None:
        return "—"
    seconds = max(0.0, seconds)
    if seconds < _SOON.total_seconds():
        return f"{seconds * _SECOND_MS:.0f} ms"
    if seconds < 10:  # noqa: PLR2004 - below ten seconds a tenth says something
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, large_unit, small, small_unit in _UNITS:
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {large_unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def milliseconds(value: float | None) -> str:
    """Return milliseconds as they are read best."""
    if value is None:
        return "—"
    if value < 10:  # noqa: PLR2004 - below ten milliseconds a tenth says something
        return f"{value:.1f} ms"
    if value < 10 * _SECOND_MS:
        return f"{value:,.0f} ms"
    return duration(value / _SECOND_MS)


def ago(value: datetime | None, now: datetime) -> str:
    """Return how long ago something was, or how long it is until then."""
    if value is None:
        return "never"
    if abs(value - now) < _SOON:
        return "now"
    if value > now:
        return f"in {duration((value - now).total_seconds())}"
    return f"{duration((now - value).total_seconds())} ago"


def time_tag(value: datetime | None, now: datetime) -> Markup | str:
    """Return a moment as people read it, with the exact time (UTC) for who points at it and for programs."""
    if value is None:
        return "—"
    exact = rfc3339(value)
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, ago(value, now))


def clock(value: datetime | None) -> Markup | str:
    """Return the time of day (UTC); the browser may show it in its own zone."""
    if value is None:
        return "—"
    exact = rfc3339(value)
    return Markup('<time datetime="{0}" title="{0}" data-clock>{1}</time>').format(exact, f"{value:%H:%M:%S}")


def size(count: int | None) -> str:
    """Return a number of bytes."""
    if count is None:
        return "—"
    if count < 1_024:  # noqa: PLR2004 - a KiB
        return f"{count} B"
    if count < 1_024 * 1_024:
        return f"{count / 1_024:,.1f} KiB"
    return f"{count / 1_048_576:,.1f} MiB"


def percent(share: float | None) -> str:
    """Return a share (0 to 1) in percent: what is not all is never shown as 100 %."""
    if share is None:
        return "—"
    if share >= 1:
        return "100%"
    value = share * 100
    return "99.99%" if value > 99.99 else f"{value:.2f}%" if value >= 99 else f"{value:.1f}%"  # noqa: PLR2004 - digits


def capped(count: int, most: int) -> str:
    """Return a count that was not counted beyond `most`."""
    return f"{most:,}+" if count > most else f"{count:,}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


FILTERS: dict[str, Callable[..., object]] = {
    "pill": pill,
    "tone": tone,
    "duration": duration,
    "milliseconds": milliseconds,
    "size": size,
    "percent": percent,
    "clock": clock,
}
