"""Latencies in buckets: what is read from them is close to what went in, however they were summed."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stats.latency import (
    BOUNDS_MS,
    RELATIVE_ERROR,
    bucket_of,
    merged,
    percentile,
    percentiles_of,
)

WITHIN = st.floats(BOUNDS_MS[0], BOUNDS_MS[-1])


def histogram(values: list[float]) -> dict[int, int]:
    return merged([([bucket_of(value)], [1]) for value in values])


def test_the_error_is_within_five_per_cent() -> None:
    """The documented bound is less than what was promised."""
    assert RELATIVE_ERROR < 0.05


@given(values=st.lists(WITHIN, min_size=1, max_size=60), share=st.floats(0, 1))
def test_a_percentile_is_within_the_bound(values: list[float], share: float) -> None:
    """For any values between the bounds, and any share, the value read is close to the exact one of its rank."""
    exact = sorted(values)[max(1, ceil(share * len(values))) - 1]

    assert percentile(histogram(values), share) == pytest.approx(exact, rel=RELATIVE_ERROR + 1e-6)


@given(parts=st.lists(st.lists(WITHIN, max_size=20), max_size=5))
def test_sums_of_parts_are_the_whole(parts: list[list[float]]) -> None:
    """Summing the histograms of parts gives that of all values."""
    whole = histogram([value for part in parts for value in part])
    pairs = [histogram(part) for part in parts]

    assert merged([(list(part), list(part.values())) for part in pairs]) == whole


@given(values=st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_ascend(values: list[float]) -> None:
    """The 95th is never below the median, nor the 99th below the 95th; also for values outside the bounds."""
    found = percentiles_of(histogram(values))

    assert found is not None
    assert 0 < found.p50 <= found.p95 <= found.p99 <= BOUNDS_MS[-1]


def test_nothing_has_no_percentiles() -> None:
    """An empty histogram has none, and a bucket without values is not read."""
    assert percentiles_of({}) is None
    assert percentile({0: 0, 40: 1}, 0.0) == pytest.approx(BOUNDS_MS[39], rel=0.1)
