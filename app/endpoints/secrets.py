"""Signing secrets: made, kept sealed, shown to admins, rotated with a grace, revoked.

The current secret has no end. A retired one signs beside it until its grace ends; its row stays, so that an old
attempt can still be shown to verify.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import func, select, text, update

import bellwire
from app.access import audit
from app.core import ids
from app.core.errors import Conflict, Invalid
from app.endpoints.changes import lock_endpoint, make_visible_to_workers
from app.endpoints.queries import require_endpoint
from app.models import EndpointSecret
from app.operations import notices
from app.operations.notices import Notice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.context import Caller
    from app.core.crypto import Keyring
    from app.models import Endpoint

Signature = Literal["hmac-sha256", "ed25519"]

DEFAULT_GRACE_SECONDS = 86_400
MAX_GRACE_SECONDS = 604_800
# Each adds a token to the header of every request.
MAX_SIGNING = 5
COLUMN = "sealed_secret"

_PREFIXES: dict[Signature, str] = {"hmac-sha256": "whsec_", "ed25519": "whsk_"}

# Keeps rotations from being written over by a second one of the same moment: the endpoint's row is locked.
_RETIRE = text(
    "UPDATE endpoint_secrets SET expires_at = now() + make_interval(secs => :grace)"
    " WHERE endpoint_id = (SELECT id FROM endpoints WHERE workspace_id = :workspace AND id = :endpoint)"
    " AND expires_at IS NULL"
)


@dataclass(frozen=True, slots=True)
class SecretsOfEndpoint:
    """The current secret, and the ends of the graces of those before it that still sign."""

    secret: str
    previous: Sequence[datetime]


def make_secret(signature: Signature) -> str:
    """Return a new secret of the kind that this signature takes."""
    if signature == "ed25519":
        private, _ = bellwire.generate_keypair()
        return private
    return bellwire.generate_secret()


def check_secret(given: str, *, signature: Signature, pointer: str = "/secret") -> str:
    """Return a secret of the caller's own in its usual form.

    Raises:
        Invalid: it is of another kind, not base64, or has a wrong length.

    """
    given = given.strip()
    prefix = _PREFIXES[signature]
    if not given.startswith(prefix):
        raise Invalid.at(
            pointer,
            f"A secret for {signature} begins with {prefix}, followed by base64. Leave it out to have one made.",
        )
    try:
        bellwire.Signer(given)
    except bellwire.InvalidSecretError as error:
        raise Invalid.at(pointer, str(error)) from None
    encoded = given.removeprefix(prefix).rstrip("=")
    return prefix + base64.b64encode(base64.b64decode(encoded + "=" * (-len(encoded) % 4))).decode()


def new_secret_row(
    secret: str, *, endpoint_id: UUID, clock: DatabaseClock, keyring: Keyring
) -> EndpointSecret:
    """Return the row of a current secret, not yet added to a session."""
    row_id = ids.uuid7(clock.unix_ms())
    return EndpointSecret(
        id=row_id,
        endpoint_id=endpoint_id,
        sealed_secret=keyring.seal(secret.encode(), row=row_id, column=COLUMN),
    )


def public_key_of(row: EndpointSecret, *, keyring: Keyring) -> str | None:
    """Return the `whpk_` of an ed25519 secret, or None for an HMAC one."""
    secret = _open(row, keyring=keyring)
    return bellwire.public_key(secret) if secret.startswith(_PREFIXES["ed25519"]) else None


async def reveal_secret(
    session: AsyncSession, caller: Caller, reference: str, *, keyring: Keyring
) -> SecretsOfEndpoint:
    """Return an endpoint's secret; who asked is on record.

    Raises:
        NotFound: there is no such endpoint.
        CannotDecrypt: the secret was sealed with a key that is not in the ring.

    """
    endpoint = await require_endpoint(session, caller, reference)
    current = (
        await session.scalars(
            select(EndpointSecret).where(
                EndpointSecret.endpoint_id == endpoint.id, EndpointSecret.expires_at.is_(None)
            )
        )
    ).one()
    previous = await _ends_of_previous(session, endpoint.id)
    await _record(session, caller, endpoint, action="endpoint.secret_revealed")
    return SecretsOfEndpoint(secret=_open(current, keyring=keyring), previous=previous)


async def rotate_secret(
    session: AsyncSession,
    caller: Caller,
    reference: str,
    *,
    clock: DatabaseClock,
    keyring: Keyring,
    grace_seconds: int,
    secret: str | None,
) -> str:
    """Replace the secret and return the new one; until the grace ends requests carry both signatures.

    Raises:
        Conflict: so many earlier secrets still sign that the header would grow too long.
        Invalid: the given secret cannot be used with the endpoint's signature.
        NotFound: there is no such endpoint.

    """
    endpoint = await lock_endpoint(session, caller, reference)
    signature: Signature = "ed25519" if endpoint.signature == "ed25519" else "hmac-sha256"
    fresh = make_secret(signature) if secret is None else check_secret(secret, signature=signature)
    await replace_secret(
        session, endpoint, secret=fresh, grace_seconds=grace_seconds, clock=clock, keyring=keyring
    )
    await make_visible_to_workers(session, endpoint)
    await _record(session, caller, endpoint, action="secret.rotated", after={"grace_seconds": grace_seconds})
    await tell_of_rotation(session, caller, endpoint, grace_seconds=grace_seconds)
    return fresh


async def replace_secret(
    session: AsyncSession,
    endpoint: Endpoint,
    *,
    secret: str,
    grace_seconds: int,
    clock: DatabaseClock,
    keyring: Keyring,
) -> None:
    """Retire the current secret and put another in its place; the endpoint is locked by the caller."""
    if grace_seconds and len(await _ends_of_previous(session, endpoint.id)) >= MAX_SIGNING - 1:
        raise Conflict(
            f"{MAX_SIGNING} secrets of this endpoint sign already. Wait until a grace ends, or end all of them: "
            f"POST /v1/endpoints/{ids.to_text(ids.ENDPOINT, endpoint.id)}/secret/revoke-previous."
        )
    await session.execute(
        _RETIRE,
        {"grace": grace_seconds, "workspace": endpoint.workspace_id, "endpoint": endpoint.id},
    )
    session.add(new_secret_row(secret, endpoint_id=endpoint.id, clock=clock, keyring=keyring))
    await session.flush()


async def tell_of_rotation(
    session: AsyncSession, caller: Caller, endpoint: Endpoint, *, grace_seconds: int
) -> None:
    """Let the workspace's operators know that the secret is another one, and who did it."""
    actor = {"kind": caller.actor_kind, "id": caller.actor_id}
    data = {"grace_seconds": grace_seconds, "actor": actor}
    await notices.note(session, [Notice(endpoint.id, notices.SECRET_ROTATED, data)])


