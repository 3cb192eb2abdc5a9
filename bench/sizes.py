"""How much of everything: the real run, and the quick one that shows that all of it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """The real run."""

    warm_up_seconds: float = 5.0
    publish_seconds: float = 60.0
    steady_seconds: float = 30.0
    idle_requests: int = 300
    batch_events: int = 50_000
    drain_events: int = 100_000
    worker_counts: tuple[int, ...] = (1, 2, 4)
    lane_counts: tuple[int, ...] = (1, 20, 2_000)
    # One endpoint alone is bounded by its cap, so it gets a part of the others' backlog.
    single_lane_events: int = 30_000
    old_deliveries: int = 5_000_000
    old_attempts: int = 6_000_000
    fanout_endpoints: int = 10_000
    fanout_rounds: int = 5
    hang_seconds: float = 40.0
    hang_waiting: int = 10_000
    flood_waiting: int = 1_000_000
    flood_requests: int = 300
    memory_seconds: float = 240.0
    page_deliveries: int = 5_000_000
    page_attempts: int = 10_000_000
    page_rounds: int = 30
    sample_seconds: float = 1.0
    ceiling_seconds: float = 3.0
    probe_seconds: float = 0.5
    ceilings_twice: bool = True
    # False: all scenarios share one stack, which saves most of a quick run's time.
    fresh_stacks: bool = True


QUICK = Size(
    warm_up_seconds=0.5,
    publish_seconds=1.5,
    steady_seconds=1.5,
    idle_requests=10,
    batch_events=1_000,
    drain_events=1_000,
    worker_counts=(1, 2),
    lane_counts=(1, 40),
    single_lane_events=200,
    old_deliveries=4_000,
    old_attempts=6_000,
    fanout_endpoints=1_100,
    fanout_rounds=1,
    hang_seconds=1.5,
    hang_waiting=100,
    flood_waiting=3_000,
    flood_requests=10,
    memory_seconds=2.0,
    page_deliveries=2_000,
    page_attempts=3_000,
    page_rounds=2,
    sample_seconds=0.2,
    ceiling_seconds=0.2,
    probe_seconds=0.05,
    ceilings_twice=False,
    fresh_stacks=False,
)
