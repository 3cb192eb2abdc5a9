"""Many claimers at once, with everything that may happen to them; and nobody is starved.

See `chaos.py` for what a simulated day is, and for the variables that make a long run of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.engine.chaos import ROUNDS, open_day, seeds
from tests.integration.engine.making import open_workshop

if TYPE_CHECKING:
    from app.core.settings import Settings
    from tests.conftest import Seed


@pytest.mark.timeout(120 * ROUNDS)
async def test_days_of_chaos_break_no_promise(clean_database: str, seed: Seed, settings: Settings) -> None:
    """Through kills, lost leases and all that people do: no double claim, no overshoot, no row lost, order kept."""
    for number in seeds():
        seed.restore(clean_database)
        async with open_workshop(settings) as shop, open_day(shop, seed=number) as day:
            await day.run()
            await day.check_books()
            # A day without these would prove little.
            assert min(day.seen[what] for what in ("claimed", "stale", "connections lost", "looks")) > 0
