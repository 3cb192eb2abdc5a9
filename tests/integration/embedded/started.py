"""Python processes that a test starts, and waiting for what they do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

PROJECT = Path(__file__).parents[3]
WAIT_SECONDS = 60.0  # Generous: it is reached only when something is broken.


class Started:
    """A Python process of the test's own, and what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], *, written: Path) -> None:
        self.process = process
        self._written = written

    @classmethod
    def start(cls, *arguments: str, written: Path, **options: Any) -> Self:
        """Start Python with these arguments, in a session of its own; what it writes goes to `written`."""
        with written.open("wb") as file:
            process: subprocess.Popen[bytes] = subprocess.Popen(
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
        return cls(process, written=written)

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
