"""Process identity and ending: no signal is ever sent to a process that is not known to be ours.

A process id alone proves nothing: it may be a zombie that nobody reaped, or it may belong to another program
by now. So every function here looks at what the process is before it believes in it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable
    from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def running_process(pid: int) -> psutil.Process | None:
    """Return the process with this id, or None if there is none or only its zombie is left."""
    with suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def command_line(process: psutil.Process) -> list[str]:
    """Return its arguments, or an empty list if it has gone or may not be looked at."""
    with suppress(psutil.Error):
        return [str(argument) for argument in process.cmdline()]
    return []


def processes_with_environment(name: str, value: str) -> list[psutil.Process]:
    """Return every running process, this one excepted, that was started with `name=value`.

    Zombies have no environment, and that of other users' processes may not be read: both are passed by.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process)
    return found


def processes_in_folder(folder: Path, *, name: str) -> list[psutil.Process]:
    """Return every running process of the program `name` whose working directory is `folder`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.name() == name and process.cwd() == str(folder):
                found.append(process)
    return found


def wait_for_end(process: psutil.Process | subprocess.Popen[bytes], *, seconds: float) -> bool:
    """Wait until `process` has ended, at most `seconds`; tell whether it has. Reaps it if it is a child."""
    try:
        process.wait(timeout=seconds)
    except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
        return isinstance(process, psutil.Process) and running_process(process.pid) is None
    except psutil.NoSuchProcess:
        return True
    return True


def end_processes(processes: Iterable[psutil.Process], *, grace_seconds: float) -> None:
    """Ask all of `processes` to stop (SIGTERM), wait, then kill (SIGKILL) those that did not."""
    asked = list(processes)
    for process in asked:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(asked, timeout=grace_seconds)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=grace_seconds)


def signal_when_parent_dies(number: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn` that makes the kernel send `number` to the child when its parent dies.

    The parent is the *thread* that starts the child, so start children from the main thread. None where the
    system cannot do it (it is Linux's own); there, children of a killed parent are found at the next start.
    """
    if sys.platform != "linux":
        return None
    # Looked up before the fork: after it, only calls that take no lock are safe.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent, signal_number = os.getpid(), int(number)

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:  # It died between the fork and the call above.
            os._exit(1)

    return prepare
