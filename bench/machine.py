"""The machine under the figures: what it is, how fast one thread of it is now, and who else uses it.

The same machine may be three times slower an hour later: virtual cores are shared, and clocks vary. So each
run measures what one thread does, before and after, and how much of the CPU others took meanwhile.
"""

from __future__ import annotations

import hmac
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from bench.result import Ceiling, Noise

if TYPE_CHECKING:
    from collections.abc import Mapping

_HMAC_BODY = b"x" * 512
_HMAC_KEY = b"k" * 32
_HMACS_AT_ONCE = 500
_LOOPS_AT_ONCE = 50_000
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_STAT = Path("/proc/stat")


def machine() -> dict[str, object]:
    """Return what the figures depend on most."""
    model = ""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def thread_ceilings(*, seconds: float, when: str) -> list[Ceiling]:
    """Measure what one thread does: HMACs as in a signature, and rounds of a loop in plain Python."""
    return [
        Ceiling(
            "hmac", f"one thread, HMAC-SHA256 of 512 bytes ({when})", _hmacs(seconds), "per second", when
        ),
        Ceiling(
            "python", f"one thread, rounds of a Python loop ({when})", _loops(seconds), "per second", when
        ),
    ]


class NoiseMeter:
    """What others took of the machine between two moments, by /proc/stat; zeros where there is none."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._own = _own_seconds()
        self._busy, self._stolen = _busy_and_stolen()
        self._at = time.monotonic()

    def stop(self, *, ours: Mapping[str, float]) -> Noise:
        """Return the noise so far; `ours` are the CPU seconds of the benchmark's processes by role."""
        seconds = max(time.monotonic() - self._at, 1e-3)
        busy, stolen = _busy_and_stolen()
        foreign = busy - self._busy - sum(ours.values()) - (_own_seconds() - self._own)
        return Noise(
            stolen_cores=round((stolen - self._stolen) / seconds, 3),
            foreign_cores=round(max(foreign, 0.0) / seconds, 3),
            load_before=round(self._load, 2),
            load_after=round(os.getloadavg()[0], 2),
        )


def _busy_and_stolen() -> tuple[float, float]:
    """Return the CPU seconds of all processes, and those that the host gave to others while we wanted them."""
    try:
        fields = [int(field) for field in _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    except OSError:
        return 0.0, 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq) / _TICKS, steal / _TICKS


def _own_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended: pgbench."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _hmacs(seconds: float) -> float:
    began = time.perf_counter()
    done = 0
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(_HMACS_AT_ONCE):
            hmac.digest(_HMAC_KEY, _HMAC_BODY, "sha256")
        done += _HMACS_AT_ONCE
    return done / passed


def _loops(seconds: float) -> float:
    began = time.perf_counter()
    done = total = 0
    while (passed := time.perf_counter() - began) < seconds:
        for n in range(_LOOPS_AT_ONCE):
            total = (total + n) & 0xFFFF
        done += _LOOPS_AT_ONCE
    return done / passed
