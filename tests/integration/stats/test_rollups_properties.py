"""Roll-ups against a count in plain Python: results come in any order and late, upkeep stands still and goes on.

BELLWIRE_TEST_SEED makes other stories.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.core import ids
from app.core.error_classes import ErrorClass
from app.stats.latency import bucket_of
from app.stats.spans import STEPS, floor_to
from tests.integration.engine.chaos import SEED
from workers.upkeep.rollups import LATEST, count_fresh, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from tests.integration.engine.making import Workshop
    from workers.upkeep.stepping import Step

STORIES = 4
RESULTS = 150
# Longer than the time in which results may be late, and than a round may count at once.
LONGEST_STANDSTILL_MINUTES = 200.0

_ATTEMPT = """
INSERT INTO attempts (id, workspace_id, application_id, endpoint_id, event_id, event_type, delivery_id, number, trigger,
  test, outcome, stale, started_at, duration_ms, request_url, error_class)
VALUES (:id, :workspace, :application, :endpoint, :id, 'order.placed', :id, :number, 'scheduled', :test, :outcome, :stale,
  :started, :duration, '', :error_class)
"""
_END = """
INSERT INTO undelivered (delivery_id, ended_at, state, workspace_id, application_id, endpoint_id, event_id, event_type,
  attempt_count)
VALUES (:id, :ended, :state, :workspace, :application, :endpoint, :id, 'order.placed', 1)
"""


@dataclass(frozen=True, slots=True)
class Result:
    """Something that ended at one moment and is on record at another."""

    ended: datetime
    recorded: datetime
    endpoint: UUID
    values: dict[str, Any]
    # Of an attempt; a delivery that ended undelivered has only its state.
    state: str | None = None


@pytest.mark.parametrize("story", range(STORIES))
async def test_whatever_the_order_and_lateness_the_sums_are_a_count(shop: Workshop, story: int) -> None:
    """With results up to the stated bound late, and upkeep that stands still for hours, each row is what was recorded."""
    chance = random.Random(SEED * 1_000 + story if SEED else story)  # noqa: S311 - stories, no secrets
    endpoints = [await shop.endpoint() for _ in range(3)]
    begins = datetime.now(UTC).replace(hour=0, minute=0) + timedelta(minutes=chance.random() * 600)
    results = sorted(
        (draw(chance, begins, endpoints) for _ in range(RESULTS)), key=lambda item: item.recorded
    )

    now = begins
    for result in results:
        while now < result.recorded and chance.random() < 0.8:
            await keep(shop, now)
            # Mostly every minute, as beat asks for it; sometimes nobody asks for long.
            rest = LONGEST_STANDSTILL_MINUTES if chance.random() < 0.03 else 1.0
            now += timedelta(minutes=rest * (0.5 + chance.random()))
        now = max(now, result.recorded)
        await write(shop, result)
    await keep(shop, now + timedelta(seconds=61))
    await keep(shop, now + LATEST + timedelta(minutes=2))

    assert await kept(shop) == counted(shop, results)


async def test_a_result_that_is_too_late_is_the_only_thing_missing(shop: Workshop) -> None:
    """Past the bound a minute is left as it is: the stated lateness is what is kept, not more."""
    endpoint = await shop.endpoint()
    begins = datetime.now(UTC).replace(hour=1, minute=0, second=5, microsecond=0)
    good = {
        "number": 1,
        "test": False,
        "outcome": "succeeded",
        "stale": False,
        "duration": 5.0,
        "error_class": None,
    }
    in_time = Result(begins, begins, endpoint, good)
    await write(shop, in_time)
    await keep(shop, begins + timedelta(minutes=1))
    await keep(shop, begins + LATEST + timedelta(minutes=2))
    await write(shop, Result(begins, begins, endpoint, good))
    await keep(shop, begins + LATEST + timedelta(minutes=3))

    assert await kept(shop) == counted(shop, [in_time])


def draw(chance: random.Random, begins: datetime, endpoints: list[UUID]) -> Result:
    """Draw a result."""
    ended = (begins + timedelta(minutes=chance.random() * 400)).replace(microsecond=0)
    # Mostly at once; a round of upkeep comes before the last ones of the bound.
    late = chance.choice(
        [0.0, 0.2, 1.0, chance.random() * 60, chance.random() * (LATEST.total_seconds() - 1)]
    )
    recorded, endpoint = ended + timedelta(seconds=late), chance.choice(endpoints)
    if chance.random() < 0.2:
        return Result(ended, recorded, endpoint, {}, state=chance.choice(["dead", "cancelled"]))
    outcome = chance.choice(["succeeded", "succeeded", "failed", "unknown"])
    classes = [str(kind) for kind in ErrorClass if kind is not ErrorClass.EXPIRED]
    return Result(
        ended,
        recorded,
        endpoint,
        {
            "number": chance.choice([1, 1, 2, 7]),
            "test": chance.random() < 0.1,
            "outcome": outcome,
            "stale": chance.random() < 0.1,
            "duration": None if outcome == "unknown" else round(10 ** chance.uniform(-1.5, 4.8), 3),
            "error_class": None
            if outcome == "succeeded"
            else "worker_lost"
            if outcome == "unknown"
            else chance.choice(classes),
        },
    )


async def keep(shop: Workshop, now: datetime) -> None:
    """Run both duties until they have no more to do."""
    duties: list[Callable[..., Awaitable[Step]]] = [count_fresh, settle]
    for duty in duties:
        more = True
        while more:
            async with shop.transaction() as connection:
                more = (await duty(connection, settings=shop.settings, now=now)).more


async def write(shop: Workshop, result: Result) -> None:
    """Put a result on record."""
    common = {
        "id": ids.uuid7(int(result.ended.timestamp() * 1000)),
        "workspace": shop.workspace_id,
        "application": shop.application_id,
        "endpoint": result.endpoint,
    }
    if result.state is not None:
        await shop.sql(_END, **common, state=result.state, ended=result.ended)
    else:
        await shop.sql(_ATTEMPT, **common, **result.values, started=result.ended)


async def kept(shop: Workshop) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return what the roll-ups say, by scope, step and time."""
    async with shop.transaction() as connection:
        rows = (await connection.execute(text("SELECT * FROM attempt_rollups"))).mappings().all()
    return {
        (row["scope_id"], row["step_minutes"], row["at"]): {
            **{name: row[name] for name in NUMBERS if row[name]},
            **{f"bucket {number}": n for number, n in zip(row["buckets"], row["counts"], strict=True)},
            **{name: tuple(value) for name, value in (row["failures"] or {}).items()},
        }
        for row in rows
    }


