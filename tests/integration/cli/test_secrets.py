"""`bellwire secrets reencrypt`: rotating the encryption key on a real database, beside others who use it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import create_engine, pool, select
from sqlalchemy.dialects.postgresql import UUID as PgUUID

from app.access import encryption
from app.cli.outcome import ExitCode
from app.core.crypto import CannotDecrypt, Keyring
from app.models import Base
from tests.integration.cli.conftest import libpq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from app.models.sealed import SealedColumn
    from tests.integration.cli.conftest import Run

OLD, NEW, LOST = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
WORKSPACE, APPLICATION = UUID(int=1), UUID(int=2)


@pytest.fixture
def database(clean_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that the environment names, with a workspace and an application; the newer key is in front."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", libpq(clean_database))
    monkeypatch.setenv("BELLWIRE_ENCRYPTION_KEYS", f"{NEW},{OLD}")
    execute(clean_database, "INSERT INTO workspaces (id, name) VALUES (%s, 'W')", WORKSPACE)
    execute(
        clean_database,
        "INSERT INTO applications (id, workspace_id, uid, name) VALUES (%s, %s, 'a', 'A')",
        APPLICATION,
        WORKSPACE,
    )
    return clean_database


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """A connection for the functions below the command."""
    engine = create_engine(database, poolclass=pool.NullPool)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def execute(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement; return its rows."""
    with psycopg.connect(libpq(url)) as opened:
        cursor = opened.execute(statement, values)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def store(url: str, *, key: str, headers: bytes = b'{"x":"y"}', secret: bytes = b"whsec_1") -> UUID:
    """Store an endpoint with headers and a secret, sealed with `key`; return its id."""
    ring, endpoint, row = Keyring([key]), uuid4(), uuid4()
    execute(
        url,
        "INSERT INTO endpoints (id, workspace_id, application_id, url, sealed_headers)"
        " VALUES (%s, %s, %s, 'https://a.example', %s)",
        endpoint,
        WORKSPACE,
        APPLICATION,
        ring.seal(headers, row=endpoint, column="sealed_headers"),
    )
    execute(
        url,
        "INSERT INTO endpoint_secrets (id, endpoint_id, sealed_secret) VALUES (%s, %s, %s)",
        row,
        endpoint,
        ring.seal(secret, row=row, column="sealed_secret"),
    )
    return endpoint


def store_answer(url: str, name: str, *, key: str) -> None:
    """Keep an idempotent answer, sealed with `key`."""
    column = next(column for column in encryption.all_columns() if not column.binding.lasting)
    row = column.binding.row({"workspace_id": WORKSPACE, "key": name})
    execute(
        url,
        "INSERT INTO idempotency_keys (workspace_id, key, fingerprint, status, sealed_body)"
        " VALUES (%s, %s, '', 201, %s)",
        WORKSPACE,
        name,
        Keyring([key]).seal(b"{}", row=row, column=column.binding.column),
    )


def opened(connection: Connection, sealed: SealedColumn, *, key: str) -> list[bytes]:
    """Open every value of a column with one key alone."""
    ring = Keyring([key])
    with connection.begin():
        rows = connection.execute(select(*sealed.key, sealed.column)).all()
    names = [column.name for column in sealed.key]
    return [
        ring.open(
            bytes(row[-1]),
            row=sealed.binding.row(dict(zip(names, row[:-1], strict=True))),
            column=sealed.binding.column,
        )
        for row in rows
        if row[-1] is not None
    ]


