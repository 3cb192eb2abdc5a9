"""The API's own rate limit: a token bucket per API key, where BELLWIRE_API_RATE is set.

Buckets live in the process's memory, so that no request costs a query. With n API processes a key may
therefore get up to n times its rate; divide the setting by the number of processes where that matters.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.api.problems import RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

# Keys seen least recently are forgotten; a forgotten bucket is a full one, after a second at the latest.
MAX_BUCKETS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimiter:
    """Counts requests of each key. A rate of 0 limits nothing."""

    def __init__(self, *, per_second: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        # One second's worth at once, so that a page of a dashboard may load.
        self._burst = max(1.0, math.ceil(per_second))
        self._monotonic = monotonic
        self._buckets: OrderedDict[UUID, _Bucket] = OrderedDict()

    def take(self, key: UUID) -> dict[str, str]:
        """Count one request and return the `RateLimit-*` headers of its answer (none without a limit).

        Raises:
            RateLimited: the key has no token left; the error carries the headers and `Retry-After`.

        """
        if self._rate <= 0:
            return {}
        now = self._monotonic()
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now)
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            wait = max(1, math.ceil((1 - bucket.tokens) / self._rate))
            raise RateLimited(
                f"This API key may make {self._rate:g} requests per second. Wait {wait} s and send it again; to "
                "publish much, use POST /v1/events/batch.",
                retry_after_seconds=wait,
                headers=self._headers(bucket),
            )
        bucket.tokens -= 1
        return self._headers(bucket)

    def _headers(self, bucket: _Bucket) -> dict[str, str]:
        return {
            "RateLimit-Limit": f"{self._burst:g}",
            "RateLimit-Remaining": str(int(bucket.tokens)),
            "RateLimit-Reset": str(math.ceil((self._burst - bucket.tokens) / self._rate)),
        }
