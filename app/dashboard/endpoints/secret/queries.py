"""The keys that sign an endpoint's requests, and how its newest requests were signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from sqlalchemy import func, or_, select, text

from app.models import EndpointSecret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

NEWEST_ATTEMPTS = 100
_SIGNATURE_HEADER = "webhook-signature"

_HEADERS = text("""
SELECT request_headers FROM attempts
 WHERE workspace_id = :workspace AND endpoint_id = :endpoint AND request_headers IS NOT NULL AND NOT test
 ORDER BY id DESC LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class Signed:
    """Of the newest requests: how many there are, and how many carried the signatures of two keys or more."""

    requests: int
    by_several: int


async def read_keys(session: AsyncSession, endpoint_id: UUID) -> Sequence[EndpointSecret]:
    """Return the keys that sign now: the current one first, then those whose grace lasts. The session is confined."""
    query = (
        select(EndpointSecret)
        .where(
            EndpointSecret.endpoint_id == endpoint_id,
            or_(EndpointSecret.expires_at.is_(None), EndpointSecret.expires_at > func.now()),
        )
        .order_by(EndpointSecret.expires_at.desc().nulls_first())
    )
    return (await session.scalars(query)).all()


async def read_signed(session: AsyncSession, caller: Caller, endpoint_id: UUID) -> Signed:
    """Return how the newest requests were signed."""
    rows = await session.scalars(
        _HEADERS,
        {"workspace": caller.workspace_id, "endpoint": endpoint_id, "most": NEWEST_ATTEMPTS},
    )
    counts = [_tokens(headers) for headers in rows]
    return Signed(requests=len(counts), by_several=sum(count > 1 for count in counts))


def _tokens(headers: bytes) -> int:
    """Return how many signatures a request carried."""
    return sum(
        len(value.split()) for name, value in orjson.loads(headers) if name.lower() == _SIGNATURE_HEADER
    )
