"""A helper process of the benchmark and the lines of JSON between it and us.

The process ends when its standard input does, so that none is left behind by a benchmark that was killed.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from typing import TYPE_CHECKING, Any, Self

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

END_SECONDS = 5.0
LINE_BYTES = 64 * 1024 * 1024  # A batch of 1,000 events is half a megabyte.


class PeerFailed(RuntimeError):
    """A helper process ended before it answered; its error is on our standard error."""


class Peer:
    """The parent's side: start it, ask it, end it."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: asyncio.subprocess.Process | None = None
        self.hello: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._running().pid

    async def __aenter__(self) -> Self:
        """Start it and read its first line."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES
        )
        self.hello = await self._answer()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it: its input ends."""
        process = self._running()
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def ask(self, do: str, **command: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        stdin = self._running().stdin
        assert stdin is not None
        stdin.write(orjson.dumps({"do": do, **command}) + b"\n")
        await stdin.drain()
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        stdout = self._running().stdout
        assert stdout is not None
        line = await stdout.readline()
        if not line:
            raise PeerFailed(f"{' '.join(self._command[1:3])} ended before it answered; see its error above.")
        answer: dict[str, Any] = orjson.loads(line)
        return answer

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the process was not started")
        return self._process


async def serve_commands(
    obey: Callable[[dict[str, Any]], Any], *, hello: Sequence[Any] | dict[str, Any]
) -> None:
    """The process's side: say hello, then answer each command with what `obey` (sync or async) returns."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _write(hello)
    while line := await reader.readline():
        answer = obey(orjson.loads(line))
        _write(await answer if inspect.isawaitable(answer) else answer)


def _write(answer: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()
