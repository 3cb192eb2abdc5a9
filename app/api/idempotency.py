"""`Idempotency-Key`: the first answer again, instead of a second effect.

The key is inserted in the request's own transaction, together with what the request does, and its answer is
written before the commit: either all of it is kept or nothing. Answers are sealed, for they may hold a secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.core.errors import Conflict, Invalid
from app.models.access import IDEMPOTENT_ANSWER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from starlette.requests import Request

    from app.core.crypto import Keyring

KEPT_HOURS = 24
WAIT_SECONDS = 2
RETRY_AFTER_SECONDS = 1
HEADER = "idempotency-key"
REPLAYED_HEADER = "Idempotent-Replayed"

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_LOCK_NOT_AVAILABLE = "55P03"

# A row that is older than a day is as good as none. The insert waits for a transaction that holds the key.
_CLAIM = text("""
INSERT INTO idempotency_keys AS kept (workspace_id, key, fingerprint)
VALUES (:workspace_id, :key, :fingerprint)
ON CONFLICT (workspace_id, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, status = NULL, sealed_body = NULL, created_at = now()
 WHERE kept.created_at < now() - make_interval(hours => :kept_hours)
RETURNING 1
""")
_FIND = text("""
SELECT fingerprint, status, sealed_body FROM idempotency_keys
 WHERE workspace_id = :workspace_id AND key = :key
""")
_KEEP = text("""
UPDATE idempotency_keys SET status = :status, sealed_body = :sealed_body
 WHERE workspace_id = :workspace_id AND key = :key
""")


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What the first request was answered."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """One request with its Idempotency-Key: unique in the workspace for a day."""

    workspace_id: UUID
    key: str
    fingerprint: bytes

    @property
    def row(self) -> UUID:
        """The identity to which the sealed answer is bound."""
        return IDEMPOTENT_ANSWER.row({"workspace_id": self.workspace_id, "key": self.key})


def keyed_request(
    request: Request, *, workspace_id: UUID, application_id: UUID | None, body: bytes
) -> KeyedRequest | None:
    """Return the request's Idempotency-Key with its fingerprint, or None if it has none.

    A key that is bound to one application never gets an answer that was made for the whole workspace, so the
    binding is part of the fingerprint.

    Raises:
        Invalid: the header is not 1 to 255 visible ASCII characters.

    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Invalid.at(
            "/headers/idempotency-key",
            "An Idempotency-Key has 1 to 255 visible ASCII characters; a fresh UUID is a good one.",
        )
    bound = application_id.bytes if application_id else b""
    head = f"{request.method}\n{request.url.path}\n".encode()
    return KeyedRequest(workspace_id, key, hashlib.sha256(head + bound + b"\n" + body).digest())


async def claim(
    session: AsyncSession | AsyncConnection, keyed: KeyedRequest, *, keyring: Keyring
) -> KeptAnswer | None:
    """Take the key for this transaction, and return None; or return the answer that it stands for.

    Raises:
        Conflict: the first request has not finished within two seconds (409 with `Retry-After`).
        Invalid: the key was used for another request.

    """
    names = {"workspace_id": keyed.workspace_id, "key": keyed.key}
    await session.execute(text(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'"))
    try:
        claimed = await session.execute(
            _CLAIM, names | {"fingerprint": keyed.fingerprint, "kept_hours": KEPT_HOURS}
        )
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise _in_progress() from None
        raise
    await session.execute(text("SET LOCAL lock_timeout = 0"))
    if claimed.first() is not None:
        return None
    kept = (await session.execute(_FIND, names)).one()
    if kept.fingerprint != keyed.fingerprint:
        raise Invalid(
            "This Idempotency-Key was used within 24 hours for a request with another path or body. "
            "Make a fresh one for each new operation.",
            slug="idempotency-key-reused",
        )
    body = (
        keyring.open(kept.sealed_body, row=keyed.row, column=IDEMPOTENT_ANSWER.column)
        if kept.sealed_body
        else b""
    )
    return KeptAnswer(status=kept.status, body=body)


async def keep(
    session: AsyncSession | AsyncConnection,
    keyed: KeyedRequest,
    *,
    keyring: Keyring,
    status: int,
    body: bytes,
) -> None:
    """Write the answer beside the key; the caller commits."""
    sealed = keyring.seal(body, row=keyed.row, column=IDEMPOTENT_ANSWER.column) if body else None
    await session.execute(
        _KEEP,
        {
            "workspace_id": keyed.workspace_id,
            "key": keyed.key,
            "status": status,
            "sealed_body": sealed,
        },
    )


class KeysInFlight:
    """Lets repeats of a request that this process is working on wait without a database connection."""

    def __init__(self) -> None:
        self._busy: dict[tuple[UUID, str], asyncio.Event] = {}

    @asynccontextmanager
    async def one_at_a_time(self, keyed: KeyedRequest) -> AsyncIterator[None]:
        """Hold the key inside this process.

        Raises:
            Conflict: another request has held it for two seconds.

        """
        name = (keyed.workspace_id, keyed.key)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while (other := self._busy.get(name)) is not None:
                    await other.wait()
        except TimeoutError:
            raise _in_progress() from None
        done = self._busy[name] = asyncio.Event()
        try:
            yield
        finally:
            del self._busy[name]
            done.set()


def _in_progress() -> Conflict:
    return Conflict(
        "The first request with this Idempotency-Key is still running. Send the same request again in a moment; "
        "its answer will be the first one's.",
        slug="idempotency-in-progress",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
