"""A name server for workers under test: it knows names that are well, and never answers for those that are dead.

`*.well.test` leads to 127.0.0.1, a name that a test leads somewhere leads there; a question for any other name is taken
and not answered, as by a server behind a firewall that drops. The workers ask it through the real getaddrinfo and a resolv.conf of their own in a mount
namespace: that is what blocks in production, with the C library's own patience. It takes root (port 53, mount), which
a machine that runs tests may not give; there a stand-in for getaddrinfo, in the workers alone, answers and waits
likewise. The product's code is the same on both ways: it calls `socket.getaddrinfo` on its threads.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import subprocess
import sys
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADDRESS = "127.53.53.53"
PORT = 53
FOLDER = Path(__file__).with_name("own_names")
WELL = b"\x04well\x04test\x00"
TYPE_A, TYPE_AAAA = 1, 28
ANSWERS = "answers.json"
HEADER_BYTES = 12
# An answer, authoritative, with recursion available.
FLAGS = 0x8580


class NameServer(asyncio.DatagramProtocol):
    """Answers for what is well, and counts all that it is asked."""

    transport: asyncio.DatagramTransport

    def __init__(self) -> None:
        self.unanswered = 0
        self.answers: dict[str, list[str]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Python 3.11's own datagram transport is none by its type.
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take one question; glibc asks one in each datagram."""
        name_end = data.index(b"\0", HEADER_BYTES) + 1
        question = data[HEADER_BYTES : name_end + 4]
        name = data[HEADER_BYTES:name_end].lower()
        addresses = ["127.0.0.1"] if name.endswith(WELL) else self.answers.get(_text_of(name))
        if addresses is None:
            self.unanswered += 1
            return
        (kind,) = struct.unpack("!H", data[name_end : name_end + 2])
        # 0xC00C is the name of the question.
        records = [
            struct.pack("!HHHIH", 0xC00C, kind, 1, 1, len(packed)) + packed
            for packed in (ip_address(address).packed for address in addresses)
            if kind == {4: TYPE_A, 16: TYPE_AAAA}[len(packed)]
        ]
        header = struct.pack("!2sHHHHH", data[:2], FLAGS, 1, len(records), 0, 0)
        self.transport.sendto(header + question + b"".join(records), addr)


def _text_of(name: bytes) -> str:
    labels = []
    while name[0]:
        labels.append(name[1 : name[0] + 1].decode())
        name = name[name[0] + 1 :]
    return ".".join(labels)


class Names:
    """The settings that make a worker ask the test's name server, and how that came about."""

    def __init__(self, folder: Path, *, server: NameServer | None) -> None:
        self.server = server
        how = "namespace" if server is not None else "stand-in"
        self.settings = {"PYTHONPATH": str(FOLDER), "BELLWIRE_TEST_NAMES": f"{how}:{folder}"}
        self._folder = folder
        self._answers: dict[str, list[str]] = {}

    def lead(self, name: str, *addresses: str) -> None:
        """Let a name lead to these addresses from now on."""
        self._answers[name] = list(addresses)
        if self.server is not None:
            self.server.answers = self._answers
        # For the stand-in, which reads it at every look-up.
        (self._folder / ANSWERS).write_text(json.dumps(self._answers))


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
