"""Shifts the clock of one process by CLOCK_SHIFT_SECONDS: Python loads this when PYTHONPATH names the folder.

Only the time of day is wrong, as on a machine without NTP; the monotonic clock goes on as ever. What C code asks
the kernel for is right, so the shift covers what Python code sees: `time` and `datetime`.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import Any

_SHIFT = float(os.environ["CLOCK_SHIFT_SECONDS"])
_DELTA = dt.timedelta(seconds=_SHIFT)
_time, _time_ns, _clock_gettime = time.time, time.time_ns, time.clock_gettime
_Datetime = dt.datetime


class _Kind(type):
    """Every date and time of the standard library counts as one of ours."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Datetime)


class _ShiftedDatetime(_Datetime, metaclass=_Kind):
    """Stands in for `datetime.datetime`; whatever it makes is one of the standard library's."""

    # Of the same size as the original, which C extensions check.
    __slots__ = ()

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return _Datetime(*arguments, **named)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return _Datetime.now(tz) + _DELTA

    @classmethod
    def utcnow(cls) -> Any:
        return _Datetime.now(dt.UTC).replace(tzinfo=None) + _DELTA

    @classmethod
    def today(cls) -> Any:
        return _Datetime.now() + _DELTA


def _shifted_clock_gettime(clock: int) -> float:
    return _clock_gettime(clock) + (_SHIFT if clock == time.CLOCK_REALTIME else 0)


time.time = lambda: _time() + _SHIFT
time.time_ns = lambda: _time_ns() + int(_SHIFT * 1e9)
time.clock_gettime = _shifted_clock_gettime
dt.datetime = _ShiftedDatetime  # type: ignore[misc]
