"""The API's own rate limit."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.api import rate_limit
from app.api.problems import RateLimited
from app.api.rate_limit import RateLimiter

KEY, OTHER = UUID(int=1), UUID(int=2)


class Clock:
    """A monotonic clock that moves when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_without_a_rate_nothing_is_limited():
    """0 means no limit and no headers."""
    limiter = RateLimiter(per_second=0)
    assert [limiter.take(KEY) for _ in range(1000)] == [{}] * 1000


def test_allows_a_second_s_worth_and_then_refuses():
    """After the burst the caller is told how long to wait."""
    limiter = RateLimiter(per_second=3, monotonic=Clock())
    remaining = [limiter.take(KEY)["RateLimit-Remaining"] for _ in range(3)]
    with pytest.raises(RateLimited) as caught:
        limiter.take(KEY)
    assert remaining == ["2", "1", "0"]
    assert caught.value.retry_after_seconds == 1
    assert caught.value.headers == {
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "1",
    }


def test_tokens_come_back_with_time():
    """At 0.5 per second a key waits two seconds for the next request."""
    clock = Clock()
    limiter = RateLimiter(per_second=0.5, monotonic=clock)
    limiter.take(KEY)
    with pytest.raises(RateLimited) as caught:
        limiter.take(KEY)
    clock.now += caught.value.retry_after_seconds
    limiter.take(KEY)
    assert caught.value.retry_after_seconds == 2


def test_keys_do_not_share_a_bucket():
    """One key's haste is not another's."""
    limiter = RateLimiter(per_second=1, monotonic=Clock())
    limiter.take(KEY)
    assert limiter.take(OTHER)["RateLimit-Remaining"] == "0"


def test_memory_is_bounded(monkeypatch):
    """The key that was seen least recently is forgotten first."""
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 2)
    limiter = RateLimiter(per_second=1, monotonic=Clock())
    for number in (1, 2, 3):
        limiter.take(UUID(int=number))
    assert list(limiter._buckets) == [UUID(int=2), UUID(int=3)]
