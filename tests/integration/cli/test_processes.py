"""`bellwire api`, `worker` and `beat` as real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import httpx2
import psutil
import pytest

from app.core.queue import DRAIN_TASK, QUEUE, make_celery
from app.core.settings import Settings
from tests.integration.cli.conftest import ENCRYPTION_KEY, libpq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import MakeDatabase

STOP_SECONDS = 60
WAKE_UP_SECONDS = 60


class Process:
    """A running `bellwire` command, whose log is read line by line."""

    def __init__(self, *arguments: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(os.environ),
        )
        self._seen: list[str] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def read_until(self, sign: str) -> str:
        """Return the first line that holds `sign`; fail with all that was said if it ends before."""
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._seen.append(line)
            if sign in line:
                return line
        pytest.fail(f"It ended with {self._popen.wait()} and never said {sign!r}:\n{''.join(self._seen)}")

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal, wait for the end; return the exit code and what it still said."""
        self._popen.send_signal(number)
        rest, _ = self._popen.communicate(timeout=STOP_SECONDS)
        return self._popen.returncode, rest

    def close(self) -> None:
        """Kill it if it still runs."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.communicate()


class Start(Protocol):
    """Starts a command; it is killed after the test if it still runs."""

    def __call__(self, *arguments: str) -> Process: ...


@pytest.fixture
def start(make_database: MakeDatabase, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start commands on a database of the test's own."""
    settings = {
        "DATABASE_URL": libpq(make_database()),
        "BROKER_URL": broker_url,
        "ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "ENVIRONMENT": "development",
        "LOG_FORMAT": "json",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"BELLWIRE_{name}", value)
    with ExitStack() as running:

        def begin(*arguments: str) -> Process:
            process = Process(*arguments)
            running.callback(process.close)
            return process

        yield begin


def test_the_api_serves_and_stops_when_told(start: Start) -> None:
    """On a free port it says where it listens, answers there, and ends with 0 on Ctrl-C."""
    process = start("api", "--port", "0")
    listening = json.loads(process.read_until("api.listening"))

    answer = httpx2.get(f"http://127.0.0.1:{listening['port']}/healthz", trust_env=False)
    code, rest = process.stop(signal.SIGINT)

    assert answer.status_code == 200
    assert code == 0
    assert "Traceback" not in rest


def test_a_port_in_use_is_one_sentence(start: Start) -> None:
    """Another program on the port: exit code 3, what to do, and no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start("api", "--port", str(port))
        line = process.read_until("bellwire:")
        code, rest = process.stop(signal.SIGCONT)

    assert f"Port {port} of 127.0.0.1 is in use" in line
    assert "--port or BELLWIRE_PORT" in line
    assert (code, rest) == (3, "")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_one_sentence(start: Start, host: str) -> None:
    """A host that cannot be listened on: exit code 3, and the setting to correct."""
    process = start("api", "--host", host, "--port", "0")

    assert "Correct BELLWIRE_HOST" in process.read_until("bellwire:")
    assert process.stop(signal.SIGCONT)[0] == 3


def test_worker_becomes_celery(start: Start) -> None:
    """No process stands between the signal and Celery: SIGTERM to the one that was started ends it with 0."""
    process = start("worker", "--concurrency", "1")
    process.read_until("worker.started")

    arguments = psutil.Process(process.pid).cmdline()
    code, _ = process.stop(signal.SIGTERM)

    assert arguments[1:7] == ["-m", "celery", "--quiet", "-A", "workers.celery_app", "worker"]
    assert code == 0


def test_beat_becomes_celery_and_sends_wake_ups(start: Start, broker_url: str) -> None:
    """A wake-up is in the queue soon after the start; SIGTERM to the one that was started ends it with 0."""
    app = make_celery(Settings(broker_url=broker_url))
    with (
        app.connection_for_read() as connection,
        connection.SimpleQueue(app.amqp.queues[QUEUE]) as wake_ups,
    ):
        wake_ups.clear()  # What other tests left.
        process = start("beat")
        message = wake_ups.get(timeout=WAKE_UP_SECONDS)
        message.ack()
    app.close()

    arguments = psutil.Process(process.pid).cmdline()
    code, _ = process.stop(signal.SIGTERM)

    assert message.headers["task"] == DRAIN_TASK
    assert arguments[1:7] == ["-m", "celery", "--quiet", "-A", "workers.celery_app", "beat"]
    assert code == 0


def test_no_secret_stands_in_the_arguments(start: Start) -> None:
    """Every user of the machine can read arguments: addresses and keys travel in the environment."""
    process = start("worker", "--concurrency", "1")
    process.read_until("worker.started")

    arguments = " ".join(psutil.Process(process.pid).cmdline())

    assert "://" not in arguments
    assert ENCRYPTION_KEY not in arguments
