"""The test services themselves: every other integration test stands on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import redis

if TYPE_CHECKING:
    from tests.conftest import MakeDatabase, Seed


def _libpq(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql", 1)


def _tables(url: str) -> set[str]:
    with psycopg.connect(_libpq(url)) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {name for (name,) in rows}


def test_postgres_url_names_a_migrated_database(postgres_url: str) -> None:
    """The worker's database has the schema that the migrations make."""
    tables = _tables(postgres_url)

    assert {"alembic_version", "events", "deliveries", "delivery_queue"} <= tables


def test_clean_database_leaves_only_what_the_migrations_made(
    clean_database: str, seed: Seed, postgres_url: str
) -> None:
    """Rows of one test are gone for the next, whatever table they are in."""
    with psycopg.connect(_libpq(clean_database)) as connection:
        connection.execute("INSERT INTO workspaces (id, name) VALUES (gen_random_uuid(), 'left behind')")

    seed.restore(postgres_url)

    with psycopg.connect(_libpq(clean_database)) as connection:
        left = connection.execute("SELECT count(*) FROM workspaces WHERE name = 'left behind'").fetchone()
    assert left == (0,)


def test_make_database_gives_an_empty_one_beside_a_migrated_one(make_database: MakeDatabase) -> None:
    """A test about migrations can begin with nothing; one about processes with a schema of its own."""
    migrated, empty = make_database(), make_database(migrated=False)

    assert _tables(empty) == set()
    assert "events" in _tables(migrated)


def test_broker_url_answers(broker_url: str) -> None:
    """The worker's broker takes a value and gives it back."""
    with redis.Redis.from_url(broker_url) as client:
        client.set("fixture", "works")

        assert client.get("fixture") == b"works"
