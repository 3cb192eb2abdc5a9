"""Reading routing tables: many events that miss one at once share one reading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from app.events import routing
from app.events.routing import RoutingCache, RoutingTable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

WORKSPACE = UUID(int=1)
MANY = 1_000


class Loader:
    """Stands in for the database: counts the readings, and lets them go on when told."""

    def __init__(self) -> None:
        self.readings = 0
        self.may_go_on = asyncio.Event()

    async def __call__(
        self, _engine: AsyncEngine, workspace_id: UUID, application: str, **_: object
    ) -> RoutingTable:
        self.readings += 1
        version = self.readings
        await self.may_go_on.wait()
        return RoutingTable(
            workspace_id=workspace_id,
            application_id=UUID(int=2),
            uid=application,
            version=version,
            subscribers=[],
            rules={},
        )


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Loader:
    """The loader in the place of the real one."""
    loader = Loader()
    monkeypatch.setattr(routing, "_load", loader)
    return loader


@pytest.fixture
def cache(loader: Loader) -> RoutingCache:
    """An empty cache; the loader needs no engine."""
    return RoutingCache(None, max_age_seconds=60)  # type: ignore[arg-type]


async def test_events_that_miss_at_once_share_one_reading(cache: RoutingCache, loader: Loader) -> None:
    """A batch of a thousand on a cold cache reads the table once, not a thousand times."""
    gets = [asyncio.create_task(cache.get(WORKSPACE, "default")) for _ in range(MANY)]
    await asyncio.sleep(0)
    loader.may_go_on.set()

    tables = await asyncio.gather(*gets)

    assert loader.readings == 1
    assert len(set(map(id, tables))) == 1


async def test_refresh_after_a_reading_reads_anew(cache: RoutingCache, loader: Loader) -> None:
    """A table that was called stale is read again, and the newer one is kept."""
    loader.may_go_on.set()
    await cache.get(WORKSPACE, "default")

    refreshed = await cache.refresh(WORKSPACE, "default")

    assert refreshed is not None
    assert refreshed.version == 2
    assert await cache.get(WORKSPACE, "default") is refreshed


async def test_reading_goes_on_when_its_first_client_leaves(cache: RoutingCache, loader: Loader) -> None:
    """A client that goes away while it waits does not take the table from the others."""
    first, second = (asyncio.create_task(cache.get(WORKSPACE, "default")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    loader.may_go_on.set()

    table = await second

    assert table is not None
    assert loader.readings == 1
