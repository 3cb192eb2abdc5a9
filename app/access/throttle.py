"""Counts failed sign-ins in Postgres, for all processes together; see `sign_in_rules` for how many are allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.access.sign_in_rules import (
    ACCOUNT,
    ADDRESS,
    PAIR,
    Allowance,
    Bucket,
    bucket_key,
    left_now,
    network_of,
    seconds_to_wait,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

# The locks are taken in the order of the keys, so that two sign-ins never wait for each other.
_MAKE = text("""
INSERT INTO sign_in_buckets (key, tokens) SELECT unnest(CAST(:keys AS bytea[])), -1
ON CONFLICT (key) DO NOTHING
""")
_LOCK = text("""
SELECT key, tokens, updated_at, clock_timestamp() AS now FROM sign_in_buckets
 WHERE key = ANY(CAST(:keys AS bytea[])) ORDER BY key FOR UPDATE
""")
_KEEP = text("UPDATE sign_in_buckets SET tokens = :tokens, updated_at = :now WHERE key = :key")
_GIVE_BACK = text("UPDATE sign_in_buckets SET tokens = tokens + 1 WHERE key = :key")
_EMPTY = text("DELETE FROM sign_in_buckets WHERE key = :key")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to sign in: to which account, from where; `device` if its person has signed in on it before."""

    email: str
    address: str | None
    device: str | None = None

    def buckets(self) -> dict[bytes, Allowance]:
        """Return the buckets that it draws from, by their keys, in the order in which they are locked."""
        if self.device is not None:
            return {bucket_key(PAIR, "device", self.device): PAIR}
        place = network_of(self.address)
        found = {
            bucket_key(PAIR, self.email, place): PAIR,
            bucket_key(ADDRESS, place): ADDRESS,
            bucket_key(ACCOUNT, self.email): ACCOUNT,
        }
        return dict(sorted(found.items()))


async def take(session: AsyncSession, attempt: Attempt) -> int:
    """Take a token from each bucket before the password is looked at; return 0, or the seconds to wait.

    Taken first and given back after, so that a hundred attempts at the same time are a hundred. Commit at once.
    """
    buckets = attempt.buckets()
    keys = list(buckets)
    await session.execute(_MAKE, {"keys": keys})
    rows = (await session.execute(_LOCK, {"keys": keys})).all()
    left = {}
    wait = 0
    for row in rows:
        key, allowance = bytes(row.key), buckets[bytes(row.key)]
        # A row that was made just now holds no count yet.
        bucket = Bucket(row.tokens, row.updated_at) if row.tokens >= 0 else None
        left[key] = left_now(bucket, allowance, now=row.now)
        wait = max(wait, seconds_to_wait(left[key], allowance))
    for row in rows:
        key = bytes(row.key)
        tokens = left[key] if wait else left[key] - 1
        await session.execute(_KEEP, {"key": key, "tokens": tokens, "now": row.now})
    return wait


async def succeed(session: AsyncSession, attempt: Attempt) -> None:
    """After the right password: forget the mistakes of this person in this place, and give the others back."""
    for key, allowance in attempt.buckets().items():
        await session.execute(_EMPTY if allowance is PAIR else _GIVE_BACK, {"key": key})
