"""What can go wrong while an embedded service or the supervisor starts: part of `app.core.errors`' tree."""

from __future__ import annotations

from app.core.errors import StartupError


class EmbeddedError(StartupError):
    """Something that `bellwire dev` starts by itself could not be started.

    The message is written for a person: what happened, why, and what to do next.
    """


class AlreadyRunning(EmbeddedError):
    """Another supervisor holds this data folder."""


class PortTaken(EmbeddedError):
    """A port that Bellwire was told to listen on belongs to another program."""
