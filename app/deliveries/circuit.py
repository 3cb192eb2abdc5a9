"""The circuit of an endpoint: when it opens, closes, and tries again. Pure; time and jitter are passed in.

closed → open: too many failures. open → half open: the claim takes a probe when its time has come. half open →
closed: enough probes succeeded; half open → open: one failed. A person may move it at any time. What is decided goes
by levels on the runtime row, not by events, so that a worker that dies before it decides loses nothing: the next
result finds the same levels.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

OPEN_AFTER_FAILURES = 10
# Or at this share of failures, of at least so many results in the window.
OPEN_AT_PERCENT, OPEN_FROM_RESULTS = 70, 20
# One slot a minute; the newest one is still filling, so the window holds four to five minutes.
WINDOW_MINUTES = 5
FIRST_OPEN_SECONDS, LONGEST_OPEN_SECONDS = 30.0, 900.0
JITTER_LOW, JITTER_HIGH = 0.8, 1.2
PROBES_TO_CLOSE = 3
# `probes_ok` of a row whose probe failed, until that is acted upon.
PROBE_FAILED = -1
FIRST_RAMP = 1


class CircuitState(StrEnum):
    """Whether an endpoint gets its deliveries."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is known of an endpoint's circuit; `failed` of `results` in the window."""

    state: CircuitState
    consecutive_failures: int
    results: int
    failed: int
    openings: int
    probes_ok: int


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of the circuit, and why; `next_probe_at` and `openings` are those of an open one."""

    source: CircuitState
    target: CircuitState
    reason: str
    openings: int = 0
    next_probe_at: datetime | None = None


def decide(circuit: Circuit, *, now: datetime, jitter: float) -> Transition | None:
    """Return what becomes of a circuit after a result; None: it stays.

    An open circuit stays open whatever comes in: such a request began before it opened, or a person asked for it.
    """
    if circuit.state is CircuitState.CLOSED:
        reason = _why_open(circuit)
        return _open(circuit, reason, now=now, jitter=jitter) if reason is not None else None
    if circuit.state is CircuitState.HALF_OPEN:
        if circuit.probes_ok == PROBE_FAILED:
            return _open(circuit, "The probe failed.", now=now, jitter=jitter)
        if circuit.probes_ok >= PROBES_TO_CLOSE:
            reason = f"{circuit.probes_ok} probes in a row succeeded."
            return Transition(source=circuit.state, target=CircuitState.CLOSED, reason=reason)
    return None


def open_seconds(openings: int, *, jitter: float) -> float:
    """Return how long a circuit stays open before it is probed; `openings` since it was closed, from 1."""
    # The exponent is bounded, for a receiver may be away for months.
    doubled: float = FIRST_OPEN_SECONDS * 2 ** min(openings - 1, 10)
    return min(doubled, LONGEST_OPEN_SECONDS) * jitter


def draw_jitter() -> float:
    """Draw the factor that keeps circuits that opened together from probing together."""
    return random.uniform(JITTER_LOW, JITTER_HIGH)  # noqa: S311 - spreading load, not a secret


def in_window(slots: Sequence[int], *, newest_minute: int, minute: int) -> int:
    """Return the sum of the slots that are not over at `minute`; slot `n` holds a minute with `minute % 5 == n`."""
    return sum(
        count
        for slot, count in enumerate(slots)
        if minute - newest_minute + (newest_minute - slot) % WINDOW_MINUTES < WINDOW_MINUTES
    )


def _why_open(circuit: Circuit) -> str | None:
    if circuit.consecutive_failures >= OPEN_AFTER_FAILURES:
        return f"{circuit.consecutive_failures} requests in a row failed."
    if circuit.results >= OPEN_FROM_RESULTS and circuit.failed * 100 >= circuit.results * OPEN_AT_PERCENT:
        return f"{circuit.failed} of {circuit.results} requests failed within {WINDOW_MINUTES} minutes."
    return None


def _open(circuit: Circuit, reason: str, *, now: datetime, jitter: float) -> Transition:
    openings = circuit.openings + 1
    return Transition(
        source=circuit.state,
        target=CircuitState.OPEN,
        reason=reason,
        openings=openings,
        next_probe_at=now + timedelta(seconds=open_seconds(openings, jitter=jitter)),
    )
