"""The dashboard at size: every page, with five million deliveries and ten million attempts behind it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from app.core.settings import Settings
from app.seeding.seed import Order, seed
from bench.measure import Latency, Tally
from bench.pages import measure_pages, table_of
from bench.result import Figure
from bench.rig import console
from bench.scenarios._shared import Found, Meters, finish

if TYPE_CHECKING:
    from bench.opening import Bench
    from bench.result import Result

# design/dashboard.md: any page.
MOST_MS = 150
MOST_STATEMENTS = 5


async def dashboard(bench: Bench) -> Result:
    """Every page of the dashboard, 30 times each, over a seeded history: server time and statements of each."""
    size = bench.size
    async with bench.open_rig(workers=0) as rig:
        environment = rig.stack.environment
        settings = Settings.model_validate(
            {
                "environment": "development",
                "database_url": rig.stack.postgres.url,
                "broker_url": environment["BELLWIRE_BROKER_URL"],
                "encryption_keys": environment["BELLWIRE_ENCRYPTION_KEYS"],
            }
        )
        order = Order(deliveries=size.page_deliveries, attempts=size.page_attempts)
        began = time.monotonic()
        made = await asyncio.to_thread(seed, settings, order, tell=lambda line: console.print(f"  {line}"))
        seconds = time.monotonic() - began
        # What waits in the story is never sent.
        rig.asides += [row[0] for row in rig.stack.sql("SELECT id FROM endpoints")]
        meters = Meters.start(rig)
        pages = await measure_pages(settings, rounds=size.page_rounds)
        console.print(table_of(pages))
        worst = max(pages, key=lambda page: page.percentile(0.95))
        figures = [
            Figure(f"slowest page, p95: {worst.path}", worst.percentile(0.95), "ms", f"≤ {MOST_MS}"),
            Figure(
                "most statements of a page",
                max(page.statements for page in pages),
                "",
                f"≤ {MOST_STATEMENTS}",
            ),
            Figure(
                "pages that were not answered with 200", sum(page.status != 200 for page in pages), "", "≤ 0"
            ),
            *(Figure(f"GET {page.path}, p95", page.percentile(0.95), "ms") for page in pages),
        ]
        found = Found(
            figures=figures,
            tally=Tally.of(accepted=(), received=(), unsigned=0),
            deliveries=len(pages) * size.page_rounds,
            latencies={
                f"GET {page.path}": Latency.of(int(value * 1e6) for value in page.milliseconds)
                for page in pages
            },
            notes=[
                f"{made.deliveries:,} deliveries and {made.attempts:,} attempts, written in {seconds:.0f} s; "
                f"{size.page_rounds} requests a page"
            ],
        )
        return await finish("dashboard", rig=rig, size=size, meters=meters, ceilings=[], found=found)
