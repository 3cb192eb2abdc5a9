"""An endpoint as its pages show it: its state and why, its circuit, what it gets, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.core import ids
from app.deliveries.circuit import (
    FIRST_OPEN_SECONDS,
    LONGEST_OPEN_SECONDS,
    OPEN_AFTER_FAILURES,
    OPEN_AT_PERCENT,
    OPEN_FROM_RESULTS,
    PROBES_TO_CLOSE,
    WINDOW_MINUTES,
    in_window,
)
from app.endpoints.changes import DISABLED_BY
from app.endpoints.disabling import GONE_REASON
from app.endpoints.patterns import EVERYTHING
from app.endpoints.targets import shown_url

if TYPE_CHECKING:
    from datetime import datetime

    from app.core.context import Caller
    from app.dashboard.endpoints.queries import EndpointRow
    from app.models import EndpointRuntime

RULE = (
    f"Opens after {OPEN_AFTER_FAILURES} failures in a row, or when {OPEN_AT_PERCENT} % of at least "
    f"{OPEN_FROM_RESULTS} requests failed within {WINDOW_MINUTES} minutes. Then it stays open for "
    f"{FIRST_OPEN_SECONDS:.0f} s, after each failed probe twice as long, up to {LONGEST_OPEN_SECONDS / 60:.0f} minutes, "
    f"and closes after {PROBES_TO_CLOSE} probes in a row that succeeded."
)
# What was kept before it was said who it was.
_SOMEBODY = "Disabled through the API."
# A count of zero has no word of its own; a list names so many patterns and says how many more there are.
LISTED_PATTERNS = 3


@dataclass(frozen=True, slots=True)
class ShownEndpoint:
    """One endpoint, for templates. `state` is active, paused or disabled; `why` says more where there is more."""

    id: str
    url: str
    description: str | None
    application: str
    application_id: str
    application_uid: str | None
    state: str
    why: str | None
    circuit: str
    held_open: bool
    patterns: list[str]
    everything: bool
    filtered: bool
    backlog: int
    counted_to: int
    oldest_due: datetime | None
    last_success_at: datetime | None
    last_failure_at: datetime | None

    @property
    def path(self) -> str:
        """Where its pages are."""
        return f"/dashboard/endpoints/{self.id}"

    @property
    def name(self) -> str:
        """What it is called: its URL without the scheme, which all of them have."""
        return self.url.partition("://")[2] or self.url

    @property
    def listed(self) -> list[str]:
        """The first of its patterns."""
        return self.patterns[:LISTED_PATTERNS]

    @property
    def more(self) -> int:
        """How many patterns are not among those listed."""
        return len(self.patterns) - len(self.listed)


@dataclass(frozen=True, slots=True)
class Limits:
    """What slows an endpoint down, and what its filter could not judge."""

    in_flight: int
    cap: int
    fifo: bool
    rate: float | None
    burst: int | None
    held_until: datetime | None
    held_reason: str | None
    filter_errors: int
    last_filter_error: str | None


@dataclass(frozen=True, slots=True)
class ShownCircuit:
    """The circuit of one endpoint, and how near it is to its thresholds."""

    state: str
    reason: str | None
    opened_at: datetime | None
    next_probe_at: datetime | None
    held_open: bool
    openings: int
    probes_ok: int
    consecutive_failures: int
    results: int
    failed: int
    ramp: int | None
    max_in_flight: int
    rule: str = field(default=RULE)

    @property
    def closed(self) -> bool:
        """Everything is sent."""
        return self.state == "closed"


def show(row: EndpointRow, caller: Caller) -> ShownEndpoint:
    """Return an endpoint as this caller may see it."""
    endpoint, runtime = row.endpoint, row.runtime
    patterns = list(dict.fromkeys(pattern for each in row.selectors for pattern in each.event_types))
    return ShownEndpoint(
        id=ids.to_text(ids.ENDPOINT, endpoint.id),
        url=shown_url(endpoint.url, caller),
        description=endpoint.description,
        application=row.application_name,
        application_id=ids.to_text(ids.APPLICATION, endpoint.application_id),
        application_uid=row.application_uid,
        state=state_of(enabled=endpoint.enabled, paused=endpoint.paused),
        why=why(row),
        circuit=runtime.circuit_state,
        held_open=_held_open(runtime),
        patterns=patterns,
        everything=EVERYTHING in patterns,
        filtered=any(each.filter is not None for each in row.selectors),
        backlog=row.backlog,
        counted_to=row.counted_to,
        oldest_due=row.oldest_due,
        last_success_at=runtime.last_success_at,
        last_failure_at=runtime.last_failure_at,
    )


def state_of(*, enabled: bool, paused: bool) -> str:
    """Return the word for what an endpoint's switches say."""
    if not enabled:
        return "disabled"
    return "paused" if paused else "active"


def why(row: EndpointRow) -> str | None:
    """Return why an endpoint does not get its deliveries, in a few words; None where nothing keeps them."""
    endpoint, runtime = row.endpoint, row.runtime
    if not endpoint.enabled:
        return _why_disabled(endpoint.disabled_reason)
    if endpoint.paused:
        return "by a person; events keep collecting"
    if runtime.fifo_blocked_by is not None:
        return "its FIFO line waits for a dead delivery"
    return None


def _why_disabled(reason: str | None) -> str | None:
    if reason is None:
        return None
    if reason == GONE_REASON:
        return "the receiver answered 410 Gone"
    if reason == _SOMEBODY:
        return "by a person"
    if reason.startswith(DISABLED_BY):
        return "by " + reason.removeprefix(DISABLED_BY).removesuffix(".")
    return "automatically: it failed for days"


def show_circuit(row: EndpointRow, *, now: datetime) -> ShownCircuit:
    """Return the circuit of an endpoint."""
    runtime = row.runtime
    minute = int(now.timestamp()) // 60
    failed = in_window(runtime.window_failed, newest_minute=runtime.window_minute, minute=minute)
    succeeded = in_window(runtime.window_ok, newest_minute=runtime.window_minute, minute=minute)
    return ShownCircuit(
        state=runtime.circuit_state,
        reason=runtime.circuit_reason,
        opened_at=runtime.circuit_opened_at,
        next_probe_at=runtime.next_probe_at,
        held_open=_held_open(runtime),
        openings=runtime.circuit_openings,
        probes_ok=max(0, runtime.probes_ok),
        consecutive_failures=runtime.consecutive_failures,
        results=failed + succeeded,
        failed=failed,
        ramp=runtime.ramp,
        max_in_flight=runtime.max_in_flight,
    )


def show_limits(row: EndpointRow) -> Limits:
    """Return the limits of an endpoint, as they hold now."""
    runtime = row.runtime
    cap = runtime.max_in_flight if runtime.ramp is None else min(runtime.ramp, runtime.max_in_flight)
    if runtime.fifo:
        cap = 1
    return Limits(
        # What is answered and not recorded yet is counted, too, though its place is in use again.
        in_flight=min(runtime.in_flight, cap),
        cap=cap,
        fifo=runtime.fifo,
        rate=runtime.rate_per_second,
        burst=runtime.rate_burst,
        held_until=runtime.held_until,
        held_reason=runtime.held_reason,
        filter_errors=runtime.filter_errors,
        last_filter_error=runtime.last_filter_error,
    )


def _held_open(runtime: EndpointRuntime) -> bool:
    return runtime.circuit_state == "open" and runtime.next_probe_at is None
