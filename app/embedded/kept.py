"""Things that are chosen once and then kept as small files in the data folder: secrets and ports.

Every file is written whole and then renamed into place with mode 0600, so a process that is killed half-way
leaves either nothing or the complete value.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Below 32768, where Linux begins to hand out ports for outgoing connections (macOS: 49152), so that a kept
# port is seldom found taken at the next start.
_FIRST_PORT, _LAST_PORT = 20_000, 29_999
_PORT_TRIES = 200


def keep_text(path: Path, text: str) -> None:
    """Write `text` to `path`, readable by its owner only, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def kept_secret(path: Path, *, make: Callable[[], str]) -> str:
    """Return the secret kept in `path`; the first time, make it and keep it."""
    with suppress(FileNotFoundError):
        text = path.read_text(encoding="utf-8").strip()
        if text:
            path.chmod(0o600)
            return text
    secret = make()
    keep_text(path, secret)
    return secret


def kept_port(path: Path) -> int:
    """Return the port kept in `path` if it is still free, else choose a free one and keep that."""
    with suppress(FileNotFoundError, ValueError):
        port = int(path.read_text(encoding="utf-8"))
        if port_is_free(port):
            return port
    port = choose_port()
    keep_text(path, str(port))
    return port


def choose_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    for _ in range(_PORT_TRIES):
        port = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT + 1)
        if port_is_free(port):
            return port
    with socket.socket() as probe:  # The range is crowded: take whatever the system offers.
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int, *, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on `port` now."""
    with socket.socket() as probe:
        # As servers do: connections in TIME_WAIT from an earlier run do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
