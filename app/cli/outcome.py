"""How a command ends: exit codes, and the errors that carry them."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

from app.core.errors import (
    BellwireError,
    DatabaseUnavailable,
    Forbidden,
    NotFound,
    StartupError,
    Unauthenticated,
)


class ExitCode(IntEnum):
    """What `$?` says after a command; `meaning` is printed in the reference."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Self:
        """Keep the meaning beside the number."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    OK = 0, "Done."
    FAILED = 1, "What was asked for failed: a check, a signature, an event that was not accepted."
    USAGE = 2, "The command line is wrong: an unknown option, a value that cannot be read."
    UNAVAILABLE = 3, "Cannot reach or start something: the database, the API, the broker, a port in use."
    REFUSED = 4, "Refused: no key, a key that is wrong or lacks the right, or no such object."


class CommandError(BellwireError):
    """A command cannot do what it was asked. The message says what, why, and what to do next."""

    exit_code = ExitCode.FAILED


class Unusable(CommandError):
    """A value on the command line cannot be used."""

    exit_code = ExitCode.USAGE


class Unavailable(CommandError):
    """Something that the command needs cannot be reached or started."""

    exit_code = ExitCode.UNAVAILABLE


class Refused(CommandError):
    """The caller may not do this, or the object does not exist for them."""

    exit_code = ExitCode.REFUSED


def exit_code_of(error: BellwireError) -> ExitCode:
    """Return the exit code of an expected error."""
    if isinstance(error, CommandError):
        return error.exit_code
    if isinstance(error, StartupError | DatabaseUnavailable):
        return ExitCode.UNAVAILABLE
    if isinstance(error, NotFound | Forbidden | Unauthenticated):
        return ExitCode.REFUSED
    return ExitCode.FAILED