def answer_of(run: Run, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and what it printed."""
    result = run("secrets", "reencrypt", *arguments)
    found: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, found


def test_every_sealed_column_is_encrypted_anew(run: Run, database: str, connection: Connection) -> None:
    """After the command the newest key alone opens everything, and what was stored is the same."""
    for number in range(5):
        store(database, key=OLD, secret=b"whsec_%d" % number)
    store(database, key=NEW, secret=b"whsec_5")
    store_answer(database, "k", key=OLD)

    code, answer = answer_of(run, "--rows", "2")

    columns = {column.column.name: column for column in encryption.all_columns()}
    assert (code, answer["only_newest_needed"]) == (0, True)
    assert answer["reencrypted"]["endpoint_secrets.sealed_secret"] == 5
    assert sorted(opened(connection, columns["sealed_secret"], key=NEW)) == [
        b"whsec_%d" % n for n in range(6)
    ]
    assert opened(connection, columns["sealed_headers"], key=NEW) == [b'{"x":"y"}'] * 6
    assert opened(connection, columns["sealed_body"], key=NEW) == [b"{}"]


@pytest.mark.parametrize("name", [column.name for column in encryption.all_columns()])
def test_no_column_of_the_models_is_missed(name: str, database: str, connection: Connection) -> None:
    """One row in each table that has a sealed column, made from the models: each is counted and encrypted anew."""
    (sealed,) = (column for column in encryption.all_columns() if column.name == name)
    values = {column.name: plausible(column) for column in sealed.table.columns if not column.nullable}
    values |= {"workspace_id": WORKSPACE} if "workspace_id" in values else {}
    values |= {"application_id": APPLICATION} if "application_id" in values else {}
    if "endpoint_id" in values:
        values["endpoint_id"] = store(database, key=NEW)
        execute(database, "DELETE FROM endpoint_secrets")
    values = {column: value for column, value in values.items() if value is not None}
    key = {column.name: values[column.name] for column in sealed.key}
    values[sealed.column.name] = Keyring([OLD]).seal(
        b"plain", row=sealed.binding.row(key), column=sealed.binding.column
    )
    with connection.begin():
        connection.execute(sealed.table.insert().values(values))
    ring = Keyring([NEW, OLD])
    with connection.begin():
        before = {use.place: use.by_column.get(name) for use in encryption.uses_of_keys(connection, ring)}

    encryption.reencrypt(connection, ring, actor="ops@host")

    assert before[2] == 1
    assert b"plain" in opened(connection, sealed, key=NEW)


def plausible(column: Any) -> Any:
    """A value that a column takes; None where the table has one by itself."""
    if column.server_default is not None:
        return None
    return uuid4() if isinstance(column.type, PgUUID) else column.type.python_type(1)


def test_check_changes_nothing_and_says_what_is_left(run: Run, database: str, connection: Connection) -> None:
    """While anything needs the old key `--check` is exit code 1, and the value is still as it was."""
    store(database, key=OLD)

    code, answer = answer_of(run, "--check")

    new, old = answer["keys"]
    assert (code, answer["only_newest_needed"]) == (ExitCode.FAILED, False)
    assert (new["place"], new["values"], old["place"], old["values"]) == (1, 0, 2, 2)
    assert old["by_column"] == {"endpoints.sealed_headers": 1, "endpoint_secrets.sealed_secret": 1}
    assert "remove no key until then" in run("secrets", "reencrypt", "--check").stderr
    secrets = next(column for column in encryption.all_columns() if column.column.name == "sealed_secret")
    assert opened(connection, secrets, key=OLD) == [b"whsec_1"]


def test_check_says_when_the_old_key_may_go(run: Run, database: str) -> None:
    """Nothing needs it any more: exit code 0, and what to keep in mind."""
    store(database, key=OLD)
    run("secrets", "reencrypt")

    result = run("secrets", "reencrypt", "--check")

    assert result.exit_code == 0
    assert "may be removed" in result.stderr
    assert "backups" in result.stderr


def test_a_value_of_a_lost_key_is_left_and_told(run: Run, database: str, connection: Connection) -> None:
    """It is not touched, the others are encrypted anew, and the exit code is 1."""
    store(database, key=OLD)
    lost = store(database, key=LOST)
    before = execute(database, "SELECT sealed_secret FROM endpoint_secrets WHERE endpoint_id = %s", lost)

    result = run("secrets", "reencrypt")

    answer = json.loads(result.stdout)
    assert result.exit_code == ExitCode.FAILED
    assert [(key["place"], key["values"]) for key in answer["keys"]] == [(1, 2), (2, 0), (None, 2)]
    assert "not in BELLWIRE_ENCRYPTION_KEYS" in result.stderr
    assert f"The secret of row {lost}" in result.stderr
    assert before == execute(
        database, "SELECT sealed_secret FROM endpoint_secrets WHERE endpoint_id = %s", lost
    )


def test_an_altered_value_is_left_and_the_rest_goes_on(database: str, connection: Connection) -> None:
    """A broken row stops nothing, is counted, and stays as it is for a person to look at."""
    store(database, key=OLD)
    execute(database, "UPDATE endpoint_secrets SET sealed_secret = sealed_secret || '\\x00'")
    store(database, key=OLD)

    done = {
        column.column: column
        for column in encryption.reencrypt(connection, Keyring([NEW, OLD]), actor="ops@host")
    }

    secrets = done["endpoint_secrets.sealed_secret"]
    assert (secrets.resealed, secrets.unreadable) == (1, 1)
    assert (done["endpoints.sealed_headers"].resealed, done["endpoints.sealed_headers"].unreadable) == (2, 0)


class Stopped(Exception):
    """The process was killed."""


def test_stopped_in_the_middle_it_goes_on_where_it_was(database: str, connection: Connection) -> None:
    """What was committed stays; a second run does the rest and nothing twice."""
    for _ in range(6):
        store(database, key=OLD)
    ring = Keyring([NEW, OLD])

    def stop(_: encryption.Reencrypted) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        encryption.reencrypt(connection, ring, actor="ops@host", write_rows=2, progress=stop)
    second = encryption.reencrypt(connection, ring, actor="ops@host", write_rows=2)

    resealed = {column.column: column.resealed for column in second}
    assert sorted(resealed.values()) == [0, 4, 6]


def entries(url: str) -> list[tuple[Any, ...]]:
    """Return what the audit logs say."""
    return execute(
        url,
        "SELECT workspace_id, actor_kind, actor_id, object_kind, after FROM audit_log"
        " WHERE action = 'secrets.reencrypted' ORDER BY workspace_id",
    )


def test_it_is_in_the_log_of_every_workspace(run: Run, database: str) -> None:
    """Once for the whole run, by whom, and with the name of the key; a run that changes nothing is not told."""
    execute(database, "INSERT INTO workspaces (id, name) VALUES (%s, 'Other')", UUID(int=7))
    for _ in range(3):
        store(database, key=OLD)

    run("secrets", "reencrypt", "--check")
    assert entries(database) == []
    run("secrets", "reencrypt", "--rows", "1")
    run("secrets", "reencrypt")

    found = entries(database)
    assert [(workspace, kind, after) for workspace, kind, _, _, after in found] == [
        (WORKSPACE, "command_line", {"encryption_key": Keyring([NEW]).names[0]}),
        (UUID(int=7), "command_line", {"encryption_key": Keyring([NEW]).names[0]}),
    ]
    assert all("@" in actor and kind == "workspace" for _, _, actor, kind, _ in found)


def test_a_run_that_is_stopped_is_on_record(database: str, connection: Connection) -> None:
    """The entry is written by the first transaction that encrypts anything."""
    store(database, key=OLD)
    store(database, key=OLD)

    def stop(_: encryption.Reencrypted) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        encryption.reencrypt(connection, Keyring([NEW, OLD]), actor="ops@host", write_rows=1, progress=stop)
    assert [actor for _, _, actor, _, _ in entries(database)] == ["ops@host"]


def test_a_row_that_somebody_holds_is_not_waited_for(database: str, connection: Connection) -> None:
    """An endpoint that a request is changing is passed by, and told as held; later it is done."""
    held = store(database, key=OLD)
    store(database, key=OLD)
    ring = Keyring([NEW, OLD])
    with psycopg.connect(libpq(database)) as other:
        other.execute("SELECT 1 FROM endpoints WHERE id = %s FOR UPDATE", [held])
        first = encryption.reencrypt(connection, ring, actor="ops@host")
    second = encryption.reencrypt(connection, ring, actor="ops@host")

    assert {column.column: (column.resealed, column.busy) for column in first}[
        "endpoints.sealed_headers"
    ] == (1, 1)
    assert {column.column: (column.resealed, column.busy) for column in second}[
        "endpoints.sealed_headers"
    ] == (1, 0)


def test_a_change_by_a_request_is_not_written_over(database: str, connection: Connection) -> None:
    """New headers that are stored between the look and the lock stay: only the row as it is under the lock counts."""
    endpoint = store(database, key=OLD)
    store(database, key=OLD)
    ring = Keyring([NEW, OLD])
    changed = ring.seal(b'{"new":"1"}', row=endpoint, column="sealed_headers")
    seen: list[str] = []

    def change(column: encryption.Reencrypted) -> None:
        # After the first of two transactions: the second one's rows were looked at before this change.
        if not seen:
            execute(database, "UPDATE endpoints SET sealed_headers = %s WHERE id = %s", changed, endpoint)
        seen.append(column.column)

    encryption.reencrypt(connection, ring, actor="ops@host", write_rows=1, progress=change)

    assert execute(database, "SELECT sealed_headers FROM endpoints WHERE id = %s", endpoint) == [(changed,)]


def test_secrets_do_not_open_with_the_old_key_afterwards(database: str, connection: Connection) -> None:
    """Whoever has the old key only can read nothing any more."""
    store(database, key=OLD)
    encryption.reencrypt(connection, Keyring([NEW, OLD]), actor="ops@host")

    for column in encryption.all_columns():
        if column.table.name in {"endpoints", "endpoint_secrets"}:
            with pytest.raises(CannotDecrypt):
                opened(connection, column, key=OLD)


def test_without_a_key_the_command_refuses(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In production a missing key stops it, with the sentence that says how to make one."""
    monkeypatch.delenv("BELLWIRE_ENCRYPTION_KEYS")

    result = run("secrets", "reencrypt")

    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "openssl rand -base64 32" in result.stderr


def test_no_key_and_no_secret_is_printed(run: Run, database: str) -> None:
    """Names of keys tell them apart and are not the keys."""
    store(database, key=OLD, secret=b"whsec_MARKER", headers=b'{"authorization":"MARKER"}')

    for arguments in (["--check"], []):
        result = run("secrets", "reencrypt", *arguments)
        for hidden in (OLD, NEW, "MARKER", bytes([1]).hex() * 4):
            assert hidden not in result.stdout + result.stderr


def test_tables_of_the_models_are_all_looked_at() -> None:
    """The list that the command walks is that of the models' metadata, not one of its own."""
    assert {column.table for column in encryption.all_columns()} <= set(Base.metadata.sorted_tables)
