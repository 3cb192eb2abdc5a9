"""Roll-ups: what is read from them is what a count over the rows says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.core.db import make_sessions
from app.deliveries.record import Settle
from app.stats.latency import RELATIVE_ERROR
from app.stats.queue_now import read_queue_now
from app.stats.rankings import read_applications, read_endpoint_figures, read_incidents
from app.stats.rollups import read_backlog, read_series
from app.stats.spans import SPAN_NAMES, Span
from workers.upkeep import run_upkeep

if TYPE_CHECKING:
    from app.core.context import Caller
    from tests.integration.engine.making import Workshop


async def test_what_happened_is_in_every_span(shop: Workshop, caller: Caller) -> None:
    """A success, a failure that is tried again, a death and a lost attempt are in the figures of each span."""
    good, bad = await shop.endpoint(), await shop.endpoint(url="https://bad.example.com/")
    await shop.publish(good, 3)
    await shop.publish(bad, 2)
    for claimed in await shop.claim(good):
        await shop.finish(claimed)
    first, second = await shop.claim(bad)
    await shop.finish(first, Settle.RETRY, error_class="read_timeout", response_status=None)
    await shop.finish(second, Settle.DEAD)

    done = await run_upkeep(shop.transactional, settings=shop.settings)

    assert done["minutes_counted"] > 0
    for name in SPAN_NAMES:
        span = Span.ending(name, shop.clock.now())
        async with make_sessions(shop.transactional)() as session:
            series = await read_series(session, caller, span=span)
            backlog = await read_backlog(session, caller, span=span)
            figures = await read_endpoint_figures(session, caller, [good, bad], span=span)
            incidents = await read_incidents(session, caller, span=span, limit=10)
            applications = await read_applications(session, caller, span=span)
            queue = await read_queue_now(session, caller)
        totals = series.totals
        assert (totals.succeeded, totals.failed, totals.unknown, totals.dead) == (3, 2, 0, 1)
        assert totals.first_try_share == pytest.approx(3 / 5)
        assert totals.eventual_share == pytest.approx(3 / 4)
        assert totals.latency is not None
        assert totals.latency.p95 == pytest.approx(12.5, rel=RELATIVE_ERROR)
        assert totals.failures == {"read_timeout": 1, "http_5xx": 1}
        assert sum(point.attempts for point in series.points) == 5
        assert series.preceding.attempts == 0
        assert figures[good].success_share == 1
        assert figures[bad].success_share == 0
        assert sum(spark.failed for spark in figures[bad].sparks) == 2
        assert {(i.endpoint_id, i.error_class, i.count) for i in incidents} == {
            (bad, "read_timeout", 1),
            (bad, "http_5xx", 1),
        }
        assert applications[0].attempts == 5
        assert applications[0].scheduled == 1
        assert max(point.scheduled for point in backlog) == 1
        assert (queue.due, queue.scheduled, queue.in_flight) == (0, 1, 0)
