"""`bellwire migrate` on databases that are empty, current, behind, and ahead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from app.core.migrate import upgrade
from tests.integration.cli.conftest import libpq

if TYPE_CHECKING:
    from tests.conftest import MakeDatabase
    from tests.integration.cli.conftest import Run


def execute(url: str, statement: str) -> None:
    """Run one statement on a database."""
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        connection.execute(statement)


def tables(url: str) -> set[str]:
    """Return the names of all tables."""
    with psycopg.connect(libpq(url)) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {name for (name,) in rows}


@pytest.fixture
def empty(make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database without a schema, which the environment names."""
    url = make_database(migrated=False)
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", libpq(url))
    return url


def test_an_empty_database_gets_the_schema_and_its_partitions(run: Run, empty: str) -> None:
    """One command, without an encryption key, makes everything; a second one changes nothing."""
    first, second = run("migrate"), run("migrate")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert json.loads(first.stdout)["before"] is None
    assert json.loads(first.stdout)["up_to_date"] is True
    assert json.loads(second.stdout)["before"] == json.loads(second.stdout)["current"]
    assert any(name.startswith("events_p") for name in tables(empty))


def test_check_says_behind_and_changes_nothing(run: Run, empty: str) -> None:
    """`--check` on an empty database: exit code 1, and still empty."""
    result = run("migrate", "--check")

    assert (result.exit_code, json.loads(result.stdout)["up_to_date"]) == (1, False)
    assert tables(empty) == set()


def test_check_of_a_current_schema_is_0(run: Run, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to do is exit code 0."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", libpq(postgres_url))

    assert run("migrate", "--check").exit_code == 0


def test_going_back_needs_a_yes(run: Run, empty: str) -> None:
    """`--to base` removes data: without a terminal it is refused, with --yes it is done."""
    upgrade(empty)

    refused = run("migrate", "--to", "base")
    kept = tables(empty)
    done = run("migrate", "--to", "base", "--yes")

    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert "deliveries" in kept
    assert done.exit_code == 0
    assert "deliveries" not in tables(empty)


def test_an_unknown_revision_is_wrong_usage(run: Run, empty: str) -> None:
    """A revision that no file has is named, and nothing happens."""
    result = run("migrate", "--to", "9999")

    assert result.exit_code == 2
    assert "9999" in result.stderr
    assert tables(empty) == set()


def test_a_schema_of_a_newer_version_is_left_alone(run: Run, empty: str) -> None:
    """After a roll-back of the program, the message says that a newer version was here."""
    upgrade(empty)
    execute(empty, "UPDATE alembic_version SET version_num = 'from_the_future'")

    result = run("migrate")

    assert result.exit_code == 1
    assert "a newer version was here" in result.stderr


def test_a_failing_step_is_told_without_a_traceback(run: Run, empty: str) -> None:
    """A foreign table in the way: the cause in Postgres' words, and what to do."""
    execute(empty, "CREATE TABLE deliveries (id int)")

    result = run("migrate")

    assert result.exit_code == 1
    assert "already exists" in result.stderr
    assert "run the command again" in result.stderr
    assert tables(empty) <= {"deliveries", "alembic_version"}


@pytest.mark.parametrize(
    ("change", "next_step"),
    [
        ({"password": "wrong"}, "Correct the user or the password"),
        ({"database": "no_such_database"}, "createdb"),
        ({"host": "no-such-host.invalid"}, "Correct the host"),
    ],
)
def test_a_wrong_address_is_told_apart(
    run: Run,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    next_step: str,
) -> None:
    """Password, database and host each have their sentence; the password is in none."""
    from sqlalchemy.engine import make_url

    url = make_url(postgres_url).set(drivername="postgresql", **change)
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", url.render_as_string(hide_password=False))

    result = run("migrate", "--check")

    assert result.exit_code == 3
    assert next_step in result.stderr
    assert str(url.password) not in result.stderr.replace("no_such_database", "")