NUMBERS = (
    *("succeeded", "failed", "unknown", "first_known", "first_succeeded"),
    *("delivered", "delivered_late", "dead", "cancelled"),
)


def counted(shop: Workshop, results: list[Result]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return what the roll-ups should say."""
    found: dict[tuple[Any, ...], Counter[str]] = {}
    times: dict[tuple[Any, ...], dict[str, tuple[int, int]]] = {}
    for result in results:
        if result.values.get("test"):
            continue
        for scope in (shop.workspace_id, shop.application_id, result.endpoint):
            for step in STEPS:
                key = (scope, step, floor_to(result.ended, step))
                found.setdefault(key, Counter()).update(figures(result))
                error_class = result.values.get("error_class")
                if error_class is not None:
                    at = int(result.ended.timestamp())
                    low, high = times.setdefault(key, {}).get(error_class, (at, at))
                    times[key][error_class] = min(low, at), max(high, at)
    return {
        key: {name: (n, *times[key][name]) if name in times.get(key, {}) else n for name, n in counts.items()}
        for key, counts in found.items()
    }


def figures(result: Result) -> list[str]:
    """Return the names of all that a result counts for."""
    if result.state is not None:
        return [result.state]
    value = result.values
    good, first = value["outcome"] == "succeeded", value["number"] == 1
    delivered = good and not value["stale"]
    names = {
        value["outcome"]: True,
        "first_known": first and value["outcome"] != "unknown",
        "first_succeeded": first and good,
        "delivered": delivered,
        "delivered_late": delivered and not first,
        str(value["error_class"]): value["error_class"] is not None,
    }
    if value["duration"] is not None:
        names[f"bucket {bucket_of(value['duration'])}"] = True
    return [name for name, counts in names.items() if counts]
