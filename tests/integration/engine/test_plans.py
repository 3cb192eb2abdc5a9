"""Plans of the hot statements: made while the queue is empty, they must serve it when it is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core.db import make_engine
from app.deliveries import recover
from app.deliveries.claim import claim, discover, promote
from app.deliveries.record import Settle, record
from app.events.accept import accept
from tests.integration.engine.making import open_workshop

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings
    from app.deliveries.claim import Claimed
    from tests.conftest import MakeDatabase
    from tests.integration.engine.making import Workshop

ROWS = 30_000
# Rows that the statements below may read, of each table, while they claim and settle a hundred deliveries.
MOST_READ = 3_000


async def test_plans_of_an_empty_queue_serve_a_full_one(
    make_database: MakeDatabase, settings: Settings
) -> None:
    """A burst after a quiet time is claimed and settled by keys, without statistics that know of it."""
    changed = type(settings)(**settings.model_dump() | {"database_url": make_database()})
    async with open_workshop(changed) as shop:
        await shop.sql("ALTER TABLE delivery_queue SET (autovacuum_enabled = off)")
        lanes = [await shop.endpoint(max_in_flight=1_000) for _ in range(5)]
        # As many as autovacuum waits for before it looks at a new partition.
        for lane in lanes:
            await shop.publish(lane, 12)
        gone, *others = await shop.claim(*lanes, share=12)
        await shop.record(*map(shop.result, (gone, *others)))
        await shop.sql("VACUUM ANALYZE")
        hot = make_engine(changed, name="hot", pool_size=1, few_statements=True)
        async with hot.connect() as connection:
            for _ in range(2):
                await every_hot_statement(shop, connection, lanes=lanes, stale=gone)
                await connection.commit()
        await fill(shop, lanes)

        async with hot.connect() as connection:
            before = await rows_read(connection)
            await every_hot_statement(shop, connection, lanes=lanes, stale=gone)
            after = await rows_read(connection)
            await connection.commit()
        await hot.dispose()
        settled = await shop.value("SELECT count(*) FROM deliveries WHERE state = 'succeeded'")

    read = {table: after[table] - before[table] for table in after}
    assert settled >= 160
    assert {table: count for table, count in read.items() if count > MOST_READ} == {}


async def every_hot_statement(
    shop: Workshop, connection: AsyncConnection, *, lanes: list[UUID], stale: Claimed
) -> None:
    """Run each of them once, as workers and publishers do."""
    await accept(
        connection, [shop.submission([lanes[0]], uid=f"u{shop.clock.unix()}")], inline=10, keep_days=30
    )
    await discover(connection, after=None, hops=200)
    claimed, _ = await claim(connection, [(lane, 25) for lane in lanes], margin_seconds=10, worker="w")
    await record(connection, [*map(shop.result, claimed), shop.result(stale, Settle.DEAD)])
    await promote(connection)
    await recover.expire(connection)
    await recover.sweep_lost_leases(connection, unix_ms=shop.clock.unix_ms())


async def fill(shop: Workshop, lanes: list[UUID]) -> None:
    """Put many deliveries into all lanes, as a burst does: nobody analyzes the tables."""
    (pattern,) = await shop.publish(lanes[0])
    await shop.sql(
        "INSERT INTO deliveries (id, workspace_id, application_id, event_id, event_type, endpoint_id, deadline_at)"
        " SELECT overlay(CAST(d.id AS text) PLACING lpad(to_hex(n), 12, '0') FROM 25)::uuid, d.workspace_id,"
        "   d.application_id, d.event_id, d.event_type, (CAST(:lanes AS uuid[]))[1 + n % 5], d.deadline_at"
        " FROM deliveries d, generate_series(1, :rows) n WHERE d.id = :id",
        lanes=lanes,
        rows=ROWS,
        id=pattern,
    )
    await shop.sql(
        "INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, deadline_at)"
        " SELECT id, workspace_id, application_id, endpoint_id, event_id, deadline_at FROM deliveries"
        " WHERE state = 'pending' AND id <> :id",
        id=pattern,
    )


async def rows_read(connection: AsyncConnection) -> dict[str, int]:
    """Return how many rows this connection has read and not reported yet, by table, partitions with their table."""
    rows = await connection.execute(
        text(
            "SELECT regexp_replace(relname, '_p[0-9]+$', ''), sum(seq_tup_read + coalesce(idx_tup_fetch, 0))"
            " FROM pg_stat_xact_user_tables GROUP BY 1"
        )
    )
    return {row[0]: int(row[1]) for row in rows}
