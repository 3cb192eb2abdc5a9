"""What a worker needs to know of an endpoint to send to it, cached by (endpoint id, settings version)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import orjson
from sqlalchemy import text

from app import __version__
from app.core.clock import EPOCH
from app.endpoints.secrets import make_secret
from bellwire import Signer
from workers.transport import Target, encode_headers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.crypto import Keyring

MAX_CACHED = 10_000
USER_AGENT = f"Bellwire/{__version__}"
CONTENT_TYPES = {"standard": "application/json", "cloudevents": "application/cloudevents+json"}
MASK = "***"
_ED25519 = "whsk_"

LOAD = text(
    "SELECT e.id, e.settings_version, e.url, e.sealed_headers, e.retry_schedule, e.format, e.workspace_id,"
    " a.deleted_at IS NOT NULL OR e.deleted_at IS NOT NULL"
    " FROM endpoints e JOIN applications a ON a.id = e.application_id WHERE e.id = ANY(CAST(:ids AS uuid[]))"
)
SECRETS = text(
    "SELECT endpoint_id, id, sealed_secret, expires_at FROM endpoint_secrets"
    " WHERE endpoint_id = ANY(CAST(:ids AS uuid[])) AND (expires_at IS NULL OR expires_at > now())"
    " ORDER BY expires_at DESC NULLS FIRST"
)


class EndpointSettings(msgspec.Struct, kw_only=True):
    """An endpoint's settings, ready to send with. `problem` says why nothing can be sent to it."""

    id: UUID
    version: int
    url: str
    target: Target | None
    schedule: Sequence[int]
    format: str
    # The header lines that are the same for each request, and as the delivery log shows them.
    header_lines: bytes
    shown_headers: list[tuple[str, str]]
    # (secret, Unix time when its grace ends), the current one first.
    secrets: list[tuple[str, float | None]]
    problem: str | None = None
    _signer: Signer | None = None
    _signer_until: float | None = None

    def signer(self, *, now: float) -> Signer:
        """Return the signer for this moment: the current secret, and those whose grace has not ended."""
        if self._signer is None or (self._signer_until is not None and now >= self._signer_until):
            live = [(secret, until) for secret, until in self.secrets if until is None or until > now]
            self._signer = Signer([secret for secret, _ in live])
            ends = [until for _, until in live if until is not None]
            self._signer_until = min(ends) if ends else None
        return self._signer

    def forger(self) -> Signer:
        """Return a signer whose key is made now and kept by nobody: no receiver that verifies takes what it signs."""
        ed25519 = self.secrets[0][0].startswith(_ED25519)
        return Signer(make_secret("ed25519" if ed25519 else "hmac-sha256"))


class EndpointCache:
    """Settings by endpoint; an entry of an older version is not used."""

    def __init__(self, *, keyring: Keyring, default_schedule: Sequence[int]) -> None:
        self._keyring = keyring
        self._default_schedule = default_schedule
        self._entries: OrderedDict[UUID, EndpointSettings] = OrderedDict()

    async def get_many(
        self, connection: AsyncConnection, wanted: Iterable[tuple[UUID, int]]
    ) -> dict[UUID, EndpointSettings]:
        """Return settings at least as new as the wanted versions, reading those that are missing."""
        found: dict[UUID, EndpointSettings] = {}
        missing: list[UUID] = []
        for endpoint_id, version in wanted:
            entry = self._entries.get(endpoint_id)
            if entry is not None and entry.version >= version:
                self._entries.move_to_end(endpoint_id)
                found[endpoint_id] = entry
            else:
                missing.append(endpoint_id)
        if missing:
            for entry in await self._load(connection, missing):
                self._entries[entry.id] = entry
                found[entry.id] = entry
            while len(self._entries) > MAX_CACHED:
                self._entries.popitem(last=False)
        return found

    async def _load(self, connection: AsyncConnection, endpoint_ids: list[UUID]) -> list[EndpointSettings]:
        rows = (await connection.execute(LOAD, {"ids": endpoint_ids})).all()
        secrets: dict[UUID, list[tuple[str, float | None]]] = {}
        problems: dict[UUID, str] = {}
        for endpoint_id, row_id, sealed, expires_at in await connection.execute(
            SECRETS, {"ids": endpoint_ids}
        ):
            try:
                secret = self._keyring.open(bytes(sealed), row=row_id, column="sealed_secret").decode()
            except Exception as error:  # noqa: BLE001 - one endpoint's broken secret must not stop the others
                problems[endpoint_id] = str(error)
                continue
            secrets.setdefault(endpoint_id, []).append((secret, _unix(expires_at)))
        return [self._entry(row, secrets.get(row[0], []), problems.get(row[0])) for row in rows]

    def _entry(
        self, row: Any, secrets: list[tuple[str, float | None]], problem: str | None
    ) -> EndpointSettings:
        endpoint_id, version, url, sealed_headers, schedule, body_format, _, gone = row
        own: dict[str, str] = {}
        target: Target | None = None
        if gone:
            problem = "The endpoint was deleted."
        else:
            try:
                if sealed_headers is not None:
                    own = orjson.loads(
                        self._keyring.open(bytes(sealed_headers), row=endpoint_id, column="sealed_headers")
                    )
                target = Target.from_url(url)
            except Exception as error:  # noqa: BLE001 - as above
                problem = str(error)
        if not secrets and problem is None:
            problem = "The endpoint has no signing secret."
        fixed = [("content-type", CONTENT_TYPES[body_format]), ("user-agent", USER_AGENT)]
        # An own content type or user agent replaces ours.
        fixed = [(name, value) for name, value in fixed if name not in {key.lower() for key in own}]
        lines = encode_headers(
            (name.encode(), value.encode("latin-1")) for name, value in (*fixed, *own.items())
        )
        return EndpointSettings(
            id=endpoint_id,
            version=version,
            url=url,
            target=target,
            schedule=schedule or self._default_schedule,
            format=body_format,
            header_lines=lines,
            shown_headers=[*fixed, *((name, MASK) for name in own)],
            secrets=secrets,
            problem=problem,
        )


def _unix(value: datetime | None) -> float | None:
    return (value - EPOCH).total_seconds() if value is not None else None
