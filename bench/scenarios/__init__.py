"""The scenarios: each measures one thing on a stack of its own, and tells it beside the raw ceilings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.scenarios.dashboard import dashboard
from bench.scenarios.draining import drain, lanes, workers
from bench.scenarios.fanout import fanout
from bench.scenarios.history import old
from bench.scenarios.isolation import flood, hang
from bench.scenarios.memory import memory
from bench.scenarios.publishing import batch, idle, publish, steady

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.opening import Bench
    from bench.result import Result

__all__ = ["SCENARIOS"]

SCENARIOS: dict[str, Callable[[Bench], Awaitable[Result]]] = {
    scenario.__name__: scenario
    for scenario in (
        *(publish, steady, idle, batch),
        *(drain, workers, lanes, old),
        *(fanout, memory, hang, flood, dashboard),
    )
}
