"""The services that tests run on: one embedded Postgres for all xdist workers, one broker for each.

BELLWIRE_TEST_DATABASE_URL (an address whose user may create databases) and BELLWIRE_TEST_BROKER_URL name
servers of your own to run the same tests on, for example Debian's Postgres 15.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psycopg
import pytest
import structlog
from psycopg import sql
from sqlalchemy.engine import make_url

from app.core.migrate import upgrade
from app.embedded.broker import EmbeddedBroker
from app.embedded.folder_lock import FolderLock
from app.embedded.postgres import EmbeddedPostgres
from app.models import Base

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tests kill the server, not the machine: what it has written survives that without waiting for the disk.
TEST_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "300"}
LOCK_TIMEOUT = "20s"  # A test that left a transaction open makes the next one say so.

_SERVICES = "services"
_SAID = "said"
# Referred to until the process ends: the server outlives the worker that started it, on purpose, and
# collecting its process object earlier would be reported as a leak.
_STARTED: list[EmbeddedPostgres] = []
_SHARED_FOLDER = pytest.StashKey[Path]()


class MakeDatabase(Protocol):
    """Makes a database of the test's own and returns its SQLAlchemy URL; it is dropped after the test."""

    def __call__(self, *, migrated: bool = True) -> str: ...


class Report(Protocol):
    """Says something below the results of the whole run."""

    def __call__(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Seed:
    """What the migrations put into the tables: (table and columns, rows as COPY writes them), parents first."""

    rows: tuple[tuple[sql.Composed, bytes], ...]

    @classmethod
    def of(cls, url: str) -> Seed:
        """Read it from a database that was migrated and not touched since."""
        rows = []
        with psycopg.connect(_libpq(url)) as connection, connection.cursor() as cursor:
            for table in Base.metadata.sorted_tables:
                name = sql.Identifier(table.name)
                columns = sql.SQL(", ").join(
                    sql.Identifier(column.name) for column in table.columns if column.computed is None
                )
                with cursor.copy(sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(columns, name)) as copy:
                    content = b"".join(bytes(part) for part in copy)
                if content:
                    rows.append((sql.SQL("{} ({})").format(name, columns), content))
        return cls(rows=tuple(rows))

    def restore(self, url: str) -> None:
        """Bring a database back to it: no other row stays in any table."""
        tables = [table.name for table in Base.metadata.sorted_tables]
        # TRUNCATE of all tables and partitions takes 350 ms, this 3 ms: tests leave few rows in few tables.
        filled = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(name, sql.Identifier(name))
            for name in tables
        )
        with psycopg.connect(_libpq(url)) as connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
            to_empty = {name for (name,) in cursor.execute(filled)}
            if "audit_log" in to_empty:
                # Append-only, also for us; only the owner of the table may say otherwise.
                cursor.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
            for name in reversed(tables):
                if name in to_empty:
                    cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
            if "audit_log" in to_empty:
                cursor.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")
            for table, content in self.rows:
                with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
                    copy.write(content)


def pytest_configure() -> None:
    """Keep tracebacks in the log plain: structlog's own show every local variable, which takes seconds for each."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember, in the process that outlives the xdist workers, where they keep their services."""
    if not hasattr(session.config, "workerinput"):
        factory: pytest.TempPathFactory = session.config._tmp_path_factory
        session.config.stash[_SHARED_FOLDER] = factory.getbasetemp() / _SERVICES


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what killed workers left behind, once all of them have gone."""
    folder = config.stash.get(_SHARED_FOLDER, None)
    if folder is not None and folder.exists():
        _end_if_unused(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have to say about how much they looked at (see `report`)."""
    said = [
        value
        for result in terminalreporter.stats.get("passed", ())
        for name, value in getattr(result, "user_properties", ())
        if name == _SAID
    ]
    if said:
        terminalreporter.section("looked at")
        for value in said:
            terminalreporter.write_line(value)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Says something below the results of the whole run, such as how many cases a test has gone through."""
    variant = request.node.name.partition("[")[2].rstrip("]")

    def say(text: str) -> None:
        request.node.user_properties.append((_SAID, f"{variant}: {text}" if variant else text))

    return say


@pytest.fixture(scope="session")
def worker_name() -> str:
    """The xdist worker's name, or `main` without xdist."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def services_folder(tmp_path_factory: pytest.TempPathFactory, worker_name: str) -> Path:
    """The folder that all xdist workers of one run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_name == "main" else base.parent) / _SERVICES
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def postgres_server(services_folder: Path) -> Iterator[str]:
    """The SQLAlchemy URL of a server on which databases can be created, shared by all workers."""
    # Each worker holds the shared lock while it uses the server; the kernel lets go when a worker dies.
    users = FolderLock(services_folder / "users.lock")
    with FolderLock(services_folder / "start.lock"):
        for earlier in services_folder.parent.parent.glob(f"pytest-*/{_SERVICES}"):
            if earlier != services_folder:
                _end_if_unused(earlier)
        users.acquire(shared=True)
        server = _outside_server()
        if server is None:
            _STARTED.append(_embedded(services_folder).start())
            server = _STARTED[-1].url_for("postgres")
    yield server
    users.release()
    _end_if_unused(services_folder)
    _let_go()


@pytest.fixture(scope="session")
def template_database(postgres_server: str, services_folder: Path) -> str:
    """The name of the database that the migrations made, from which all others are copied."""
    note = _template_note(services_folder)
    with FolderLock(services_folder / "start.lock"):
        if not note.exists():
            name = f"bellwire_test_{uuid.uuid4().hex[:12]}"
            _execute(postgres_server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            upgrade(_with_database(postgres_server, name))
            note.parent.mkdir(exist_ok=True)
            note.write_text(name, encoding="utf-8")
    return note.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str, template_database: str, services_folder: Path) -> Iterator[str]:
    """The SQLAlchemy URL of this worker's own migrated database; see `clean_database` to begin empty."""
    with _database(postgres_server, services_folder, template=template_database) as url:
        yield url


