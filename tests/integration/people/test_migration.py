"""The migration that brings people: there and back, and the same as the models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from app.core.migrate import check, downgrade, upgrade

if TYPE_CHECKING:
    from tests.conftest import MakeDatabase

TABLES = {"users", "sessions", "login_links", "sign_in_buckets"}


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement; return its rows."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql", 1)) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def tables(url: str) -> set[object]:
    return {name for (name,) in run(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_people_come_and_go_with_their_migration(make_database: MakeDatabase) -> None:
    """Back to 0002 the tables are gone with what is in them, and all else is there; forward again they are whole."""
    url = make_database()
    before = tables(url)
    run(url, "INSERT INTO workspaces (id, name) VALUES (gen_random_uuid(), 'Kept')")
    run(
        url,
        "INSERT INTO users (id, workspace_id, email, role) SELECT id, id, 'ada@example.com', 'owner' FROM workspaces",
    )

    downgrade(url, revision="0002")
    without = tables(url)
    upgrade(url)

    # Later migrations have brought tables of their own.
    assert before - without >= TABLES
    assert tables(url) == before
    assert run(url, "SELECT name FROM workspaces") == [("Kept",)]
    check(url)


@pytest.mark.parametrize(
    "values",
    [
        "'ADA@Example.com', 'viewer', NULL, NULL",
        "'bea@example.com', 'emperor', NULL, NULL",
        "'bea@example.com', 'viewer', 'https://accounts.example.com', NULL",
        "'bea@example.com', 'viewer', 'https://accounts.example.com', 'person-1'",
    ],
)
def test_the_database_itself_refuses_such_people(make_database: MakeDatabase, values: str) -> None:
    """The same address in other letters, an unknown role, half an identity, the identity of somebody else."""
    url = make_database()
    columns = "INSERT INTO users (id, workspace_id, email, role, oidc_issuer, oidc_subject)"
    run(url, "INSERT INTO workspaces (id, name) VALUES (gen_random_uuid(), 'One')")
    first = "'ada@example.com', 'owner', 'https://accounts.example.com', 'person-1'"
    run(url, f"{columns} SELECT gen_random_uuid(), id, {first} FROM workspaces")  # noqa: S608 - our own values

    with pytest.raises(psycopg.IntegrityError):
        run(url, f"{columns} SELECT gen_random_uuid(), id, {values} FROM workspaces")  # noqa: S608
