"""The supervisor over real processes: start, stop, restart, and what is left after each way to die."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from app.embedded.child import MARKER
from app.embedded.kept import choose_port
from app.embedded.processes import processes_in_folder, processes_with_environment, running_process
from tests.integration.embedded.started import PROJECT, Started, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    Supervise = Callable[..., Started]

SUPERVISED = str(Path(__file__).with_name("supervised.py"))
NORMAL = {"first": "obeys", "second": "serves"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def supervise(folder: Path, start_python: Callable[..., Started]) -> Supervise:
    """Starts a supervisor over the folder."""

    def start(
        children: dict[str, str],
        *,
        port: int | None = None,
        options: dict[str, Any] | None = None,
        **told: Any,
    ) -> Started:
        what = {"folder": str(folder), "port": port or choose_port(), "children": children, **told}
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(PROJECT)}
        return start_python(SUPERVISED, json.dumps(what), **{"env": environment, **(options or {})})

    return start


def left_over(folder: Path) -> list[int]:
    """The processes that a supervisor of this folder started, and those that they started."""
    servers = processes_in_folder(folder / "postgres" / "data", name="postgres")
    children = processes_with_environment(MARKER, str(folder.resolve()))
    return [process.pid for process in (*servers, *children)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(
    number: signal.Signals, folder: Path, supervise: Supervise
) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end all children and leave no process behind."""
    started = supervise({"first": "obeys", "second": "obeys", "third": "obeys"})
    started.wait_for("welcome")

    started.send(number)

    assert started.wait() == 0
    stopped = re.findall(r"(\w+) +│ stopped by (\w+)", started.output)
    assert stopped == [("second", "SIGTERM"), ("first", "SIGTERM"), ("third", "SIGTERM")]
    assert left_over(folder) == []


def test_ctrl_c_reaches_the_supervisor_only(supervise: Supervise) -> None:
    """A terminal sends SIGINT to its whole group: the children are in groups of their own."""
    started = supervise(NORMAL)
    started.wait_for("welcome")

    os.killpg(started.process.pid, signal.SIGINT)

    assert started.wait() == 0
    assert "stopped by SIGTERM" in started.output
    assert "stopped by SIGINT" not in started.output


def test_a_child_that_dies_is_started_again(supervise: Supervise) -> None:
    """An unexpected end is said, with its reason, and repaired."""
    port = choose_port()
    started = supervise({"first": "serves", "second": "obeys"}, port=port)
    started.wait_for("welcome")
    children = processes_with_environment(MARKER, str(Path(json.loads(started.process.args[2])["folder"])))
    (victim,) = (child for child in children if "stopped by" in child.cmdline()[2])

    victim.kill()

    output = started.wait_for("second   │ runs", times=2)
    assert "`second` was ended by SIGKILL; starting it again in 0.5 s." in output


def test_a_child_that_keeps_dying_is_started_again_with_growing_pauses(supervise: Supervise) -> None:
    """A child that cannot run does not burn the processor, and the others go on."""
    started = supervise({"first": "serves", "second": "fails later"})

    output = started.wait_for("starting it again in 2 s.")

    pauses = re.findall(r"`second` was ended by SIGSEGV; starting it again in ([\d.]+) s", output)
    assert pauses == ["0.5", "1", "2"]
    assert "`first`" not in output


def test_a_child_that_does_not_stop_is_killed_with_all_it_started(folder: Path, supervise: Supervise) -> None:
    """After its time is up, neither the child nor its own children stay."""
    started = supervise({"first": "stubborn", "second": "obeys"}, stop_seconds=0.5)
    started.wait_for("grandchild runs")
    started.wait_for("welcome")

    started.send(signal.SIGTERM)

    assert started.wait() == 0
    assert "`first` did not stop in time and was killed." in started.output
    assert left_over(folder) == []


def test_a_second_ctrl_c_stops_at_once(folder: Path, supervise: Supervise) -> None:
    """Who cannot wait need not: the children are killed without their grace."""
    started = supervise({"first": "stubborn"}, stop_seconds=600)
    started.wait_for("grandchild runs")
    started.wait_for("welcome")
    started.send(signal.SIGINT)
    started.wait_for("Press Ctrl-C again")

    started.send(signal.SIGINT)

    assert started.wait() == 0
    assert left_over(folder) == []


def test_only_one_runs_on_a_folder(folder: Path, supervise: Supervise) -> None:
    """A second one is told where the first is and how to run beside it, and disturbs nothing."""
    first = supervise(NORMAL)
    first.wait_for("welcome")

    second = supervise(NORMAL)

    assert second.wait() == 3
    assert f"already running on {folder} (process {first.process.pid})" in second.output
    assert "BELLWIRE_DATA_DIR=.bellwire2" in second.output
    assert len(left_over(folder)) == len(NORMAL)


