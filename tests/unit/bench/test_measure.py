"""What the benchmark measures: the tally, the histograms, rates over time, slopes, and CPU time."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.machine import NoiseMeter, thread_ceilings
from bench.measure import CpuMeter, Latency, Tally, rate_points, slope
from bench.rig import Load


def tally(*, accepted=(), received=(), unsigned=0):
    return Tally.of(accepted=accepted, received=received, unsigned=unsigned)


def test_a_lost_event_is_not_clean():
    """What was answered 202 and did not arrive is lost."""
    found = tally(accepted=["a", "b"], received=["a"])
    assert (found.lost, found.clean) == (1, False)


def test_a_second_arrival_is_not_clean():
    """Each arrival after the first is a duplicate."""
    found = tally(accepted=["a"], received=["a", "a", "a"])
    assert (found.duplicate, found.received, found.clean) == (2, 1, False)


def test_what_nobody_published_is_not_clean():
    """An arrival without a publish is unknown, and makes up for no lost one."""
    found = tally(accepted=["a"], received=["b"])
    assert (found.unknown, found.lost, found.clean) == (1, 1, False)


def test_an_unsigned_arrival_is_not_clean():
    """Signatures that did not verify count."""
    assert not tally(accepted=["a"], received=["a"], unsigned=1).clean


def test_everything_once_is_clean():
    """In any order."""
    assert tally(accepted=["a", "b"], received=["b", "a"]).clean


def test_pairs_tell_the_endpoints_of_one_event_apart():
    """An event that came twice to one endpoint and not to the other is both duplicate and lost."""
    found = tally(accepted=[("a", "/1"), ("a", "/2")], received=[("a", "/1"), ("a", "/1")])
    assert (found.lost, found.duplicate) == (1, 1)


# A busy machine is no fault.
@settings(deadline=None)
@given(st.lists(st.integers(min_value=1_000, max_value=60 * 10**9), min_size=1, max_size=50))
def test_percentiles_are_true_to_three_digits(nanoseconds):
    """The worst is the largest value; the median is one of the values, to three digits or a microsecond."""
    latency = Latency.of(nanoseconds)
    assert latency.count == len(nanoseconds)
    assert latency.ms(100) == pytest.approx(max(nanoseconds) / 1e6, rel=2e-3, abs=1e-3)
    median = sorted(nanoseconds)[(len(nanoseconds) - 1) // 2]
    assert latency.ms(50) == pytest.approx(median / 1e6, rel=2e-3, abs=1e-3)


def test_no_duration_is_lost_at_the_ends():
    """What is shorter than a microsecond or longer than ten minutes counts at that end."""
    latency = Latency.of([0, 10**15])
    assert latency.count == 2
    assert latency.ms(0) == pytest.approx(0.001)
    assert latency.ms(100) == pytest.approx(600_000, rel=2e-3)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1_000, 10**11), min_size=1, max_size=20), min_size=1, max_size=4))
def test_merged_runs_are_as_one_run(runs):
    """Encoded, decoded and merged, several runs have the percentiles of all their durations together."""
    merged = Latency.decode(*(Latency.of(run).encode() for run in runs))
    together = Latency.of([value for run in runs for value in run])
    assert merged.count == together.count
    assert [merged.ms(p) for p in (0, 50, 95, 99, 100)] == [together.ms(p) for p in (0, 50, 95, 99, 100)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200))
def test_rates_over_time_lose_no_event(times):
    """The area under the line is the number of events, whatever the bins."""
    points = rate_points(times, began=min(times), ended=max(times))
    width = 2 * points[0][0]
    assert sum(rate * width for _, rate in points) == pytest.approx(len(times), rel=0.01, abs=0.6)


def test_rates_show_where_the_events_were():
    """A second of nothing between two busy ones is seen."""
    times = [n * 1_000_000 for n in range(1_000)] + [2 * 10**9 + n * 1_000_000 for n in range(1_000)]
    points = rate_points(times, began=0, ended=3 * 10**9)
    assert {rate for at, rate in points if 1.05 < at < 1.95} == {0.0}
    assert all(rate == pytest.approx(1_000, rel=0.05) for at, rate in points if at < 0.95 or at > 2.05)


@settings(deadline=None)
@given(st.floats(-100, 100), st.floats(-100, 100))
def test_slope_of_a_straight_line(rise, start):
    """The least-squares line through points of a line is that line."""
    points = [(x / 2, start + rise * x / 2) for x in range(10)]
    assert slope(points) == pytest.approx(rise, abs=1e-6)


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)]])
def test_too_few_points_have_no_slope(points):
    """One sample, or all at one moment, tell nothing."""
    assert slope(points) == 0.0


def test_cpu_meter_counts_the_work_of_its_roles():
    """The CPU time of a process is its role's, from the start of the meter on; a role without a process has none."""
    meter = CpuMeter(lambda: {"us": [os.getpid()], "nobody": []})
    _spin_for(0.1)
    used = meter.used()
    assert used["us"] >= 0.05
    assert used["nobody"] == 0


def test_noise_leaves_out_what_is_ours():
    """More CPU time than was used cannot make the others' negative."""
    meter = NoiseMeter()
    _spin_for(0.05)
    assert meter.stop(ours={"api": 1e9}).foreign_cores == 0


def test_thread_ceilings_tell_what_and_when():
    """Both kinds are measured, and say when."""
    found = thread_ceilings(seconds=0.01, when="after")
    assert [ceiling.kind for ceiling in found] == ["hmac", "python"]
    assert all(
        ceiling.value > 0 and ceiling.when == "after" and "(after)" in ceiling.name for ceiling in found
    )


def _spin_for(seconds):
    """Use CPU time, as much as this process gets of it."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_loads_are_joined_and_cut_by_their_times():
    """Two loads together have all events; the first seconds have those that were begun in them."""
    one = Load(accepted=[("a", 0, 5)], events=1, statuses={"202": 1}, began=0, ended=10**9)
    two = Load(
        accepted=[("b", 2 * 10**9, 0), ("c", 3 * 10**9, 0)],
        events=2,
        statuses={"202": 2},
        began=2 * 10**9,
        ended=4 * 10**9,
    )
    both = Load.of(one, two)
    assert (both.events, both.seconds) == (3, 4.0)
    early = two.first(1)
    assert ([event for event, _, _ in early.accepted], early.seconds) == (["b"], 1.0)
