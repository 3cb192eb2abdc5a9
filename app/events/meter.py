"""The quotas of publishing: events and bytes per second and workspace, counted in the API process's memory.

No statement is added to a publish: what a workspace may use comes with its key, whose look-up is remembered for ten
seconds. With n API processes a workspace may therefore publish up to n times its quota.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core.errors import QuotaExceeded
from app.core.quotas import NO_QUOTAS

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from app.core.quotas import Quotas
    from app.core.settings import Settings

# Workspaces seen least recently are forgotten; a forgotten bucket is a full one.
MAX_WORKSPACES = 10_000


@dataclass(slots=True)
class _Bucket:
    events: float
    payload_bytes: float
    at: float


class PublishMeter:
    """One bucket a workspace, which holds one second's worth.

    A request is let in while something is left, and may take more than that: the workspace then waits until its debt is
    paid. So a batch larger than the quota is possible, and the rate holds over time.
    """

    def __init__(self, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        # Of nearly all workspaces; made once, because a publish takes microseconds.
        self._defaults = NO_QUOTAS.over(settings)
        self._monotonic = monotonic
        self._buckets: OrderedDict[UUID, _Bucket] = OrderedDict()

    def take(self, workspace_id: UUID, own: Quotas, *, events: int, payload_bytes: int) -> None:
        """Count one request to publish.

        Raises:
            QuotaExceeded: the workspace has used up its quota for now; nothing was counted.

        """
        quotas = self._defaults if own is NO_QUOTAS else own.over(self._settings)
        events_rate, bytes_rate = quotas.events_per_second or 0.0, quotas.payload_bytes_per_second or 0
        if events_rate <= 0 and bytes_rate <= 0:
            return
        now = self._monotonic()
        bucket = self._buckets.pop(workspace_id, None) or _Bucket(math.inf, math.inf, now)
        self._buckets[workspace_id] = bucket
        if len(self._buckets) > MAX_WORKSPACES:
            self._buckets.popitem(last=False)
        passed = now - bucket.at
        bucket.at = now
        waits = []
        if events_rate > 0:
            bucket.events = min(max(events_rate, 1.0), bucket.events + passed * events_rate)
            waits.append(-bucket.events / events_rate)
        if bytes_rate > 0:
            bucket.payload_bytes = min(bytes_rate, bucket.payload_bytes + passed * bytes_rate)
            waits.append(-bucket.payload_bytes / bytes_rate)
        wait = max(waits)
        if wait >= 0:
            seconds = max(1, math.ceil(wait))
            raise QuotaExceeded(
                f"This workspace may publish {_in_words(events_rate, bytes_rate)}. Wait {seconds} s and send the same "
                "request again, or ask the operator for more.",
                retry_after_seconds=seconds,
            )
        bucket.events -= events
        bucket.payload_bytes -= payload_bytes


def _in_words(events_rate: float, bytes_rate: float) -> str:
    parts = []
    if events_rate > 0:
        parts.append(f"{events_rate:g} events")
    if bytes_rate > 0:
        parts.append(f"{bytes_rate:,} bytes")
    return " and ".join(parts) + " per second"
