"""One child process of the supervisor: started in its own group, its output named, stopped within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.embedded.processes import processes_with_environment, signal_when_parent_dies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.embedded.output import Output

# Every process that the supervisor starts, and all that those start, carry the data folder under this name:
# only what carries it is ever signalled.
MARKER = "BELLWIRE_SUPERVISED_FROM"

STOP_SECONDS = 10.0
_LAST_WORDS_SECONDS = 2.0  # A grandchild that has inherited the pipe may hold it open for ever.


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start: a name for its lines, a command, what its environment has beside ours.

    `ready_url` answers 200 when the child is ready for work; without it, running is enough. `stop_seconds` is
    how long it may take to stop before it is killed.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_url: str | None = None
    stop_seconds: float = STOP_SECONDS


class Child:
    """A running child. Made by `start`, on the main thread, so that the child dies with the supervisor."""

    def __init__(
        self,
        spec: ChildSpec,
        *,
        process: asyncio.subprocess.Process,
        copying: asyncio.Task[None],
        folder: str,
    ) -> None:
        self.spec = spec
        self._process = process
        self._copying = copying
        self._folder = folder

    @classmethod
    async def start(cls, spec: ChildSpec, *, folder: str, output: Output) -> Child:
        """Start it. Raises OSError if the command cannot be run."""
        process = await asyncio.create_subprocess_exec(
            *spec.command,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **spec.environment, MARKER: folder},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor only, who stops the child in its turn.
            preexec_fn=signal_when_parent_dies(signal.SIGTERM),
        )
        if process.stdout is None:  # Cannot be, with PIPE; the type says it may.
            raise OSError(f"{spec.name} has no output")
        copying = asyncio.create_task(output.copy(process.stdout, name=spec.name))
        return cls(spec, process=process, copying=copying, folder=folder)

    @property
    def pid(self) -> int:
        """Its process id, and the id of its process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """What it ended with (negative: the signal), or None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until it has ended and its last words are written; return what it ended with."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._copying), _LAST_WORDS_SECONDS)
        return code

    async def stop(self, *, hurry: asyncio.Event) -> bool:
        """Ask it to stop, wait `stop_seconds` or until `hurry`, then kill its whole group.

        Tell whether it stopped by itself. Safe to repeat. When this returns, nothing of the group is left.
        """
        by_itself = True
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # Its leader alone: a worker stops its own processes, in its own order.
                self._process.send_signal(signal.SIGTERM)
            by_itself = await self._ends_in_time(hurry)
        self._kill_group()
        await self.wait()
        self._copying.cancel()
        await asyncio.gather(self._copying, return_exceptions=True)
        return by_itself

    async def _ends_in_time(self, hurry: asyncio.Event) -> bool:
        ended, hurried = asyncio.ensure_future(self._process.wait()), asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait(
                {ended, hurried}, timeout=self.spec.stop_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            return ended.done()
        finally:
            ended.cancel()
            hurried.cancel()

    def _kill_group(self) -> None:
        """Kill what is left of its group: the leader, if it would not stop, and what a dead leader left."""
        for process in processes_with_environment(MARKER, self._folder):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(process.pid) == self.pid:
                    process.kill()
