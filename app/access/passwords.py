"""Password hashes: argon2id, off the event loop, and as slow for an account that is not there as for one that is."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION

from app.access.password_rules import MAX_CHARS, normalise_password
from app.core.errors import TooBusy

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    ResultT = TypeVar("ResultT")

# One hash takes 64 MiB and some tens of milliseconds of a processor (RFC 9106, the profile for small memory).
AT_ONCE = 2
# Above it sign-ins are turned away, so that a flood of them costs neither memory nor the API its processor.
MAX_WAITING = 32


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is the right one, and whether its hash was made with other parameters than today's."""

    right: bool
    outdated: bool = False


class Passwords:
    """Makes and checks hashes in threads of its own (argon2 lets go of the interpreter's lock)."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords")
        self._under_way = 0
        # Whoever has no password gets this one checked, in the same time; no text has it.
        self._nobody = _hash_of_nothing(self._hasher)

    async def make_hash(self, password: str) -> str:
        """Return the hash to store.

        Raises:
            TooBusy: too many are being made and checked already.

        """
        return await self._run(lambda: self._hasher.hash(normalise_password(password)))

    async def check(self, password: str, stored: str | None) -> Verdict:
        """Compare a password with a stored hash; without one it takes as long, and is wrong.

        Raises:
            TooBusy: too many are being made and checked already.

        """
        given = normalise_password(password[: MAX_CHARS + 1])
        return await self._run(lambda: self._check(given, stored))

    def close(self) -> None:
        """End the threads; what they are at is finished."""
        self._threads.shutdown(wait=False)

    def _check(self, given: str, stored: str | None) -> Verdict:
        try:
            self._hasher.verify(stored or self._nobody, given)
        except (VerificationError, InvalidHashError):
            return Verdict(right=False)
        if stored is None:
            return Verdict(right=False)
        return Verdict(right=True, outdated=self._hasher.check_needs_rehash(stored))

    async def _run(self, work: Callable[[], ResultT]) -> ResultT:
        if self._under_way >= AT_ONCE + MAX_WAITING:
            raise TooBusy("Too many people are signing in at this moment. Wait a few seconds and try again.")
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._under_way -= 1


def _hash_of_nothing(hasher: PasswordHasher) -> str:
    """Return a hash of today's parameters that was not made from any text: it costs nothing to make, only to check."""
    salt, digest = (
        b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${costs}${salt}${digest}"
