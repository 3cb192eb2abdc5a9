"""`bellwire keys` straight in the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from app.core import ids
from app.core.crypto import api_key_digest
from tests.integration.cli.conftest import libpq

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Run

FIRST, SECOND = UUID(int=1), UUID(int=2)
APPLICATION = UUID(int=3)


@pytest.fixture
def database(clean_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database without a workspace, which the environment names; there is no encryption key."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", libpq(clean_database))
    return clean_database


@pytest.fixture
def workspace(database: str) -> str:
    """One workspace with the application `shop`; returns the database's URL."""
    execute(database, "INSERT INTO workspaces (id, name) VALUES (%s, 'First')", FIRST)
    execute(
        database,
        "INSERT INTO applications (id, workspace_id, uid, name) VALUES (%s, %s, 'shop', 'Shop')",
        APPLICATION,
        FIRST,
    )
    return database


def execute(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement; return its rows."""
    with psycopg.connect(libpq(url)) as connection:
        cursor = connection.execute(statement, values)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def create(run: Run, *arguments: str) -> dict[str, Any]:
    """Make a key; return what was shown."""
    result = run("keys", "create", "--name", "Test", "--role", "publisher", *arguments)
    assert result.exit_code == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_a_new_key_is_shown_once_and_stored_as_a_digest(run: Run, workspace: str) -> None:
    """The key that is printed is the one whose digest is in the table; its text is not."""
    key = create(run)

    assert execute(workspace, "SELECT digest, role, name FROM api_keys") == [
        (api_key_digest(key["key"]), "publisher", "Test")
    ]
    listed = run("keys", "list").stdout
    assert key["key"] not in listed
    assert [row["id"] for row in json.loads(listed)["data"]] == [key["id"]]


def test_a_key_can_be_bound_and_can_expire(run: Run, workspace: str) -> None:
    """`--application` takes a uid, `--expires-in` a duration by the database's clock."""
    key = create(run, "--application", "shop", "--expires-in", "90d")

    ((bound, seconds),) = execute(
        workspace, "SELECT application_id, extract(epoch FROM expires_at - now())::float8 FROM api_keys"
    )
    assert bound == APPLICATION
    assert key["application"] == ids.to_text(ids.APPLICATION, APPLICATION)
    assert seconds == pytest.approx(90 * 86_400, abs=600)


def test_a_revoked_key_is_gone_and_on_record(run: Run, workspace: str) -> None:
    """Revoking ends it, a second time there is nothing to revoke, and the audit log names the command line."""
    key = create(run)

    first, second = run("keys", "revoke", key["id"]), run("keys", "revoke", key["id"])

    assert (first.exit_code, second.exit_code) == (0, 4)
    assert json.loads(run("keys", "list").stdout)["data"] == []
    assert execute(workspace, "SELECT actor_kind, action FROM audit_log ORDER BY id") == [
        ("command_line", "api_key.created"),
        ("command_line", "api_key.revoked"),
    ]


def test_a_key_given_instead_of_its_id_is_not_repeated(run: Run, workspace: str) -> None:
    """A person who pastes the key itself gets help, and the key does not land in a log."""
    key = create(run)

    result = run("keys", "revoke", key["key"])

    assert result.exit_code == 4
    assert "not its id" in result.stderr
    assert key["key"] not in result.stderr


def test_an_unknown_application_is_refused(run: Run, workspace: str) -> None:
    """No such application: exit code 4, and no key."""
    result = run("keys", "create", "--name", "x", "--role", "viewer", "--application", "nope")

    assert result.exit_code == 4
    assert execute(workspace, "SELECT count(*) FROM api_keys") == [(0,)]


def test_with_several_workspaces_one_must_be_named(run: Run, workspace: str) -> None:
    """The message lists them; named, the command works on that one alone."""
    execute(workspace, "INSERT INTO workspaces (id, name) VALUES (%s, 'Second')", SECOND)
    second = ids.to_text(ids.WORKSPACE, SECOND)

    unnamed = run("keys", "list")
    create(run, "--workspace", second)

    assert unnamed.exit_code == 2
    assert second in unnamed.stderr
    assert execute(workspace, "SELECT workspace_id FROM api_keys") == [(SECOND,)]
    assert run("keys", "list", "--workspace", "wsp_nonsense").exit_code == 4


def test_without_a_workspace_the_way_to_the_first_is_named(run: Run, database: str) -> None:
    """A database that no API has opened yet: what to start."""
    result = run("keys", "create", "--name", "x", "--role", "admin")

    assert result.exit_code == 1
    assert "bellwire api" in result.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--expires-in", "soon"), ("--expires-in", "0d"), ("--name", ""), ("--name", "x" * 300)],
)
def test_values_that_cannot_be_used(run: Run, workspace: str, option: str, value: str) -> None:
    """Wrong usage: exit code 2, and nothing is made."""
    given = {"--name": "x", "--role": "viewer", option: value}

    result = run("keys", "create", *(part for pair in given.items() for part in pair))

    assert result.exit_code == 2
    assert execute(workspace, "SELECT count(*) FROM api_keys") == [(0,)]
