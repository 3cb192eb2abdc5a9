"""A name server for workers under test: it knows names that are well, and never answers for those that are dead.

`*.well.test` leads to 127.0.0.1; a question for any other name is taken and not answered, as by a server behind a
firewall that drops. The workers ask it through the real getaddrinfo and a resolv.conf of their own in a mount
namespace: that is what blocks in production, with the C library's own patience. It takes root (port 53, mount), which
a machine that runs tests may not give; there a stand-in for getaddrinfo, in the workers alone, answers and waits
likewise. The product's code is the same on both ways: it calls `socket.getaddrinfo` on its threads.
"""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADDRESS = "127.53.53.53"
PORT = 53
FOLDER = Path(__file__).with_name("own_names")
WELL = b"\x04well\x04test\x00"
TYPE_A = 1
HEADER_BYTES = 12
# An answer, authoritative, with recursion available.
FLAGS = 0x8580


class NameServer(asyncio.DatagramProtocol):
    """Answers for what is well, and counts all that it is asked."""

    transport: asyncio.DatagramTransport

    def __init__(self) -> None:
        self.unanswered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Python 3.11's own datagram transport is none by its type.
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take one question; glibc asks one in each datagram."""
        name_end = data.index(b"\0", HEADER_BYTES) + 1
        question = data[HEADER_BYTES : name_end + 4]
        if not data[HEADER_BYTES:name_end].lower().endswith(WELL):
            self.unanswered += 1
            return
        (kind,) = struct.unpack("!H", data[name_end : name_end + 2])
        # There is an IPv4 address and nothing else; 0xC00C is the name of the question.
        answer = struct.pack("!HHHIH4B", 0xC00C, TYPE_A, 1, 1, 4, 127, 0, 0, 1) if kind == TYPE_A else b""
        header = struct.pack("!2sHHHHH", data[:2], FLAGS, 1, 1 if answer else 0, 0, 0)
        self.transport.sendto(header + question + answer, addr)


class Names:
    """The settings that make a worker ask the test's name server, and how that came about."""

    def __init__(self, folder: Path, *, server: NameServer | None) -> None:
        self.server = server
        how = "namespace" if server is not None else "stand-in"
        self.settings = {"PYTHONPATH": str(FOLDER), "BELLWIRE_TEST_NAMES": f"{how}:{folder}"}


@asynccontextmanager
async def own_names(folder: Path) -> AsyncIterator[Names]:
    """Run the name server for as long as the context lasts, where this machine allows it."""
    (folder / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    transport = None
    server = NameServer()
    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: server, local_addr=(ADDRESS, PORT)
        )
        names = Names(folder, server=server)
        if not await asyncio.to_thread(_answers, names):
            names = Names(folder, server=None)
    except OSError:
        names = Names(folder, server=None)
    try:
        yield names
    finally:
        if transport is not None:
            transport.close()


def _answers(names: Names) -> bool:
    """Return whether a process with these settings gets its names from the server."""
    code = "import socket; print(socket.gethostbyname('probe.well.test'))"
    environment = {**os.environ, **names.settings}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    return found.returncode == 0 and found.stdout.strip() == "127.0.0.1"
