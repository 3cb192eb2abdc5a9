"""How often somebody may fail to sign in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.sign_in_rules import (
    ACCOUNT,
    ADDRESS,
    PAIR,
    Bucket,
    bucket_key,
    left_now,
    network_of,
    seconds_to_wait,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("tokens", "seconds", "expected"),
    [(0.0, 0, 0.0), (0.0, 10, 0.5), (0.0, 20, 1.0), (4.5, 20, 5.0), (5.0, 10_000, 5.0), (0.0, -60, 0.0)],
)
def test_a_bucket_fills_by_time_and_never_above_its_brim(
    tokens: float, seconds: int, expected: float
) -> None:
    """One token in 20 s, five at most; a clock that went back takes none away."""
    bucket = Bucket(tokens, NOW - timedelta(seconds=seconds))
    assert left_now(bucket, PAIR, now=NOW) == expected


def test_an_unknown_bucket_is_full() -> None:
    """Whoever has not failed yet may."""
    assert left_now(None, ACCOUNT, now=NOW) == 50


@pytest.mark.parametrize(("tokens", "expected"), [(1.0, 0), (5.0, 0), (0.0, 20), (0.5, 10), (0.999, 1)])
def test_how_long_to_wait(tokens: float, expected: int) -> None:
    """Whole seconds, at least one where there is no whole token."""
    assert seconds_to_wait(tokens, PAIR) == expected


@given(st.floats(min_value=0, max_value=100), st.sampled_from([PAIR, ADDRESS, ACCOUNT]))
def test_who_waits_as_told_gets_in(tokens: float, allowance) -> None:
    """After the seconds that were said there is a token, and nobody waits longer than for one."""
    wait = seconds_to_wait(tokens, allowance)
    bucket = Bucket(tokens, NOW - timedelta(seconds=wait))

    assert left_now(bucket, allowance, now=NOW) >= 1 - 1e-9
    assert wait <= allowance.seconds_each


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
        (None, "unknown"),
    ],
)
def test_what_counts_as_one_place(address: str | None, expected: str) -> None:
    """An IPv4 address; the /64 of an IPv6 one, for its holder has all of it."""
    assert network_of(address) == expected


def test_keys_do_not_run_into_each_other() -> None:
    """Neither buckets of different kinds nor parts that could be cut elsewhere share a key."""
    keys = {
        bucket_key(PAIR, "a", "bc"),
        bucket_key(PAIR, "ab", "c"),
        bucket_key(ADDRESS, "a"),
        bucket_key(ACCOUNT, "a"),
    }
    assert len(keys) == 4
