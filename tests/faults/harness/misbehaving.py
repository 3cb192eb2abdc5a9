"""Answers that no HTTP server would give, as a script of steps: raw bytes, drips, floods, cuts.

A test writes the script, byte for byte; the receiver plays it on the connection that the request came on. Without a
last step that ends the connection, the request counts as answered once the script has been played.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from base64 import b64decode, b64encode
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Kind = Literal["send", "drip", "stay", "close", "half_close", "reset"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the receiver does; make it with the functions below."""

    do: Kind
    data: bytes = b""
    every_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return what goes over the control port."""
        return {
            "do": self.do,
            "data": b64encode(self.data).decode(),
            "every_seconds": self.every_seconds,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Step:
        """Read it from a control command."""
        return cls(**{**value, "data": b64decode(value["data"])})


def send(data: bytes) -> Step:
    """Send these bytes."""
    return Step("send", data)


def drip(data: bytes, *, every_seconds: float) -> Step:
    """Send these bytes again and again for as long as the sender stays, with a pause after each time."""
    return Step("drip", data, every_seconds)


def flood(data: bytes) -> Step:
    """Send these bytes again and again, as fast as they are taken."""
    return Step("drip", data)


def stay() -> Step:
    """Do nothing more until the sender goes."""
    return Step("stay")


def close() -> Step:
    """Close the connection properly."""
    return Step("close")


def half_close() -> Step:
    """Say that nothing more will come, and go on reading until the sender goes."""
    return Step("half_close")


def reset() -> Step:
    """Cut the connection with RST."""
    return Step("reset")


class Player:
    """Plays scripts on one connection; its owner tells it when the transport is full and when it has room."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._has_room = asyncio.Event()
        self._has_room.set()

    def pause(self) -> None:
        """Write nothing more for now: the sender does not take it."""
        self._has_room.clear()

    def resume(self) -> None:
        """Write again."""
        self._has_room.set()

    async def play(self, script: Sequence[Step]) -> None:
        """Play a script to its end; some have none, and are cancelled when the sender has gone."""
        for step in script:
            await self._play(step)

    async def _play(self, step: Step) -> None:
        if step.do == "send":
            await self._write([step.data], every_seconds=0.0)
        elif step.do == "drip":
            await self._write(repeat(step.data), every_seconds=step.every_seconds)
        elif step.do == "close":
            self._transport.close()
        elif step.do == "reset":
            # With a linger of zero seconds the system sends RST and forgets what is unsent.
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        elif step.do == "half_close":
            self._transport.write_eof()
        if step.do not in {"send", "drip"}:
            # The connection's end comes as an event, and cancels this.
            await asyncio.Event().wait()

    async def _write(self, pieces: Iterable[bytes], *, every_seconds: float) -> None:
        for piece in pieces:
            await self._has_room.wait()
            self._transport.write(piece)
            # Also without a pause the other connections have their turn.
            await asyncio.sleep(every_seconds)
