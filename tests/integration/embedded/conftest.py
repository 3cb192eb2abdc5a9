"""Small real processes for the tests of the embedded services."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).parents[3]
WAIT_SECONDS = 60.0  # Generous: it is reached only when something is broken.


class Started:
    """A Python process of the test's own, and what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], *, written: Path) -> None:
        self.process = process
        self._written = written

    @property
    def output(self) -> str:
        """Everything it has written until now."""
        return self._written.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str, *, times: int = 1) -> str:
        """Wait until it has written `text` so often; return all that it has written."""
        wait_until(
            lambda: self.output.count(text) >= times or self.process.poll() is not None,
            what=lambda: f"{text!r} in:\n{self.output}",
        )
        assert self.output.count(text) >= times, f"{text!r} is not in:\n{self.output}"
        return self.output

    def wait(self) -> int:
        """Wait until it has ended; return what it ended with."""
        return self.process.wait(timeout=WAIT_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


def wait_until(condition: Callable[[], object], *, what: Callable[[], str] | str) -> None:
    """Wait until `condition` holds; fail with `what` if it does not in WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(
                f"waited {WAIT_SECONDS:.0f} s in vain for {what if isinstance(what, str) else what()}"
            )
        time.sleep(0.01)


@pytest.fixture
def start_python(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Starts Python programs in sessions of their own; those that still run in the end are killed."""
    all_started: list[Started] = []

    def start(*arguments: str, **options: object) -> Started:
        written = tmp_path / f"output-{len(all_started)}.txt"
        with written.open("wb") as file:
            process = subprocess.Popen(  # type: ignore[call-overload]
                [sys.executable, *arguments],
                **{
                    "cwd": PROJECT,
                    "stdin": subprocess.DEVNULL,
                    "stdout": file,
                    "stderr": subprocess.STDOUT,
                    "start_new_session": True,
                    "env": {**os.environ, "PYTHONUNBUFFERED": "1"},
                    **options,
                },
            )
        all_started.append(Started(process, written=written))
        return all_started[-1]

    yield start
    for started in all_started:
        with contextlib.suppress(ProcessLookupError):
            started.process.kill()
        started.process.wait()
