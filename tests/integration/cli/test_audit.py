"""`bellwire audit export` straight from the database."""

from __future__ import annotations

import csv
import io
import json
import stat
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from tests.integration.cli.conftest import libpq

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.cli.conftest import Run

WORKSPACE = UUID(int=1)


@pytest.fixture
def database(clean_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that the environment names, with one workspace; there is no encryption key."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", libpq(clean_database))
    execute(clean_database, "INSERT INTO workspaces (id, name) VALUES (%s, 'First')", WORKSPACE)
    return clean_database


def execute(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement; return its rows."""
    with psycopg.connect(libpq(url)) as connection:
        cursor = connection.execute(statement, values)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def test_the_export_is_written_and_on_record(run: Run, database: str) -> None:
    """What was done is in it, newest first; the export is an entry of its own, by the command line."""
    run("keys", "create", "--name", "x", "--role", "viewer")

    result = run("audit", "export")

    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [entry["action"] for entry in entries] == ["audit_log.exported", "api_key.created"]
    assert {entry["actor"]["kind"] for entry in entries} == {"command_line"}


def test_a_file_is_ones_own_and_never_written_over(run: Run, database: str, own_folder: Path) -> None:
    """CSV into a new file of mode 0600; a second time it is refused and the first file is as it was."""
    path = own_folder / "audit.csv"

    first, second = (run("audit", "export", "--format", "csv", "--output", str(path)) for _ in range(2))

    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert (first.exit_code, second.exit_code) == (0, 2)
    assert "not written over" in second.stderr
    assert [row["action"] for row in rows] == ["audit_log.exported"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_times_narrow_the_export(run: Run, database: str) -> None:
    """Nothing before the year 2000, nothing after the year 2999."""
    assert run("audit", "export", "--until", "2000-01-01T00:00:00Z").stdout == ""
    assert run("audit", "export", "--since", "2999-01-01T00:00:00Z").stdout == ""


@pytest.mark.parametrize(
    ("option", "value"), [("--since", "yesterday"), ("--until", "2026-01-01"), ("--format", "xls")]
)
def test_values_that_cannot_be_used(run: Run, database: str, option: str, value: str) -> None:
    """Wrong usage: exit code 2, nothing is written and nothing is on record."""
    result = run("audit", "export", option, value)

    assert (result.exit_code, result.stdout) == (2, "")
    assert value in result.stderr
    assert execute(database, "SELECT count(*) FROM audit_log") == [(0,)]


def test_an_unknown_workspace_is_refused(run: Run, database: str) -> None:
    """Exit code 4, and no empty file that looks like an export."""
    result = run("audit", "export", "--workspace", "wsp_nonsense")

    assert (result.exit_code, result.stdout) == (4, "")
