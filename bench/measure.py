"""What is measured beside the clock: latencies, the tally by event id, CPU and memory by role."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import psutil  # type: ignore[import-untyped]
from hdrh.histogram import HdrHistogram

from tests.faults.harness.processes import cpu_seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

# Latencies are kept in microseconds up to ten minutes, to three digits.
_HIGHEST_US = 600_000_000
_DIGITS = 3
# A line over time has about so many points, none of them shorter than this.
_POINTS = 60
_SHORTEST_BIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Tally:
    """Deliveries by what became of them; all but `accepted` and `received` must be 0."""

    accepted: int
    received: int
    lost: int
    duplicate: int
    unsigned: int
    unknown: int

    @classmethod
    def of(cls, *, accepted: Iterable[Hashable], received: Iterable[Hashable], unsigned: int) -> Tally:
        """Compare what was answered 202 with what arrived: event ids, or pairs of event id and endpoint."""
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


class Latency:
    """Durations in an HDR histogram: exact to three digits, small, and merged without loss."""

    def __init__(self, histogram: HdrHistogram) -> None:
        self._histogram = histogram

    @classmethod
    def of(cls, nanoseconds: Iterable[int]) -> Self:
        """Count durations; what is longer than ten minutes counts as ten minutes."""
        histogram = HdrHistogram(1, _HIGHEST_US, _DIGITS)
        for value in nanoseconds:
            histogram.record_value(min(max(value // 1000, 1), _HIGHEST_US))
        return cls(histogram)

    @classmethod
    def decode(cls, *encoded: str) -> Self:
        """Return what `encode` wrote, of several runs together."""
        merged = HdrHistogram(1, _HIGHEST_US, _DIGITS)
        for text in encoded:
            merged.add(HdrHistogram.decode(text))
        return cls(merged)

    def encode(self) -> str:
        """Return it in HdrHistogram's own form (V2, compressed, base64)."""
        return str(self._histogram.encode().decode("ascii"))

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._histogram.get_total_count())

    def ms(self, percentile: float) -> float:
        """Return a percentile in milliseconds; 100 is the worst."""
        return float(self._histogram.get_value_at_percentile(percentile) / 1000)


class CpuMeter:
    """CPU seconds by role between two moments."""

    def __init__(self, groups: Callable[[], Mapping[str, Sequence[int]]]) -> None:
        """`groups` gives the process ids by role; one that starts in between counts from its start."""
        self._groups = groups
        self._began = time.monotonic()
        self._before = self._now()

    def used(self) -> dict[str, float]:
        """Return the CPU seconds that each role used since the start."""
        return {role: seconds - self._before[role] for role, seconds in self._now().items()}

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self._began

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


def rate_points(times: Iterable[int], *, began: int, ended: int) -> list[tuple[float, float]]:
    """Return [middle of a bin in seconds, events per second] of moments in nanoseconds."""
    seconds = max((ended - began) / 1e9, _SHORTEST_BIN_SECONDS)
    bins = max(1, min(_POINTS, int(seconds / _SHORTEST_BIN_SECONDS)))
    width = seconds / bins
    counts = Counter(min(int((at - began) / 1e9 / width), bins - 1) for at in times if began <= at <= ended)
    return [(round((n + 0.5) * width, 3), round(counts[n] / width, 1)) for n in range(bins)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the rise per unit of the first coordinate: the least-squares line through the points."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
