"""The quotas of publishing: a bucket for each workspace, which may go into debt once."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.core.errors import QuotaExceeded
from app.core.quotas import NO_QUOTAS, Quotas
from app.core.settings import Settings
from app.events import meter
from app.events.meter import PublishMeter

ONE, OTHER = UUID(int=1), UUID(int=2)


class Clock:
    """Goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The meter's clock."""
    return Clock()


def meter_of(clock: Clock, **settings: float) -> PublishMeter:
    """A meter with these defaults."""
    return PublishMeter(Settings(**settings), monotonic=clock)


def accepted(metered: PublishMeter, *, own: Quotas = NO_QUOTAS, workspace: UUID = ONE, size: int = 1) -> int:
    """Publish until the quota refuses; return how many events were let in, at most a hundred."""
    for n in range(100):
        try:
            metered.take(workspace, own, events=1, payload_bytes=size)
        except QuotaExceeded:
            return n
    return 100


def test_a_workspace_gets_its_events_per_second(clock: Clock) -> None:
    """A second's worth at once, then as much as time has brought, and never more than a second's worth."""
    metered = meter_of(clock, workspace_events_per_second=10)

    counts = [accepted(metered)]
    for seconds in (0.5, 60.0):
        clock.now += seconds
        counts.append(accepted(metered))

    assert counts == [10, 5, 10]


def test_a_workspace_gets_its_bytes_per_second(clock: Clock) -> None:
    """The bytes of bodies count by themselves."""
    metered = meter_of(clock, workspace_payload_bytes_per_second=1_000)

    assert accepted(metered, size=100) == 10
    clock.now += 0.125
    assert accepted(metered, size=100) == 2


def test_a_batch_larger_than_the_quota_is_let_in_and_paid_for(clock: Clock) -> None:
    """It would never fit, so it goes into debt, and what follows waits as long as `Retry-After` says."""
    metered = meter_of(clock, workspace_events_per_second=100)
    metered.take(ONE, NO_QUOTAS, events=1_000, payload_bytes=1)

    with pytest.raises(QuotaExceeded, match="100 events per second") as caught:
        metered.take(ONE, NO_QUOTAS, events=1, payload_bytes=1)
    assert caught.value.retry_after_seconds == 9
    clock.now += 9.0
    with pytest.raises(QuotaExceeded):
        metered.take(ONE, NO_QUOTAS, events=1, payload_bytes=1)
    clock.now += 0.011
    metered.take(ONE, NO_QUOTAS, events=1, payload_bytes=1)


def test_what_is_refused_is_not_counted(clock: Clock) -> None:
    """Trying in vain does not make the wait longer."""
    metered = meter_of(clock, workspace_events_per_second=1)
    accepted(metered)
    for _ in range(50):
        assert accepted(metered) == 0

    clock.now += 1.0

    assert accepted(metered) == 1


def test_a_body_refused_for_its_bytes_takes_no_events(clock: Clock) -> None:
    """Both quotas are looked at before either is counted."""
    metered = meter_of(clock, workspace_events_per_second=5, workspace_payload_bytes_per_second=10)
    metered.take(ONE, NO_QUOTAS, events=1, payload_bytes=10)
    for _ in range(5):
        with pytest.raises(QuotaExceeded):
            metered.take(ONE, NO_QUOTAS, events=1, payload_bytes=1)

    clock.now += 0.125

    assert accepted(metered, size=0) == 5


def test_workspaces_do_not_share(clock: Clock) -> None:
    """One that has used up its quota costs another nothing."""
    metered = meter_of(clock, workspace_events_per_second=3)

    assert accepted(metered) == 3
    assert accepted(metered, workspace=OTHER) == 3


@pytest.mark.parametrize(
    ("default", "own", "expected"),
    [(0, None, 100), (0, 0, 100), (5, None, 5), (5, 0, 100), (5, 7, 7), (0, 7, 7), (0, 0.5, 1)],
)
def test_a_workspaces_own_quota_wins_over_the_default(
    clock: Clock, default: float, own: float | None, expected: int
) -> None:
    """Null is the default of the settings, 0 no limit."""
    metered = meter_of(clock, workspace_events_per_second=default)

    assert accepted(metered, own=Quotas(events_per_second=own)) == expected


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workspaces seen least recently are forgotten."""
    monkeypatch.setattr(meter, "MAX_WORKSPACES", 3)
    metered = meter_of(clock, workspace_events_per_second=1)

    for number in range(10):
        metered.take(UUID(int=number), NO_QUOTAS, events=1, payload_bytes=1)

    assert len(metered._buckets) == 3
