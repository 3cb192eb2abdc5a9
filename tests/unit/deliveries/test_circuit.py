"""When a circuit opens, closes, and tries again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deliveries.circuit import (
    JITTER_HIGH,
    JITTER_LOW,
    OPEN_AFTER_FAILURES,
    OPEN_FROM_RESULTS,
    PROBE_FAILED,
    PROBES_TO_CLOSE,
    WINDOW_MINUTES,
    Circuit,
    CircuitState,
    decide,
    draw_jitter,
    in_window,
    open_seconds,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
GOOD = Circuit(state=CLOSED, consecutive_failures=0, results=0, failed=0, openings=0, probes_ok=0)
CIRCUITS = st.builds(
    Circuit,
    state=st.sampled_from(CircuitState),
    consecutive_failures=st.integers(0, 1_000),
    results=st.integers(0, 10_000),
    failed=st.integers(0, 10_000),
    openings=st.integers(0, 10_000),
    probes_ok=st.integers(PROBE_FAILED, 100),
)
JITTERS = st.floats(JITTER_LOW, JITTER_HIGH)


@pytest.mark.parametrize(
    ("changes", "target", "reason"),
    [
        ({"consecutive_failures": 9}, None, None),
        ({"consecutive_failures": 10}, OPEN, "10 requests in a row failed."),
        ({"consecutive_failures": 12}, OPEN, "12 requests in a row failed."),
        ({"results": 19, "failed": 19}, None, None),
        ({"results": 20, "failed": 13}, None, None),
        ({"results": 20, "failed": 14}, OPEN, "14 of 20 requests failed within 5 minutes."),
        ({"results": 100, "failed": 69}, None, None),
        ({"results": 100, "failed": 70}, OPEN, "70 of 100 requests failed within 5 minutes."),
        ({"state": OPEN, "consecutive_failures": 50, "results": 50, "failed": 50}, None, None),
        ({"state": OPEN, "probes_ok": 3}, None, None),
        ({"state": HALF_OPEN, "consecutive_failures": 50, "results": 50, "failed": 50}, None, None),
        ({"state": HALF_OPEN, "probes_ok": 2}, None, None),
        ({"state": HALF_OPEN, "probes_ok": 3}, CLOSED, "3 probes in a row succeeded."),
        ({"state": HALF_OPEN, "probes_ok": -1}, OPEN, "The probe failed."),
    ],
)
def test_what_becomes_of_a_circuit(
    changes: dict[str, object], target: CircuitState | None, reason: str | None
) -> None:
    """Each rule holds to the number, and says in words why; whatever else, the circuit stays as it is."""
    made = decide(replace(GOOD, **changes), now=NOW, jitter=1.0)

    assert (made.target if made else None, made.reason if made else None) == (target, reason)


@pytest.mark.parametrize(
    ("openings", "seconds"),
    [(1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 900), (7, 900), (30_000, 900)],
)
def test_each_opening_is_twice_as_long(openings: int, seconds: float) -> None:
    """Half a minute at first, a quarter of an hour at most, also after months."""
    assert open_seconds(openings, jitter=1.0) == seconds


@given(circuit=CIRCUITS, jitter=JITTERS)
def test_an_opening_ends_by_itself(circuit: Circuit, jitter: float) -> None:
    """Whatever opens a circuit sets the time of its probe, in the range of the jitter, and counts the opening."""
    made = decide(circuit, now=NOW, jitter=jitter)

    if made is not None and made.target is OPEN:
        assert made.openings == circuit.openings + 1
        assert made.next_probe_at is not None
        exact = open_seconds(made.openings, jitter=1.0)
        wait = made.next_probe_at - NOW
        assert timedelta(seconds=exact * 0.8) <= wait <= timedelta(seconds=exact * 1.2)
    else:
        assert made is None or (made.target, made.next_probe_at) == (CLOSED, None)


@given(circuit=CIRCUITS, jitter=JITTERS)
def test_decisions_are_moves_to_another_state(circuit: Circuit, jitter: float) -> None:
    """A decision changes the state, begins at the state that is, and never needs a second one for the same levels."""
    made = decide(circuit, now=NOW, jitter=jitter)

    if made is not None:
        assert (made.source, made.target != made.source) == (circuit.state, True)
        after = Circuit(
            state=made.target,
            consecutive_failures=0,
            results=0,
            failed=0,
            openings=made.openings,
            probes_ok=0,
        )
        assert decide(after, now=NOW, jitter=jitter) is None
    elif circuit.state is CLOSED:
        assert circuit.consecutive_failures < OPEN_AFTER_FAILURES
        assert circuit.results < OPEN_FROM_RESULTS or circuit.failed / circuit.results < 0.7
    elif circuit.state is HALF_OPEN:
        assert 0 <= circuit.probes_ok < PROBES_TO_CLOSE


@given(
    counts=st.dictionaries(st.integers(0, 40), st.integers(1, 9)),
    newest=st.integers(4, 40),
    minute=st.integers(0, 60),
)
def test_window_is_the_last_five_minutes(counts: dict[int, int], newest: int, minute: int) -> None:
    """Slots that hold the five minutes up to the newest sum up to those of them that are still in the window."""
    slots = [0] * WINDOW_MINUTES
    for at in range(newest - WINDOW_MINUTES + 1, newest + 1):
        slots[at % WINDOW_MINUTES] = counts.get(at, 0)
    minute += newest

    expected = sum(n for at, n in counts.items() if minute - WINDOW_MINUTES < at <= newest)
    assert in_window(slots, newest_minute=newest, minute=minute) == expected


def test_jitter_spreads_both_ways() -> None:
    """Circuits that opened together are not probed together."""
    drawn = [draw_jitter() for _ in range(1_000)]

    assert JITTER_LOW <= min(drawn) < 0.9
    assert 1.1 < max(drawn) <= JITTER_HIGH
