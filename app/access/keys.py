"""What can be done with API keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func

from app.access import audit, queries
from app.applications.service import require_application
from app.core import ids
from app.core.clock import rfc3339
from app.core.crypto import NewApiKey, new_api_key
from app.core.errors import Invalid, NotFound
from app.models import ApiKey, Role

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.context import Caller

MAX_OVERLAP_SECONDS = 604_800

_KIND = "api_key"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key that was just made: its row, and the text that is shown once."""

    row: ApiKey
    text: str


async def create_key(
    session: AsyncSession,
    caller: Caller,
    *,
    clock: DatabaseClock,
    name: str,
    role: Role,
    application: str | None = None,
    expires_at: datetime | None = None,
) -> IssuedKey:
    """Make a key. A caller whose own key is bound to an application makes keys bound to that one only.

    Raises:
        Invalid: `expires_at` has passed.
        NotFound: there is no such application.

    """
    if expires_at is not None and expires_at <= clock.now():
        raise Invalid.at("/expires_at", "This time has passed; the key would be of no use.")
    application_id = caller.application_id
    if application is not None:
        application_id = (await require_application(session, caller, application)).id
    issued = add_key(
        session,
        clock,
        workspace_id=caller.workspace_id,
        name=name,
        role=role,
        application_id=application_id,
        expires_at=expires_at,
    )
    await session.flush()
    await session.refresh(issued.row)
    await audit.record(
        session,
        caller,
        action="api_key.created",
        object_kind=_KIND,
        object_id=_name(issued.row),
        after=_shown(issued.row),
    )
    return issued


async def revoke_key(session: AsyncSession, caller: Caller, key_id: str) -> None:
    """Make a key invalid from the commit on.

    Raises:
        NotFound: there is no such key, or it is revoked already.

    """
    row = await _require(session, caller, key_id)
    row.revoked_at = func.now()
    await session.flush()
    await audit.record(
        session,
        caller,
        action="api_key.revoked",
        object_kind=_KIND,
        object_id=_name(row),
        before=_shown(row),
    )


async def roll_key(
    session: AsyncSession, caller: Caller, key_id: str, *, clock: DatabaseClock, overlap_seconds: int
) -> tuple[IssuedKey, ApiKey]:
    """Make a key like this one, and let this one expire after the overlap; return the new one and the old one.

    Raises:
        Invalid: the key has expired, so there is nothing to take over from.
        NotFound: there is no such key.

    """
    old = await _require(session, caller, key_id)
    now = clock.now()
    if old.expires_at is not None and old.expires_at <= now:
        raise Invalid("This key has expired, so it cannot be rolled. Make a new one with POST /v1/api-keys.")
    issued = add_key(
        session,
        clock,
        workspace_id=old.workspace_id,
        name=old.name,
        role=Role(old.role),
        application_id=old.application_id,
        expires_at=old.expires_at,
    )
    before: dict[str, object] = {"expires_at": _shown_time(old.expires_at)}
    end = now + timedelta(seconds=overlap_seconds)
    if old.expires_at is None or end < old.expires_at:
        old.expires_at = end
    await session.flush()
    await session.refresh(issued.row)
    await audit.record(
        session,
        caller,
        action="api_key.rolled",
        object_kind=_KIND,
        object_id=_name(old),
        before=before,
        after={
            "expires_at": _shown_time(old.expires_at),
            "new_key": _name(issued.row),
            "overlap_seconds": overlap_seconds,
        },
    )
    return issued, old


def add_key(
    session: AsyncSession,
    clock: DatabaseClock,
    *,
    workspace_id: UUID,
    name: str,
    role: Role,
    application_id: UUID | None = None,
    expires_at: datetime | None = None,
    key: NewApiKey | None = None,
) -> IssuedKey:
    """Add a key's row to the session: of a fresh key, or of a given one."""
    key = key or new_api_key()
    row = ApiKey(
        id=ids.uuid7(clock.unix_ms()),
        workspace_id=workspace_id,
        application_id=application_id,
        name=name,
        role=role.value,
        key_id=key.key_id,
        digest=key.digest,
        expires_at=expires_at,
    )
    session.add(row)
    return IssuedKey(row=row, text=key.text)


def _name(row: ApiKey) -> str:
    return ids.to_text(ids.API_KEY, row.id)


async def _require(session: AsyncSession, caller: Caller, key_id: str) -> ApiKey:
    parsed = ids.from_text(ids.API_KEY, key_id)
    row = await queries.lock_key(session, caller, parsed) if parsed else None
    if row is None:
        if key_id.startswith("bw_"):
            raise NotFound(
                "This is the key itself, and what is needed is its id, which begins with key_. GET /v1/api-keys lists "
                "the ids. Whoever saw this address has seen the key."
            )
        raise NotFound(
            f"There is no API key {key_id!r} here, or it was revoked. GET /v1/api-keys lists those there are."
        )
    return row


def _shown(row: ApiKey) -> dict[str, object]:
    bound = row.application_id
    return {
        "name": row.name,
        "role": row.role,
        "application": ids.to_text(ids.APPLICATION, bound) if bound else None,
        "expires_at": _shown_time(row.expires_at),
    }


def _shown_time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment is not None else None
