"""Real processes that a test starts, freezes, kills and starts again; each writes to a log file of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from app.embedded.processes import signal_when_parent_dies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KILL_SECONDS = 10.0
TAIL_BYTES = 6_000


class ManagedProcess:
    """One process with its children: started by us, signalled by its id and by nothing else."""

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, cwd: Path
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = list(command)
        self._environment = dict(environment)
        self._cwd = cwd
        self._child: subprocess.Popen[bytes] | None = None
        # A killed parent leaves its children to init: they are remembered, to be ended with it.
        self._family: list[psutil.Process] = []

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with (minus the signal's number), or None while it runs."""
        return self._child.poll() if self._child else None

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it; call from the main thread, whose death ends it."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=signal_when_parent_dies(signal.SIGTERM),  # noqa: PLW1509 - one system call
            )
        self._family = []

    def children(self) -> list[psutil.Process]:
        """Return the living descendants, the oldest first."""
        if self._child is None:
            return []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.pid).children(recursive=True):
                if process not in self._family:
                    self._family.append(process)
        return [process for process in self._family if _is_alive(process)]

    def kill(self) -> None:
        """SIGKILL the process alone, and wait until it has gone."""
        self.children()
        if self._child is not None:
            self._child.kill()
            self._child.wait(KILL_SECONDS)

    def kill_tree(self) -> None:
        """SIGKILL it and all its descendants, as a machine that loses power does."""
        family = self.children()
        for process in family:  # None may act on the death of another.
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        self.kill()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=KILL_SECONDS)

    def freeze(self) -> None:
        """SIGSTOP it and its descendants: they live, hold their connections, and do nothing."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT what `freeze` stopped."""
        self._signal_all(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM the process, as an operator does; see `is_running` and `exit_code`."""
        if self._child is not None and self.is_running():
            self._child.terminate()

    def stop(self, *, seconds: float) -> None:
        """Ask it to end, and kill what is left of it after `seconds`."""
        family = self.children()
        self.terminate()
        if self._child is not None:
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait(KILL_SECONDS)
        for process in [*family, *self.children()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far by it and its living descendants, user and system."""
        return cpu_seconds_of([self.pid])

    def tail(self) -> str:
        """Return the end of its log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL_BYTES))
            return log.read().decode(errors="replace")

    def whole_log(self) -> str:
        """Return all of its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _signal_all(self, number: signal.Signals) -> None:
        for process in [psutil.Process(self.pid), *self.children()]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def cpu_seconds_of(pids: Sequence[int]) -> float:
    """Return the CPU time used so far by these processes and their descendants, ended ones included."""
    total = 0.0
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(pid)
            for process in [parent, *parent.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    total += times.user + times.system + times.children_user + times.children_system
    return total


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
