"""Writes what deliveries belong to: applications, endpoints with secrets, event types, keys, the audit log."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from app.access.audit import own_caller
from app.applications.service import new_application
from app.core import ids
from app.core.crypto import new_api_key
from app.core.roles import Role
from app.endpoints.secrets import new_secret_row
from app.models import ApiKey, Application, AuditEntry, Endpoint, EndpointRuntime, EventType
from app.seeding.story import APPLICATIONS, EVENT_TYPES, RECEIVERS, Receiver, url_of
from app.subscriptions.service import new_subscription

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from random import Random
    from uuid import UUID

    from sqlalchemy.orm import Session

    from app.core.clock import DatabaseClock
    from app.core.crypto import Keyring

_BLOCK = 64
_INNER, _OUTER = 0x36, 0x5C
_NEXT_PROBE = timedelta(minutes=9)
_EXAMPLE = b'{"order":{"id":"ord_700001","amount":49.90,"currency":"EUR"}}'
# Name, role, the application that it is bound to, and how many hours ago it was used last.
_KEYS: tuple[tuple[str, Role, str | None, float | None], ...] = (
    ("Shop backend", Role.PUBLISHER, None, 0.02),
    ("Support desk", Role.OPERATOR, None, 3.5),
    ("Weekly report", Role.VIEWER, None, 61.0),
    ("Tidewater portal", Role.VIEWER, "tidewater-books", 0.6),
    ("Old importer", Role.PUBLISHER, None, None),
)


@dataclass(frozen=True, slots=True)
class Taker:
    """An endpoint that was written, with what rows of its deliveries need."""

    receiver: Receiver
    endpoint_id: UUID
    application_id: UUID
    inner_pad: bytes
    outer_pad: bytes


def write_objects(
    session: Session,
    *,
    workspace_id: UUID,
    random: Random,
    clock: DatabaseClock,
    keyring: Keyring,
    begins: datetime,
    now: datetime,
) -> list[Taker]:
    """Write them, in the caller's transaction; what has the name of one of them already is used as it is."""
    applications = _applications(session, workspace_id=workspace_id, clock=clock, begins=begins)
    _event_types(session, workspace_id=workspace_id, clock=clock)
    takers = [
        _taker(
            session, receiver, application_id=applications[receiver.application], workspace_id=workspace_id,
            random=random, clock=clock, keyring=keyring, begins=begins, now=now,
        )
        for receiver in RECEIVERS
    ]  # fmt: skip
    session.execute(
        update(Application)
        .where(Application.id.in_(applications.values()))
        .values(routing_version=Application.routing_version + 1)
        .execution_options(synchronize_session=False)
    )
    keys = _keys(session, workspace_id, applications=applications, begins=begins, now=now)
    _audit(session, workspace_id, takers=takers, keys=keys, random=random, begins=begins, now=now)
    session.flush()
    return takers


def _applications(
    session: Session, *, workspace_id: UUID, clock: DatabaseClock, begins: datetime
) -> dict[str, UUID]:
    present = {
        row.uid: row.id
        for row in session.scalars(
            select(Application).where(
                Application.workspace_id == workspace_id, Application.deleted_at.is_(None)
            )
        )
    }
    made = {}
    for place, (uid, name, _) in enumerate(APPLICATIONS):
        if uid in present:
            made[uid] = present[uid]
            continue
        row = new_application(clock, workspace_id=workspace_id, name=name, uid=uid, metadata={"plan": "team"})
        row.created_at = begins - timedelta(days=90 - place)
        session.add(row)
        made[uid] = row.id
    session.flush()
    return made


def _event_types(session: Session, *, workspace_id: UUID, clock: DatabaseClock) -> None:
    present = set(session.scalars(select(EventType.name).where(EventType.workspace_id == workspace_id)))
    session.add_all(
        EventType(
            id=ids.uuid7(clock.unix_ms()),
            workspace_id=workspace_id,
            name=name,
            description=description,
            example=_EXAMPLE if name.startswith("order.") else None,
        )
        for name, description, _ in EVENT_TYPES
        if name not in present
    )


