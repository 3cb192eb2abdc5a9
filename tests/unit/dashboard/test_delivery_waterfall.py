"""Where the time of an attempt went: the phases in their order, each bar where it belongs and never out of the picture."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from app.dashboard.delivery.waterfall import WIDTH, Phase, waterfall
from app.models import Attempt

PHASES = ("queue", "dns", "connect", "tls", "send", "wait", "receive")


def phases(**milliseconds: float | None) -> dict[str, Phase]:
    """The phases of an attempt by their keys."""
    measured: dict[str, Any] = {f"{name}_ms": milliseconds.get(name) for name in PHASES}
    return {phase.key: phase for phase in waterfall(Attempt(**measured))}


def test_what_was_not_measured_has_no_picture() -> None:
    """An attempt that the policy refused, or whose worker was lost."""
    assert phases() == {}


@pytest.mark.parametrize(
    "milliseconds",
    [
        {"queue": 0.0},
        {"queue": 5_000.0},
        {"queue": 5_000.0, "dns": 0.0},
        dict.fromkeys(PHASES, 0.0),
        {"queue": 1e9, "wait": 1e-6},
        {"dns": 0.001, "wait": 30_000.0},
        {"receive": 1e12},
        dict.fromkeys(PHASES, 1.0),
    ],
)
def test_bars_stay_in_the_picture(milliseconds: dict[str, float]) -> None:
    """However small or large: each is seen, none begins before the one above it, none sticks out."""
    found = phases(**milliseconds)

    assert list(found) == list(PHASES)
    starts = [phase.start for phase in found.values()]
    assert starts == sorted(starts)
    for phase in found.values():
        assert phase.start >= 0
        assert phase.width > 0
        assert phase.start + phase.width <= WIDTH + 1e-6
        assert bool(phase.bar) is (phase.key in milliseconds)


def test_bars_are_as_long_as_their_phases_took() -> None:
    """Twice the time is twice the bar, and each begins where the one before it ends."""
    found = phases(dns=10.0, connect=20.0, tls=30.0, send=40.0, wait=60.0, receive=40.0)

    assert found["wait"].width == pytest.approx(2 * found["tls"].width)
    for before, after in pairwise(PHASES[1:]):
        assert found[after].start == pytest.approx(found[before].start + found[before].width)
    assert found["receive"].start + found["receive"].width == pytest.approx(WIDTH)
    assert found["queue"].ms is None


@pytest.mark.parametrize(("queue", "broken"), [(10.0, False), (86_400_000.0, True)])
def test_a_long_wait_in_the_queue_is_drawn_broken_off(queue: float, broken: bool) -> None:  # noqa: FBT001 - a table
    """Or nothing else could be seen; the figure beside it stays true."""
    found = phases(queue=queue, wait=100.0)

    assert found["queue"].broken is broken
    assert found["queue"].ms == queue
    assert found["wait"].width > WIDTH / 10
    assert ("broken" in found["queue"].bar) is broken
