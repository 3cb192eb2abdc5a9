"""Statistics, on a real Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.core.context import Caller
from app.core.roles import Role
from app.core.settings import Settings
from tests.integration.engine.making import ENCRYPTION_KEY, Workshop, open_workshop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def settings(clean_database: str) -> Settings:
    """Settings of the database of this test."""
    return Settings(environment="development", database_url=clean_database, encryption_keys=ENCRYPTION_KEY)


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Workshop]:
    """A workspace to make endpoints and events in."""
    async with open_workshop(settings) as made:
        yield made


@pytest.fixture
def caller(shop: Workshop) -> Caller:
    """A viewer of that workspace."""
    return viewer_of(shop)


def viewer_of(shop: Workshop) -> Caller:
    """Return a viewer of a workshop's workspace."""
    return Caller(workspace_id=shop.workspace_id, role=Role.VIEWER, actor_kind="api_key", actor_id="key_test")