@pytest.fixture(scope="session")
def seed(postgres_url: str) -> Seed:
    """The rows that the migrations made."""
    return Seed.of(postgres_url)


@pytest.fixture
def clean_database(postgres_url: str, seed: Seed) -> str:
    """The URL of this worker's database, with nothing in it but what the migrations put there."""
    seed.restore(postgres_url)
    return postgres_url


@pytest.fixture
def make_database(
    postgres_server: str, template_database: str, services_folder: Path
) -> Iterator[MakeDatabase]:
    """Makes further databases for this test alone: migrated, or quite empty."""
    with ExitStack() as made:

        def make(*, migrated: bool = True) -> str:
            template = template_database if migrated else None
            return made.enter_context(_database(postgres_server, services_folder, template=template))

        yield make


@pytest.fixture(scope="session")
def broker_url(services_folder: Path, worker_name: str) -> Iterator[str]:
    """The `redis://` URL of this worker's own broker (or of BELLWIRE_TEST_BROKER_URL)."""
    outside = os.environ.get("BELLWIRE_TEST_BROKER_URL")
    if outside:
        yield outside
        return
    with EmbeddedBroker(services_folder / f"broker-{worker_name}") as broker:
        yield broker.url


@contextmanager
def _database(server: str, folder: Path, *, template: str | None) -> Iterator[str]:
    """Make a database, copied from `template` or empty, and drop it in the end."""
    # The prefix lets the last user find what a killed worker left on an outside server.
    prefix = _template_note(folder).read_text(encoding="utf-8")
    name = f"{prefix}_{uuid.uuid4().hex[:8]}"
    with FolderLock(folder / "start.lock"):  # Copies of one template get in each other's way.
        _execute(
            server,
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template or "template0")
            ),
        )
    try:
        yield _with_database(server, name)
    finally:
        _drop_database(server, name)


def _end_if_unused(folder: Path) -> None:
    """If no worker uses the shared server any more, stop it and remove what it wrote."""
    start = FolderLock(folder / "start.lock")
    users = FolderLock(folder / "users.lock")
    try:
        if not start.acquire(wait=False) or not users.acquire(wait=False):
            return
        note = _template_note(folder)
        outside = _outside_server()
        if outside and note.exists():
            prefix = note.read_text(encoding="utf-8")
            with psycopg.connect(_libpq(outside), autocommit=True) as connection:
                names = connection.execute(
                    "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix]
                ).fetchall()
            for (name,) in names:
                _drop_database(outside, name)
        _embedded(folder).stop()
        shutil.rmtree(note.parent, ignore_errors=True)
    finally:
        users.release()
        start.release()


def _let_go() -> None:
    """Leave the server that this worker started to those who still use it, else Python reports it as forgotten."""
    for server in _STARTED:
        if server._child is not None and server._child.poll() is None:
            server._child.returncode = 0


def _embedded(folder: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder / "postgres", settings=TEST_SETTINGS, dies_with_parent=False)


def _outside_server() -> str | None:
    outside = os.environ.get("BELLWIRE_TEST_DATABASE_URL")
    if not outside:
        return None
    return make_url(outside).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _template_note(folder: Path) -> Path:
    """Where the template's name is kept: with the server's files, so both go together."""
    return folder / "postgres" / "template"


def _with_database(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _libpq(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql", 1)


def _execute(server: str, statement: sql.Composed) -> None:
    with psycopg.connect(_libpq(server), autocommit=True) as connection:
        connection.execute(statement)


def _drop_database(server: str, name: str) -> None:
    _execute(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
