"""The engine's statements and loops, on a real Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.core.settings import Settings
from tests.integration.engine.making import ENCRYPTION_KEY, Workshop, open_workshop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def settings(clean_database: str) -> Settings:
    """What the engine under test runs with; short times, so that nothing waits for long."""
    return Settings(
        environment="development",
        database_url=clean_database,
        encryption_keys=ENCRYPTION_KEY,
        egress_allow="127.0.0.0/8",
        retry_schedule="1,1,1",
        worker_slots=40,
        worker_poll_seconds=0.2,
        sweep_seconds=0.1,
    )


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Workshop]:
    """A workspace to make endpoints and events in."""
    async with open_workshop(settings) as made:
        yield made
