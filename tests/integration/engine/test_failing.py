"""Endpoints that fail for days: warned of at 24 and 72 hours, disabled after five days, on the real tables."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.core import ids
from app.core.clock import rfc3339
from app.deliveries import ranks
from app.endpoints.disabling import disable_gone
from app.endpoints.failing import settle_failing
from app.events.accept import Verdict
from tests.integration.engine.making import URL
from workers.upkeep import run_upkeep

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Row

    from tests.integration.engine.making import Workshop


async def failing_endpoint(shop: Workshop, *, hours: float, failures: int = 30, **more: Any) -> UUID:
    """Make an endpoint whose first failure since a success is so long ago."""
    runtime = {"consecutive_failures": failures, "failing_since": datetime.now(UTC) - timedelta(hours=hours)}
    return await shop.endpoint(runtime=runtime | more.pop("runtime", {}), **more)


async def settle(shop: Workshop, **named: Any) -> tuple[int, int]:
    async with shop.transaction() as connection:
        return await settle_failing(connection, **named)


async def notices(shop: Workshop) -> list[Row[Any]]:
    return await shop.sql("SELECT * FROM notices ORDER BY id")


async def endpoint_row(shop: Workshop, endpoint: UUID) -> Row[Any]:
    (row,) = await shop.sql("SELECT * FROM endpoints WHERE id = :id", id=endpoint)
    return row


async def test_nothing_is_due_before_a_day(shop: Workshop) -> None:
    """An endpoint that has failed for 23 hours, and one that does not fail, are left alone."""
    await failing_endpoint(shop, hours=23)
    await shop.endpoint()

    assert (await settle(shop), await notices(shop)) == ((0, 0), [])


@pytest.mark.parametrize(("hours", "before", "level"), [(25, 0, 1), (73, 1, 2)])
async def test_each_warning_is_given_once(shop: Workshop, hours: int, before: int, level: int) -> None:
    """Its operators are told since when it fails, how often, and when it will be disabled."""
    endpoint = await failing_endpoint(
        shop, hours=hours, runtime={"failure_warnings": before}, url=f"{URL}?key=secret"
    )

    done = [await settle(shop) for _ in range(2)]

    runtime = await shop.runtime(endpoint)
    (notice,) = await notices(shop)
    assert (done, runtime.failure_warnings) == ([(1, 0), (0, 0)], level)
    assert (notice.workspace_id, notice.type) == (shop.workspace_id, "endpoint.failing")
    assert notice.data == {
        "endpoint": str(endpoint),
        "url": URL,
        "application": str(shop.application_id),
        "application_uid": "default",
        "failing_since": rfc3339(runtime.failing_since),
        "consecutive_failures": 30,
        "warning": level,
        "disable_at": rfc3339(runtime.failing_since + timedelta(days=5)),
    }
    assert (await endpoint_row(shop, endpoint)).enabled


async def test_after_five_days_it_is_disabled(shop: Workshop) -> None:
    """It says why, is closed for claims and for matching, is audited as Bellwire's own act, and is told."""
    endpoint = await failing_endpoint(shop, hours=121, runtime={"failure_warnings": 2})
    await shop.publish(endpoint)

    done = [await settle(shop) for _ in range(2)]

    row, runtime = await endpoint_row(shop, endpoint), await shop.runtime(endpoint)
    assert (done, row.enabled, runtime.open) == ([(0, 1), (0, 0)], False, False)
    assert "30 in all" in row.disabled_reason
    assert "enable the endpoint" in row.disabled_reason
    assert row.settings_version == runtime.settings_version == 2
    assert await shop.claim(endpoint) == []
    assert await shop.accept(shop.submission([endpoint])) == [Verdict.STALE]
    (notice,) = await notices(shop)
    assert notice.type == "endpoint.disabled"
    assert notice.data == {
        "endpoint": str(endpoint),
        "url": URL,
        "application": str(shop.application_id),
        "application_uid": "default",
        "by": "failing",
        "reason": row.disabled_reason,
        "failing_since": rfc3339(runtime.failing_since),
        "consecutive_failures": 30,
    }
    (entry,) = await shop.sql("SELECT * FROM audit_log")
    assert (entry.workspace_id, entry.actor_kind, entry.action, entry.object_id) == (
        shop.workspace_id,
        "bellwire",
        "endpoint.disabled",
        ids.to_text(ids.ENDPOINT, endpoint),
    )
    assert entry.after == {"reason": row.disabled_reason}


async def test_too_few_failures_disable_nothing(shop: Workshop) -> None:
    """An endpoint that gets an event a day has not been tried often enough."""
    endpoint = await failing_endpoint(shop, hours=480, failures=19, runtime={"failure_warnings": 2})

    assert await settle(shop) == (0, 0)
    assert (await endpoint_row(shop, endpoint)).enabled


