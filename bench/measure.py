"""What is measured beside the clock: latencies, the tally by event id, CPU and memory by role."""

from __future__ import annotations

import os
import platform
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
from hdrh.histogram import HdrHistogram

from tests.faults.harness.processes import cpu_seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# Latencies are kept in microseconds up to ten minutes, to three digits.
_HIGHEST_US = 600_000_000
_DIGITS = 3
_PERCENTILES = (50, 90, 99, 99.9, 100)


@dataclass(frozen=True, slots=True)
class Tally:
    """Events by what became of them; all but `accepted` and `received` must be 0."""

    accepted: int
    received: int
    lost: int
    duplicate: int
    unsigned: int
    unknown: int

    @classmethod
    def of(cls, *, accepted: Iterable[str], received: Iterable[str], unsigned: int) -> Tally:
        """Compare the ids that were answered 202 with those that arrived. Each goes to one endpoint."""
        published = set(accepted)
        times = Counter(received)
        return cls(
            accepted=len(published),
            received=len(times),
            lost=len(published - times.keys()),
            duplicate=sum(number - 1 for number in times.values()),
            unsigned=unsigned,
            unknown=len(times.keys() - published),
        )

    @property
    def clean(self) -> bool:
        """Tell whether everything arrived once, signed, and nothing else did."""
        return self.lost == self.duplicate == self.unsigned == self.unknown == 0


def percentiles_ms(nanoseconds: Iterable[int]) -> dict[str, float]:
    """Return the percentiles of some durations, in milliseconds."""
    histogram = HdrHistogram(1, _HIGHEST_US, _DIGITS)
    for value in nanoseconds:
        histogram.record_value(min(max(value // 1000, 1), _HIGHEST_US))
    return {f"p{p:g}": histogram.get_value_at_percentile(p) / 1000 for p in _PERCENTILES}


class CpuMeter:
    """CPU seconds by role between two moments."""

    def __init__(self, groups: Callable[[], Mapping[str, Sequence[int]]]) -> None:
        """`groups` gives the process ids by role; one that starts in between counts from its start."""
        self._groups = groups
        self._before = self._now()

    def per_thousand(self, deliveries: int) -> dict[str, float]:
        """Return the CPU seconds that each role used since the start, per 1,000 deliveries."""
        return {
            role: round((used - self._before[role]) * 1000 / max(deliveries, 1), 4)
            for role, used in self._now().items()
        }

    def _now(self) -> dict[str, float]:
        return {role: cpu_seconds_of(pids) for role, pids in self._groups().items()}


def memory_mb(groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return the memory of the largest process of each role, in MB: shared pages count for each."""
    largest: dict[str, float] = {}
    for role, pids in groups.items():
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(pid)
                for process in [parent, *parent.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):
                        size = process.memory_info().rss / 1_000_000
                        largest[role] = round(max(largest.get(role, 0.0), size), 1)
    return largest


def machine() -> dict[str, object]:
    """Return what the figures depend on most."""
    model = ""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }
