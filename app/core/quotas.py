"""What a workspace may use: its own values where it has some, else those of the settings; 0 is no limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.core.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Events and bytes of published bodies per second, and how many endpoints; None is the settings' default."""

    events_per_second: float | None = None
    payload_bytes_per_second: int | None = None
    endpoints: int | None = None

    def over(self, settings: Settings) -> Quotas:
        """Return what is in force: no value is None any more."""
        events, size, endpoints = self.events_per_second, self.payload_bytes_per_second, self.endpoints
        return Quotas(
            events_per_second=settings.workspace_events_per_second if events is None else events,
            payload_bytes_per_second=settings.workspace_payload_bytes_per_second if size is None else size,
            endpoints=settings.workspace_endpoints if endpoints is None else endpoints,
        )


NO_QUOTAS = Quotas()