def test_a_port_in_use_is_one_sentence(folder: Path, supervise: Supervise) -> None:
    """Nothing is started when the API could not listen; the sentence names the port and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]

        started = supervise(NORMAL, port=port)

        assert started.wait() == 3
    assert f"Port {port} on 127.0.0.1 is in use by " in started.output
    assert f"BELLWIRE_PORT={port + 10} make run" in started.output
    assert "runs" not in started.output
    assert left_over(folder) == []


def test_a_failed_migration_stops_the_start(folder: Path, supervise: Supervise) -> None:
    """Nothing runs on a schema that is not there; the reason stays on the screen."""
    started = supervise(NORMAL, prepare="fails")

    assert started.wait() == 3
    assert "migrate  │ cannot go on" in started.output
    assert "error: `migrate` ended with 7, so nothing else was started." in started.output
    assert "runs" not in started.output


def test_a_child_that_dies_before_all_are_ready_stops_the_start(folder: Path, supervise: Supervise) -> None:
    """A start that cannot succeed is given up at once, with everything stopped again."""
    started = supervise({"first": "obeys", "second": "serves", "third": "fails"})

    assert started.wait() == 3
    assert "third    │ cannot go on" in started.output
    assert "error: `third` ended with 7 before everything was ready." in started.output
    assert left_over(folder) == []


def test_ctrl_c_during_the_start_stops_what_was_started(folder: Path, supervise: Supervise) -> None:
    """There is no moment in which Ctrl-C is lost or leaves something running."""
    started = supervise({"first": "obeys"}, prepare="obeys")
    started.wait_for("migrate  │ runs")

    started.send(signal.SIGINT)

    assert started.wait() == 0
    assert "welcome" not in started.output
    assert left_over(folder) == []


def test_children_die_with_a_killed_supervisor(folder: Path, supervise: Supervise) -> None:
    """SIGKILL leaves the supervisor no last word; the system tells its children."""
    started = supervise(NORMAL)
    started.wait_for("welcome")

    started.send(signal.SIGKILL)

    started.wait()
    wait_until(lambda: not left_over(folder), what="the end of the children")


def test_what_a_killed_supervisor_left_is_stopped_by_the_next(folder: Path, supervise: Supervise) -> None:
    """Children that survive are found by their mark, and ended before new ones start."""
    killed = supervise({"first": "stubborn"})
    killed.wait_for("grandchild runs")
    killed.wait_for("welcome")
    killed.send(signal.SIGKILL)
    killed.wait()
    survivors = left_over(folder)
    # A stranger with a look-alike command line is nobody's leftover.
    stranger = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", "first", str(folder)])
    try:
        after = supervise(NORMAL)
        output = after.wait_for("welcome")

        assert len(survivors) == 2
        assert "Stopping 2 processes that an earlier run, which was killed, left behind." in output
        assert [pid for pid in survivors if running_process(pid)] == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_nobody_listening_to_its_output_does_not_keep_it_from_stopping(
    folder: Path, supervise: Supervise
) -> None:
    """`make run | head` and a terminal that went away: the children still go when told."""
    reading, writing = os.pipe()
    started = supervise(NORMAL, options={"stdout": writing, "stderr": subprocess.DEVNULL})
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        for line in pipe:
            if b"welcome" in line:
                break

    started.send(signal.SIGTERM)

    assert started.wait() == 0
    assert left_over(folder) == []


def test_services_run_before_the_children_and_stop_after_them(folder: Path, supervise: Supervise) -> None:
    """With nothing named by the user, Postgres and the broker come along, and go."""
    started = supervise(NORMAL, embedded=True)
    output = started.wait_for("welcome")
    database, broker = re.findall(r"addresses (\S+) (\S+)", output)[0]
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE seen (n int)")

    started.send(signal.SIGINT)

    assert started.wait() == 0
    assert broker.startswith("redis://:")
    assert left_over(folder) == []


def test_a_start_after_sigkill_recovers_the_data(folder: Path, supervise: Supervise) -> None:
    """What was committed before the supervisor was killed is there for the next one."""
    killed = supervise(NORMAL, embedded=True)
    database = re.findall(r"addresses (\S+)", killed.wait_for("welcome"))[0].replace("+psycopg", "")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE seen AS SELECT 42 AS n")
    killed.send(signal.SIGKILL)
    killed.wait()

    after = supervise(NORMAL, embedded=True)

    database = re.findall(r"addresses (\S+)", after.wait_for("welcome"))[0].replace("+psycopg", "")
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT n FROM seen").fetchall() == [(42,)]
    after.send(signal.SIGINT)
    assert after.wait() == 0
    assert left_over(folder) == []


@pytest.mark.parametrize(
    ("service", "file", "words"),
    [
        ("postgres", "postgres/data/postmaster.pid", "Postgres is back."),
        ("broker", "broker/valkey.pid", "The broker is back."),
    ],
)
def test_a_service_that_dies_is_started_again(
    service: str, file: str, words: str, folder: Path, supervise: Supervise
) -> None:
    """Postgres or the broker may be killed: the supervisor notices, says so, and repairs it."""
    started = supervise({"first": "obeys"}, embedded=True)
    started.wait_for("welcome")

    os.kill(int((folder / file).read_text().split()[0]), signal.SIGKILL)

    assert "has died; starting it again" in started.wait_for(words)
    started.send(signal.SIGINT)
    assert started.wait() == 0
    assert left_over(folder) == []
