"""Brokers as an operator installs them: Debian's redis-server and rabbitmq-server, on ports and folders of their own."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import amqp
import redis

from app.embedded.kept import choose_port
from tests.faults.harness.processes import ManagedProcess
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
_SYSTEM_FOLDERS = "/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Broker(Protocol):
    """A broker that a test starts, kills and starts again."""

    @property
    def url(self) -> str:
        """What BELLWIRE_BROKER_URL is set to."""
        ...

    async def start(self) -> None:
        """Start it (again) and wait until it takes connections."""
        ...

    def kill(self) -> None:
        """SIGKILL it."""
        ...

    def stop(self) -> None:
        """End it for good."""
        ...


class RedisBroker:
    """Debian's `redis-server`, without persistence: killed, it comes back empty."""

    def __init__(self, folder: Path) -> None:
        self._port = choose_port()
        command = [
            _program("redis-server", package="redis-server"),
            "--port",
            str(self._port),
            "--bind",
            HOST,
        ]
        command += ["--dir", str(folder), "--save", "", "--appendonly", "no", "--daemonize", "no"]
        self.process = _process("redis", command, folder=folder)

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://{HOST}:{self._port}/0"

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self.process.start()

        def answers() -> bool:
            with suppress(redis.RedisError), redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
            return False

        await wait_until(answers, seconds=START_SECONDS, what="Redis answers", state=self.process.tail)

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill_tree()

    def stop(self) -> None:
        """End it."""
        self.process.stop(seconds=STOP_SECONDS)


class RabbitBroker:
    """Debian's `rabbitmq-server` as an ordinary process: own node name, ports, data, log, cookie and port mapper."""

    def __init__(self, folder: Path) -> None:
        self._port = choose_port()
        mapper_port = choose_port()
        home = folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        (folder / "plugins").write_text("[].")
        environment = {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(mapper_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"bellwire{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(choose_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "no-environment"),
            "RABBITMQ_CONFIG_FILE": str(folder / "no-configuration"),
            # Idle schedulers sleep instead of spinning; two are enough here.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
        }
        # The mapper of Erlang's nodes would stay behind as a daemon; as a process of ours it is ended, too.
        self._mapper = _process(
            "epmd", [_program("epmd", package="rabbitmq-server")], folder=folder, more=environment
        )
        self.process = _process(
            "rabbitmq",
            [_program("rabbitmq-server", package="rabbitmq-server")],
            folder=folder,
            more=environment,
        )

    @property
    def url(self) -> str:
        """Its address, with the account that may only come from this machine."""
        return f"amqp://guest:guest@{HOST}:{self._port}//"

    async def start(self) -> None:
        """Start it and wait until it lets us log in."""
        if not self._mapper.is_running():
            self._mapper.start()
        self.process.start()

        def answers() -> bool:
            if not self.process.is_running():
                raise RuntimeError(f"rabbitmq-server ended:\n{self.process.tail()}")
            with (
                suppress(OSError, amqp.AMQPError),
                amqp.Connection(f"{HOST}:{self._port}", connect_timeout=2, read_timeout=5),
            ):
                return True
            return False

        await wait_until(answers, seconds=START_SECONDS, what="RabbitMQ answers", state=self.process.tail)

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill_tree()

    def stop(self) -> None:
        """End it and its mapper."""
        self.process.kill_tree()
        self._mapper.stop(seconds=STOP_SECONDS)


def _program(name: str, *, package: str) -> str:
    """Return the path of an installed program, Debian's own wrapper scripts last."""
    path = shutil.which(name, path=f"{_SYSTEM_FOLDERS}:{os.environ.get('PATH', '')}")
    if path is None:
        raise RuntimeError(
            f"`{name}` is not installed, and this test runs Bellwire on it. Install it with: apt-get install {package}"
        )
    return path


def _process(
    name: str, command: Sequence[str], *, folder: Path, more: dict[str, str] | None = None
) -> ManagedProcess:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))}
    return ManagedProcess(name, command, environment={**kept, **(more or {})}, folder=folder, cwd=folder)
