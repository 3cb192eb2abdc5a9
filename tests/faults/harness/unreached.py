"""A listener that should never be reached, and the list of what a worker connected its sockets to."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Unreached:
    """Counts the connections that it gets, and answers them as a receiver would."""

    def __init__(self) -> None:
        self.connections = 0

    async def take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count one."""
        self.connections += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret")
        writer.close()


@asynccontextmanager
async def unreached(*places: tuple[str, int]) -> AsyncIterator[Unreached]:
    """Listen on these hosts and ports for as long as the context lasts."""
    listener = Unreached()
    servers = [await asyncio.start_server(listener.take, host, port) for host, port in places]
    try:
        yield listener
    finally:
        for server in servers:
            server.close()


class Connected:
    """What a worker connected to, by its own word; see `own_names/sitecustomize.py`."""

    def __init__(self, file: Path, *, besides: set[int]) -> None:
        """`besides` are ports that it connects to for reasons of its own: the broker's."""
        file.touch()
        self._file = file
        self._besides = besides
        self.settings = {"BELLWIRE_TEST_CONNECTIONS": str(file)}

    def places(self) -> set[tuple[str, int]]:
        """Return hosts and ports."""
        lines = (line.rsplit(" ", 1) for line in self._file.read_text().splitlines())
        return {(host, int(port)) for host, port in lines if int(port) not in self._besides}
