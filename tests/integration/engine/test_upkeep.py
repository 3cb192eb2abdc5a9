"""Upkeep: partitions, rows with an end, orphans and counters, under locks that let only one process at each duty."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from app.core import ids, metrics, partitions
from app.core.ids import lowest_uuid_at
from tests.integration.engine.making import Workshop, open_workshop
from workers import upkeep
from workers.upkeep import DUTIES, run_upkeep, storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import date
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings
    from tests.conftest import MakeDatabase


@pytest.fixture
async def own(make_database: MakeDatabase, settings: Settings) -> AsyncIterator[Workshop]:
    """A workspace in a database of its own: what is tested here changes tables, which no clean-up brings back."""
    changed = type(settings)(**settings.model_dump() | {"database_url": make_database()})
    async with open_workshop(changed) as made:
        yield made


async def today(shop: Workshop) -> date:
    """Return the database's day."""
    return await shop.value("SELECT (now() AT TIME ZONE 'UTC')::date")


async def partitions_of(shop: Workshop, table: str) -> list[str]:
    """Return the names of a table's partitions, oldest first."""
    rows = await shop.sql(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = CAST(:name AS regclass) ORDER BY 1",
        name=table,
    )
    return [row[0] for row in rows]


async def make_partition(shop: Workshop, table: str, day: date) -> str:
    """Make the partition of one day."""
    name = partitions.name_of(table, day)
    lower, upper = (lowest_uuid_at(partitions._unix_ms(d)) for d in (day, day + timedelta(days=1)))
    await shop.sql(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{lower}') TO ('{upper}')")
    return name


async def test_partitions_are_made_a_week_ahead(own: Workshop) -> None:
    """What is missing between yesterday and a week from now is made, once."""
    day = await today(own)
    for table in partitions.PARTITIONED:
        for offset in (3, 4, 7):
            await own.sql(f"DROP TABLE {partitions.name_of(table, day + timedelta(days=offset))}")

    first = await run_upkeep(own.transactional, settings=own.settings)
    second = await run_upkeep(own.transactional, settings=own.settings)

    wanted = [partitions.name_of("events", day + timedelta(days=n)) for n in range(-1, 8)]
    assert (first["partitions_made"], second["partitions_made"]) == (9, 0)
    assert await partitions_of(own, "events") == wanted


async def test_new_partition_is_like_its_table(own: Workshop) -> None:
    """A partition has the table's defaults and every index of it, as an index of the table."""
    tomorrow = await today(own) + timedelta(days=1)
    names = [partitions.name_of(table, tomorrow) for table in partitions.PARTITIONED]
    for name in names:
        await own.sql(f"DROP TABLE {name}")

    await run_upkeep(own.transactional, settings=own.settings)

    loose = await own.sql(
        "SELECT i.indexrelid::regclass FROM pg_index i"
        " WHERE i.indrelid = ANY(CAST(:names AS regclass[]))"
        " AND NOT EXISTS (SELECT 1 FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)",
        names=names,
    )
    counts = await own.sql(
        "SELECT indrelid::regclass::text, count(*) FROM pg_index"
        " WHERE indrelid = ANY(CAST(:names AS regclass[])) OR indrelid = ANY(CAST(:tables AS regclass[]))"
        " GROUP BY 1",
        names=names,
        tables=list(partitions.PARTITIONED),
    )
    by_table = {row[0]: row[1] for row in counts}
    assert loose == []
    for table, name in zip(partitions.PARTITIONED, names, strict=True):
        assert by_table[name] == by_table[table] > 1


async def test_rows_of_a_new_day_go_into_its_partition(own: Workshop) -> None:
    """An event of tomorrow, by its id, is written into the partition that upkeep made."""
    day = await today(own) + timedelta(days=1)
    submission = own.submission()
    submission.id = None
    submission.assign_id(partitions._unix_ms(day) + 1)

    await own.accept(submission)

    assert await own.value("SELECT tableoid::regclass::text FROM events") == partitions.name_of("events", day)


async def test_publishing_does_not_wait_for_new_partitions(own: Workshop) -> None:
    """While a transaction that has written is open, partitions are made and events are accepted."""
    day = await today(own) + timedelta(days=7)
    for table in partitions.PARTITIONED:
        await own.sql(f"DROP TABLE {partitions.name_of(table, day)}")

    async with own.transactional.connect() as busy, asyncio.timeout(30):
        await busy.execute(text("LOCK TABLE events, deliveries, attempts IN ROW EXCLUSIVE MODE"))
        done = await run_upkeep(own.transactional, settings=own.settings)
        await own.accept(own.submission())

    assert done["partitions_made"] == 3


async def test_few_partitions_ahead_are_an_alarm(own: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """When partitions cannot be made for days, the metric says how few are left."""
    day = await today(own)
    for offset in range(2, 8):
        await own.sql(f"DROP TABLE {partitions.name_of('attempts', day + timedelta(days=offset))}")
    monkeypatch.setattr(partitions, "ensure", lambda _connection: [])

    async with own.transaction() as connection:
        await storage.make_partitions(connection, settings=own.settings)

    assert metrics.PARTITION_DAYS_AHEAD._value.get() == 1


async def test_old_partitions_are_dropped(own: Workshop) -> None:
    """A day goes when all of it is older than the retention; the day at its edge stays."""
    day = await today(own)
    days = {n: day - timedelta(days=n) for n in (30, 31, 45)}
    for table in partitions.PARTITIONED:
        for at in days.values():
            await make_partition(own, table, at)

    done = await run_upkeep(own.transactional, settings=own.settings)

    assert done["partitions_dropped"] == 6
    for table in partitions.PARTITIONED:
        assert (await partitions_of(own, table))[0] == partitions.name_of(table, days[30])


async def test_drop_gives_way_to_a_long_transaction(own: Workshop) -> None:
    """A drop that cannot have its lock soon leaves it for the next minute, and stops nothing else."""
    old = await make_partition(own, "events", await today(own) - timedelta(days=60))

    async with own.transactional.connect() as busy:
        await busy.execute(text("SELECT count(*) FROM events"))
        meanwhile = await run_upkeep(own.transactional, settings=own.settings)
        await own.accept(own.submission())
    afterwards = await run_upkeep(own.transactional, settings=own.settings)

    assert "partitions_dropped" not in meanwhile
    assert set(meanwhile) == {name for name, _ in DUTIES} - {"partitions_dropped"}
    assert afterwards["partitions_dropped"] == 1
    assert old not in await partitions_of(own, "events")


async def test_what_has_expired_is_forgotten(shop: Workshop) -> None:
    """Uids after their event, keys after a day, heartbeats after an hour, transitions with the deliveries of their time."""
    for uid in ("old", "young"):
        await shop.accept(shop.submission(uid=uid))
    await shop.sql("UPDATE event_keys SET expires_at = now() - interval '1 second' WHERE uid = 'old'")
    for key, hours in (("old", 25), ("young", 23)):
        await shop.sql(
            "INSERT INTO idempotency_keys (workspace_id, key, fingerprint, created_at)"
            " VALUES (:id, :key, '', now() - make_interval(hours => :hours))",
            id=shop.workspace_id,
            key=key,
            hours=hours,
        )
    for minutes in (59, 61):
        await shop.sql(
            "INSERT INTO worker_heartbeats (id, name, version, in_flight, skew_seconds, beat_at)"
            " VALUES (gen_random_uuid(), 'w', '1', 0, 0, now() - make_interval(mins => :minutes))",
            minutes=minutes,
        )
    for reason, days in (
        ("old", shop.settings.retention_days + 1),
        ("young", shop.settings.retention_days - 1),
    ):
        await shop.sql(
            "INSERT INTO circuit_transitions (workspace_id, endpoint_id, from_state, to_state, reason, at)"
            " VALUES (:id, :id, 'closed', 'open', :reason, now() - make_interval(days => :days))",
            id=shop.workspace_id,
            reason=reason,
            days=days,
        )

    done = await run_upkeep(shop.transactional, settings=shop.settings)

    assert (done["keys_forgotten"], done["heartbeats_forgotten"], done["transitions_forgotten"]) == (2, 1, 1)
    assert await shop.value("SELECT reason FROM circuit_transitions") == "young"
    assert await shop.value("SELECT uid FROM event_keys") == "young"
    assert await shop.value("SELECT key FROM idempotency_keys") == "young"
    assert await shop.value("SELECT count(*) FROM worker_heartbeats") == 1


async def test_sign_ins_that_have_ended_are_forgotten(shop: Workshop) -> None:
    """Sessions at their end or unused for too long, links after theirs, buckets that are full again; no others."""
    await shop.sql(
        "INSERT INTO users (id, workspace_id, email, role) VALUES (:id, :id, 'ada@example.com', 'viewer')",
        id=shop.workspace_id,
    )
    idle = shop.settings.session_idle_hours
    for name, ends, unused in (
        ("ended", -1, 0),
        ("unused", 60, idle * 60 + 1),
        ("young", 60, idle * 60 - 1),
    ):
        await shop.sql(
            "INSERT INTO sessions (id, workspace_id, user_id, digest, method, expires_at, last_seen_at)"
            " VALUES (gen_random_uuid(), :id, :id, CAST(:name AS bytea), 'link',"
            " now() + make_interval(mins => :ends), now() - make_interval(mins => :unused))",
            id=shop.workspace_id,
            name=name.encode(),
            ends=ends,
            unused=int(unused),
        )
    for name, ends in (("old", -1), ("young", 1)):
        await shop.sql(
            "INSERT INTO login_links (id, workspace_id, user_id, digest, expires_at) VALUES"
            " (gen_random_uuid(), :id, :id, CAST(:name AS bytea), now() + make_interval(mins => :ends))",
            id=shop.workspace_id,
            name=name.encode(),
            ends=ends,
        )
    for name, minutes in (("old", 61), ("young", 59)):
        await shop.sql(
            "INSERT INTO sign_in_buckets (key, tokens, updated_at)"
            " VALUES (CAST(:name AS bytea), 0, now() - make_interval(mins => :minutes))",
            name=name.encode(),
            minutes=minutes,
        )

    done = await run_upkeep(shop.transactional, settings=shop.settings)

    assert done["sign_ins_forgotten"] == 4
    assert await shop.value("SELECT digest FROM sessions") == b"young"
    assert await shop.value("SELECT digest FROM login_links") == b"young"
    assert await shop.value("SELECT key FROM sign_in_buckets") == b"young"


async def test_forgotten_uid_may_be_used_again(shop: Workshop) -> None:
    """After its retention a uid is free."""
    await shop.accept(shop.submission(uid="u1"))
    await shop.sql("UPDATE event_keys SET expires_at = now()")
    await run_upkeep(shop.transactional, settings=shop.settings)

    verdicts = await shop.accept(shop.submission(uid="u1"))

    assert verdicts == ["accepted"]


async def test_wrong_counter_is_corrected_and_counted(shop: Workshop) -> None:
    """A difference between a counter and the leased rows is set right, and shown as the bug that it is."""
    endpoint = await shop.endpoint(runtime={"in_flight": 3})
    before = metrics.COUNTERS_WRONG._value.get()

    done = await run_upkeep(shop.transactional, settings=shop.settings)

    assert (done["counters_corrected"], (await shop.runtime(endpoint)).in_flight) == (1, 0)
    assert metrics.COUNTERS_WRONG._value.get() - before == 1


async def test_orphans_of_a_long_backlog_are_cancelled(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More orphans than one statement takes are cancelled statement by statement, as many as a round allows."""
    monkeypatch.setattr("workers.upkeep.orphans.MOST_PER_STATEMENT", 10)
    monkeypatch.setattr("workers.upkeep.orphans.STATEMENTS", 3)
    endpoint = await shop.endpoint()
    await shop.publish(endpoint, 50)
    await shop.sql("UPDATE endpoints SET deleted_at = now()")

    done = [
        (await run_upkeep(shop.transactional, settings=shop.settings))["orphans_cancelled"] for _ in range(3)
    ]

    assert done == [30, 20, 0]


async def test_two_upkeeps_at_once_do_each_duty_once(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one process is at a duty, another one passes it by and does the others."""
    begun, may_end, runs = asyncio.Event(), asyncio.Event(), 0

    async def slow(_connection: AsyncConnection, *, settings: Settings) -> int:
        nonlocal runs
        runs += 1
        begun.set()
        await may_end.wait()
        return 1

    async def quick(_connection: AsyncConnection, *, settings: Settings) -> int:
        return 1

    monkeypatch.setattr(upkeep, "DUTIES", (("slow", slow), ("quick", quick)))
    first = asyncio.ensure_future(run_upkeep(shop.transactional, settings=shop.settings))
    await begun.wait()

    second = await run_upkeep(shop.transactional, settings=shop.settings)

    may_end.set()
    assert (second, await first, runs) == ({"quick": 1}, {"slow": 1, "quick": 1}, 1)


async def test_many_upkeeps_at_once_have_no_double_effect(shop: Workshop) -> None:
    """Five processes that begin upkeep in the same moment together do what one would have done."""
    for _ in range(3):
        await shop.endpoint(runtime={"in_flight": 5})
    for n in range(20):
        await shop.accept(shop.submission(uid=f"u{n}"))
    await shop.sql("UPDATE event_keys SET expires_at = now()")

    done = await asyncio.gather(*(run_upkeep(shop.transactional, settings=shop.settings) for _ in range(5)))

    for duty, wanted in (("counters_corrected", 3), ("keys_forgotten", 20)):
        assert sum(each.get(duty, 0) for each in done) == wanted


async def test_duty_that_fails_does_not_stop_the_others(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a duty did before it failed is undone, and the next duties run."""

    async def broken(connection: AsyncConnection, *, settings: Settings) -> int:
        await connection.execute(text("DELETE FROM event_keys"))
        raise RuntimeError("a bug")

    await shop.accept(shop.submission(uid="u1"))
    monkeypatch.setattr(upkeep, "DUTIES", (("broken", broken), *DUTIES))

    done = await run_upkeep(shop.transactional, settings=shop.settings)

    assert set(done) == {name for name, _ in DUTIES}
    assert await shop.value("SELECT count(*) FROM event_keys") == 1


async def retired(shop: Workshop, endpoint: UUID, *, days: int) -> UUID:
    """Store a secret whose grace ended so many days ago; return its id."""
    row = ids.uuid7(shop.clock.unix_ms())
    await shop.sql(
        "INSERT INTO endpoint_secrets (id, endpoint_id, sealed_secret, expires_at)"
        " VALUES (:id, :endpoint, '', now() - make_interval(days => :days))",
        id=row,
        endpoint=endpoint,
        days=days,
    )
    return row


async def test_a_retired_secret_is_kept_until_its_attempts_are_gone(own: Workshop) -> None:
    """As long as a partition holds attempts that it may have signed it stays, whatever the retention says."""
    endpoint = await own.endpoint()
    oldest = await make_partition(own, "attempts", await today(own) - timedelta(days=10))
    young, old = await retired(own, endpoint, days=5), await retired(own, endpoint, days=20)

    first = await run_upkeep(own.transactional, settings=own.settings)
    kept = {row[0] for row in await own.sql("SELECT id FROM endpoint_secrets WHERE expires_at IS NOT NULL")}
    await own.sql(f"DROP TABLE {oldest}")
    second = await run_upkeep(own.transactional, settings=own.settings)

    assert (first["secrets_forgotten"], second["secrets_forgotten"]) == (1, 1)
    assert kept == {young}
    assert old not in kept
    assert await own.value("SELECT count(*) FROM endpoint_secrets WHERE expires_at IS NULL") == 1


async def test_secrets_of_deleted_endpoints_go_when_their_attempts_are_gone(own: Workshop) -> None:
    """Secret and own headers of an endpoint that was deleted long ago go; those of a living one and a fresh one stay."""
    gone, fresh, living = [await own.endpoint() for _ in range(3)]
    await own.sql("UPDATE endpoints SET sealed_headers = 'sealed'")
    for endpoint, days in ((gone, 4), (fresh, 0)):
        await own.sql(
            "UPDATE endpoints SET deleted_at = now() - make_interval(days => :days) WHERE id = :id",
            id=endpoint,
            days=days,
        )

    done = await run_upkeep(own.transactional, settings=own.settings)

    assert done["secrets_forgotten"] == 2
    assert {row[0] for row in await own.sql("SELECT endpoint_id FROM endpoint_secrets")} == {fresh, living}
    assert {row[0] for row in await own.sql("SELECT id FROM endpoints WHERE sealed_headers IS NOT NULL")} == {
        fresh,
        living,
    }
