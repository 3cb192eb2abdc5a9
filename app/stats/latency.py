"""Latencies in buckets whose counts are summed: percentiles of any range are read from the sum. Pure.

Each bucket's upper bound is 1.1 times its lower one, and a value is read as the geometric middle of its bucket: between
`BOUNDS_MS[0]` and `BOUNDS_MS[-1]` it is off by at most `RELATIVE_ERROR`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# A receiver on the same machine answers in 0.2 ms; the longest timeout is 30 s.
LOWEST_MS = 0.2
GROWTH = 1.1
# Bucket 0 is below the first bound, the last one has no upper bound.
BOUNDS_MS: tuple[float, ...] = tuple(round(LOWEST_MS * GROWTH**n, 6) for n in range(127))
RELATIVE_ERROR = sqrt(GROWTH) - 1  # 4.9 %


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds within which 50, 95 and 99 % of the attempts ended."""

    p50: float
    p95: float
    p99: float


def bucket_of(milliseconds: float) -> int:
    """Return the number of a value's bucket; Postgres' `width_bucket` with these bounds returns the same."""
    return bisect_right(BOUNDS_MS, milliseconds)


def merged(histograms: Iterable[tuple[Sequence[int], Sequence[int]]]) -> dict[int, int]:
    """Return the sum of histograms, each given as the numbers of its buckets and their counts."""
    total: dict[int, int] = {}
    for buckets, counts in histograms:
        if not total:
            total = dict(zip(buckets, counts, strict=True))
            continue
        for bucket, count in zip(buckets, counts, strict=True):
            total[bucket] = total.get(bucket, 0) + count
    return total


def percentiles_of(histogram: Mapping[int, int]) -> Percentiles | None:
    """Return the percentiles of a histogram; None if it is empty."""
    if not histogram:
        return None
    return Percentiles(
        p50=percentile(histogram, 0.5), p95=percentile(histogram, 0.95), p99=percentile(histogram, 0.99)
    )


def percentile(histogram: Mapping[int, int], share: float) -> float:
    """Return the milliseconds within which this share of a histogram, which is not empty, lies."""
    rank = max(1, ceil(share * sum(histogram.values())))
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= rank:
            return _middle(bucket)
    raise ValueError("a histogram without values")


def _middle(bucket: int) -> float:
    if bucket <= 0:
        return BOUNDS_MS[0] / 2
    if bucket >= len(BOUNDS_MS):
        return BOUNDS_MS[-1]
    return sqrt(BOUNDS_MS[bucket - 1] * BOUNDS_MS[bucket])