def _taker(
    session: Session,
    receiver: Receiver,
    *,
    application_id: UUID,
    workspace_id: UUID,
    random: Random,
    clock: DatabaseClock,
    keyring: Keyring,
    begins: datetime,
    now: datetime,
) -> Taker:
    span = now - begins
    created = begins - timedelta(days=30 + random.random() * 50)
    endpoint = Endpoint(
        id=ids.uuid7(int(created.timestamp() * 1000)),
        workspace_id=workspace_id,
        application_id=application_id,
        url=url_of(receiver),
        description=receiver.description,
        retry_schedule=list(receiver.retry_schedule) if receiver.retry_schedule else None,
        paused=receiver.paused_at is not None,
        created_at=created,
        updated_at=created,
    )
    session.add(endpoint)
    session.flush()
    opened = begins + span * receiver.open_at if receiver.open_at is not None else None
    secret = "whsec_" + b64encode(random.randbytes(32)).decode()
    session.add_all(
        [
            EndpointRuntime(
                endpoint_id=endpoint.id,
                workspace_id=workspace_id,
                application_id=application_id,
                open=receiver.paused_at is None,
                circuit_state="closed" if opened is None else "open",
                circuit_opened_at=opened,
                circuit_reason=None if opened is None else "10 requests in a row failed.",
                circuit_openings=0 if opened is None else 6,
                consecutive_failures=0 if opened is None else 10,
                next_probe_at=None if opened is None else now + _NEXT_PROBE,
            ),
            new_secret_row(secret, endpoint_id=endpoint.id, clock=clock, keyring=keyring),
            new_subscription(
                endpoint, clock=clock, event_types=list(receiver.event_types), content_filter=None
            ),
        ]
    )
    key = b64decode(secret.removeprefix("whsec_")).ljust(_BLOCK, b"\0")
    return Taker(
        receiver=receiver,
        endpoint_id=endpoint.id,
        application_id=application_id,
        inner_pad=bytes(byte ^ _INNER for byte in key),
        outer_pad=bytes(byte ^ _OUTER for byte in key),
    )


def _keys(
    session: Session,
    workspace_id: UUID,
    *,
    applications: Mapping[str, UUID],
    begins: datetime,
    now: datetime,
) -> list[ApiKey]:
    rows = []
    for place, (name, role, application, hours) in enumerate(_KEYS):
        created = begins - timedelta(days=40 - 5 * place)
        rows.append(
            ApiKey(
                id=ids.uuid7(int(created.timestamp() * 1000)),
                workspace_id=workspace_id,
                application_id=applications[application] if application else None,
                name=name,
                role=role.value,
                # Of a secret that nobody has ever seen.
                key_id=(unknown := new_api_key()).key_id,
                digest=unknown.digest,
                created_at=created,
                last_used_at=now - timedelta(hours=hours) if hours is not None else None,
                revoked_at=now - timedelta(days=2) if hours is None else None,
            )
        )
    session.add_all(rows)
    session.flush()
    return rows


def _audit(
    session: Session,
    workspace_id: UUID,
    *,
    takers: Sequence[Taker],
    keys: Sequence[ApiKey],
    random: Random,
    begins: datetime,
    now: datetime,
) -> None:
    """Note what such a workspace is made of, and what its operators do every day."""
    moments: list[tuple[datetime, str, str, str, dict[str, Any] | None, dict[str, Any] | None]] = []
    for taker in takers:
        name = ids.to_text(ids.ENDPOINT, taker.endpoint_id)
        if taker.receiver.paused_at is not None:
            at = begins + (now - begins) * taker.receiver.paused_at
            moments.append((at, "endpoint.paused", "endpoint", name, {"paused": False}, {"paused": True}))
    span = (now - begins).total_seconds()
    for action, before, after, often in (
        ("endpoint.updated", {"max_in_flight": 10}, {"max_in_flight": 20}, 7),
        ("secret.rotated", None, {"grace_seconds": 86_400}, 3),
        ("endpoint.secret_revealed", None, None, 4),
        ("endpoint.tested", None, None, 9),
    ):
        for _ in range(often):
            taker = random.choice(list(takers))
            at = begins + timedelta(seconds=random.random() * span)
            kind = ids.to_text(ids.ENDPOINT, taker.endpoint_id)
            moments.append((at, action, "endpoint", kind, before, after))
    for key in keys:
        shown = {"name": key.name, "role": key.role}
        at = begins + timedelta(seconds=random.random() * span * 0.1)
        moments.append((at, "api_key.created", "api_key", ids.to_text(ids.API_KEY, key.id), None, shown))
    bellwire = own_caller(workspace_id)
    actors = [
        ("api_key", ids.to_text(ids.API_KEY, key.id), f"198.51.100.{7 + n}") for n, key in enumerate(keys)
    ]
    for at, action, kind, name, before, after in sorted(moments, key=lambda moment: moment[0]):
        actor_kind, actor_id, address = random.choice(actors[:2])
        session.add(
            AuditEntry(
                id=ids.uuid7(int(at.timestamp() * 1000)),
                workspace_id=bellwire.workspace_id,
                actor_kind=actor_kind,
                actor_id=actor_id,
                action=action,
                object_kind=kind,
                object_id=name,
                before=before,
                after=after,
                address=address,
                request_id=random.randbytes(8).hex(),
                created_at=at,
            )
        )