@pytest.mark.parametrize("closed", [{"enabled": False}, {"paused": True}])
async def test_closed_endpoint_is_not_failing(shop: Workshop, closed: dict[str, bool]) -> None:
    """While nothing is sent nothing can succeed: neither warning nor disabling."""
    await failing_endpoint(shop, hours=480, **closed)

    assert (await settle(shop), await notices(shop)) == ((0, 0), [])


async def test_operations_own_endpoint_is_disabled_quietly(shop: Workshop) -> None:
    """An endpoint on `operations` is disabled like any other, audited, and causes no event."""
    operations = await shop.application(uid="operations")
    endpoint = await failing_endpoint(shop, hours=121, application_id=operations)
    await failing_endpoint(shop, hours=25, application_id=operations)

    assert await settle(shop) == (1, 1)
    assert (await endpoint_row(shop, endpoint)).enabled is False
    assert await shop.value("SELECT action FROM audit_log") == "endpoint.disabled"
    assert await notices(shop) == []


async def test_success_at_the_last_moment_saves_it(shop: Workshop) -> None:
    """A success that is recorded while upkeep waits for the endpoint's row counts."""
    endpoint = await failing_endpoint(shop, hours=121)

    async with shop.transactional.connect() as recording:
        await recording.execute(
            text("UPDATE endpoint_runtime SET failing_since = NULL, consecutive_failures = 0")
        )
        settling = asyncio.ensure_future(settle(shop))
        await shop.until_somebody_waits_for_a_lock()
        await recording.commit()

    assert await settling == (0, 0)
    assert (await endpoint_row(shop, endpoint)).enabled
    assert await notices(shop) == []


async def test_retry_that_a_person_asked_for_waits_with_the_others(shop: Workshop) -> None:
    """What would pass a closed endpoint goes back among the deliveries that wait for it."""
    endpoint = await failing_endpoint(shop, hours=121)
    (delivery,) = await shop.publish(endpoint)
    await shop.sql("UPDATE delivery_queue SET rank = :forced", forced=ranks.FORCED)

    await settle(shop)

    row = await shop.queue_row(delivery)
    assert row is not None
    assert row.rank == ranks.RETRY


async def test_many_are_attended_to_in_parts(shop: Workshop) -> None:
    """The longest failing come first; the rest is for the next minute."""
    endpoints = [await failing_endpoint(shop, hours=150 - n) for n in range(6)]

    first = await settle(shop, most=4)
    left = await shop.sql("SELECT id FROM endpoints WHERE enabled ORDER BY id")
    others = [await settle(shop, most=4) for _ in range(2)]

    assert (first, others) == ((0, 4), [(0, 2), (0, 0)])
    assert [row.id for row in left] == endpoints[4:]


async def test_upkeep_attends_to_them(shop: Workshop) -> None:
    """The duty is among those that come round every minute; five at once do it once."""
    await failing_endpoint(shop, hours=25)
    await failing_endpoint(shop, hours=121)

    done = await asyncio.gather(*(run_upkeep(shop.transactional, settings=shop.settings) for _ in range(5)))

    assert sum(each.get("failing_attended", 0) for each in done) == 2
    assert sorted(notice.type for notice in await notices(shop)) == ["endpoint.disabled", "endpoint.failing"]


async def test_disabling_goes_in_the_order_of_locks(shop: Workshop) -> None:
    """While a change of the application is under way nothing behind it is locked: records go on."""
    endpoint = await failing_endpoint(shop, hours=121)
    await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)

    async with shop.transactional.connect() as changing:
        await changing.execute(text("SELECT 1 FROM applications FOR UPDATE"))
        settling = asyncio.ensure_future(settle(shop))
        await shop.until_somebody_waits_for_a_lock()
        async with asyncio.timeout(30):
            await shop.finish(claimed, counts=False)
        await changing.commit()

    assert await settling == (0, 1)


async def test_gone_endpoint_is_audited_and_told_once(shop: Workshop) -> None:
    """A 410 disables as Bellwire's own act; a second one changes and tells nothing."""
    endpoint = await shop.endpoint()

    for _ in range(2):
        async with shop.transaction() as connection:
            await disable_gone(connection, endpoint_id=endpoint)

    (notice,) = await notices(shop)
    assert (notice.type, notice.data["by"], notice.data["endpoint"]) == (
        "endpoint.disabled",
        "gone",
        str(endpoint),
    )
    assert await shop.value("SELECT count(*) FROM audit_log WHERE actor_kind = 'bellwire'") == 1
    assert await shop.value("SELECT routing_version FROM applications") == 2