async def revoke_previous(session: AsyncSession, caller: Caller, reference: str) -> None:
    """End the grace of all earlier secrets now: from the next request on only the current one signs.

    Safe to repeat. A request that is under way keeps its signatures.
    """
    endpoint = await lock_endpoint(session, caller, reference)
    ended = await session.execute(
        update(EndpointSecret)
        .where(EndpointSecret.endpoint_id == endpoint.id, EndpointSecret.expires_at > func.now())
        .values(expires_at=func.now())
        .returning(EndpointSecret.id)
        .execution_options(synchronize_session=False)
    )
    revoked = len(ended.all())
    await make_visible_to_workers(session, endpoint)
    await _record(session, caller, endpoint, action="secret.previous_revoked", after={"revoked": revoked})


async def _ends_of_previous(session: AsyncSession, endpoint_id: UUID) -> Sequence[datetime]:
    found = await session.scalars(
        select(EndpointSecret.expires_at)
        .where(EndpointSecret.endpoint_id == endpoint_id, EndpointSecret.expires_at > func.now())
        .order_by(EndpointSecret.expires_at.desc())
    )
    return [end for end in found if end is not None]


def _open(row: EndpointSecret, *, keyring: Keyring) -> str:
    return keyring.open(row.sealed_secret, row=row.id, column=COLUMN).decode()


async def _record(
    session: AsyncSession,
    caller: Caller,
    endpoint: Endpoint,
    *,
    action: str,
    after: dict[str, int] | None = None,
) -> None:
    await audit.record(
        session,
        caller,
        action=action,
        object_kind="endpoint",
        object_id=ids.to_text(ids.ENDPOINT, endpoint.id),
        after=dict(after) if after else None,
    )
