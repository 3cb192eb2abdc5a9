"""What the supervisor writes on the terminal: its own sentences, and the children's lines with their names."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import asyncio

LINE_BYTES = 64 * 1024  # A longer line is broken: a child cannot make the supervisor grow.

_NAME_WIDTH = 8
_COLOURS = {"bellwire": "1", "api": "36", "worker": "32", "beat": "35", "demo": "33", "migrate": "34"}
_OTHER_COLOUR = "90"


class Output:
    """Writes whole lines, each with the coloured name of the one who says it."""

    def __init__(self, stream: TextIO | None = None, *, colour: bool | None = None) -> None:
        """Colour is used on a terminal, unless NO_COLOR is set; `colour` overrides that."""
        self._stream = stream or sys.stdout
        self._colour = (
            colour if colour is not None else self._stream.isatty() and not os.environ.get("NO_COLOR")
        )
        self.closed = False

    def say(self, text: str) -> None:
        """Write the supervisor's own words."""
        self.write("bellwire", text)

    def write(self, name: str, text: str) -> None:
        """Write `text`, line by line, as said by `name`."""
        label = f"{name:<{_NAME_WIDTH}}"
        if self._colour:
            label = f"\x1b[{_COLOURS.get(name, _OTHER_COLOUR)}m{label}\x1b[0m"
        self.block("\n".join(f"{label} │ {line}" for line in text.splitlines() or [""]))

    def block(self, text: str) -> None:
        """Write `text` as it is."""
        if self.closed:
            return
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal has gone, or the reader of the pipe: nobody listens, and all must still be stopped.
            self.closed = True
            with contextlib.suppress(OSError, ValueError):
                # What is left in the buffer would raise again while Python exits.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    async def copy(self, reader: asyncio.StreamReader, *, name: str) -> None:
        """Write everything that comes from `reader`, line by line, until it ends."""
        rest = b""
        while chunk := await reader.read(LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE_BYTES:
                lines, rest = [*lines, rest], b""
            if lines:
                self.write(name, b"\n".join(lines).decode("utf-8", errors="replace"))
        if rest:
            self.write(name, rest.decode("utf-8", errors="replace"))
