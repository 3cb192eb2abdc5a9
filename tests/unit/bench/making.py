"""Results as a run would find them, for the tests of what is made from them."""

from __future__ import annotations

from bench.measure import Latency, Tally
from bench.result import Ceiling, Figure, Noise, Result, Series, with_shares


def make_result(
    scenario="drain",
    *,
    rate=4_000.0,
    p99_ms=20.0,
    http=40_000.0,
    python=20_000_000.0,
    lost=0,
    logged=10,
    **changes,
):
    """A result with one throughput, one latency, and two ceilings."""
    ceilings = [
        Ceiling("http", "generator → receiver (before)", http, "requests/s", "before"),
        Ceiling("python", "one thread (before)", python, "per second", "before"),
    ]
    figures = [
        Figure("delivered", rate, "deliveries/s", "≥ 4,000", "http"),
        Figure("start of the call → receipt, p99", p99_ms, "ms", "≤ 40"),
        Figure("waiting at the end", 7, "deliveries"),
    ]
    values = {
        "scenario": scenario,
        "figures": with_shares(figures, ceilings),
        "ceilings": ceilings,
        "tally": Tally(accepted=10, received=10 - lost, lost=lost, duplicate=0, unsigned=0, unknown=0),
        "attempts_logged": logged,
        "cpu_seconds_per_1000": {"api": 0.1, "worker": 0.2},
        "busy_cores": {"api": 0.4, "worker": 0.8},
        "memory_mb": {"api": 120.0, "worker": 110.0},
        "noise": Noise(stolen_cores=0.01, foreign_cores=0.2, load_before=0.5, load_after=2.0),
        "latencies": {"start of the call → receipt": Latency.of(range(10**6, 10**8, 10**5))},
        "series": [Series("throughput", "delivered <fast>", [(0.5, 3_900.0), (1.5, 4_100.0)])],
        "notes": ["20 endpoints"],
    }
    return Result(**(values | changes))
