"""What can be done with the catalogue of event types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError

from app.access import audit
from app.applications.queries import bump_workspace_routing
from app.core import ids
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.event_types import queries
from app.event_types.json_schema import CompiledSchema
from app.event_types.schema_rules import check_schema
from app.models import EventType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.context import Caller

MAX_EXAMPLE_BYTES = 65_536
# The catalogue itself answers under this name.
RESERVED_NAME = "openapi.json"

_KIND = "event_type"
_UNIQUE_NAME = "uq_event_types_workspace_id_name"


async def require_event_type(
    session: AsyncSession, caller: Caller, name: str, *, for_update: bool = False
) -> EventType:
    """Return the event type of this name.

    Raises:
        NotFound: the catalogue has none.

    """
    found = await queries.find_event_type(
        session, workspace_id=caller.workspace_id, name=name, for_update=for_update
    )
    if found is None:
        raise NotFound(
            f"The catalogue has no event type {name!r}. GET /v1/event-types lists those there are; events of "
            "other types are accepted all the same."
        )
    return found


async def create_event_type(
    session: AsyncSession,
    caller: Caller,
    *,
    clock: DatabaseClock,
    name: str,
    description: str | None,
    json_schema: dict[str, Any] | None,
    example: bytes | None,
    validation: str,
) -> EventType:
    """Put an event type into the catalogue. `example` is JSON, kept byte for byte.

    Raises:
        Conflict: the name is taken.
        Forbidden: the caller's key is bound to one application; the catalogue is the whole workspace's.
        Invalid: the schema cannot be used, or the example breaks it.

    """
    _refuse_bound(caller)
    if name == RESERVED_NAME:
        raise Invalid.at("/name", f"{RESERVED_NAME!r} is the catalogue's own address. Choose another name.")
    row = EventType(
        id=ids.uuid7(clock.unix_ms()),
        workspace_id=caller.workspace_id,
        name=name,
        description=description,
        json_schema=json_schema,
        example=example,
        validation=validation,
    )
    _check(row, schema_changed=True)
    session.add(row)
    try:
        await session.flush()
    except IntegrityError as error:
        if _UNIQUE_NAME not in str(error.orig):
            raise
        raise Conflict(
            f"The catalogue has an event type {name!r} already. Change it with PATCH /v1/event-types/{name}.",
            slug="name-taken",
        ) from None
    await session.refresh(row)
    await bump_workspace_routing(session, caller.workspace_id)
    await _record(session, caller, row, action="event_type.created", after=_shown(row))
    return row


async def update_event_type(
    session: AsyncSession, caller: Caller, name: str, *, changes: Mapping[str, Any]
) -> EventType:
    """Change what `changes` names (`description`, `json_schema`, `example`, `validation`).

    Raises:
        Forbidden: the caller's key is bound to one application.
        Invalid: the schema cannot be used, or the example breaks it as both are then.
        NotFound: the catalogue has no such event type.

    """
    _refuse_bound(caller)
    row = await require_event_type(session, caller, name, for_update=True)
    before = _shown(row)
    for field, value in changes.items():
        setattr(row, field, value)
    _check(row, schema_changed="json_schema" in changes)
    if session.is_modified(row):
        row.updated_at = func.now()
        await session.flush()
        await session.refresh(row)
        await bump_workspace_routing(session, caller.workspace_id)
        await _record(session, caller, row, action="event_type.updated", before=before, after=_shown(row))
    return row


async def delete_event_type(session: AsyncSession, caller: Caller, name: str) -> None:
    """Take an event type out of the catalogue; events of it are accepted as before, unchecked.

    Raises:
        Forbidden: the caller's key is bound to one application.
        NotFound: the catalogue has no such event type.

    """
    _refuse_bound(caller)
    row = await require_event_type(session, caller, name, for_update=True)
    await queries.delete_event_type(session, row.id)
    await bump_workspace_routing(session, caller.workspace_id)
    await _record(session, caller, row, action="event_type.deleted", before=_shown(row))


def _refuse_bound(caller: Caller) -> None:
    if caller.application_id is not None:
        raise Forbidden(
            "The catalogue of event types is the whole workspace's; a key that is bound to one application cannot "
            "change it. Use an unbound admin key."
        )


def _check(row: EventType, *, schema_changed: bool) -> None:
    if row.json_schema is None:
        if row.validation != "off":
            raise Invalid.at(
                "/validation", "Without a schema there is nothing to check: give one, or use off."
            )
    elif schema_changed:
        check_schema(row.json_schema, at="/schema")
    if row.example is not None:
        _check_example(row.example, row.json_schema)


def _check_example(example: bytes, schema: dict[str, Any] | None) -> None:
    if len(example) > MAX_EXAMPLE_BYTES:
        raise Invalid.at("/example", f"An example may have at most {MAX_EXAMPLE_BYTES:,} bytes.")
    if schema is None:
        return
    errors = CompiledSchema(schema).errors(msgspec.json.decode(example), at="/example")
    if errors:
        raise Invalid(
            "The example breaks the schema, so receivers would be misled. Change both together.",
            errors=errors,
        )


def _shown(row: EventType) -> dict[str, Any]:
    return {
        "name": row.name,
        "description": row.description,
        "schema": row.json_schema,
        "example": row.example.decode() if row.example else None,
        "validation": row.validation,
    }


async def _record(
    session: AsyncSession,
    caller: Caller,
    row: EventType,
    *,
    action: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    await audit.record(
        session, caller, action=action, object_kind=_KIND, object_id=row.name, before=before, after=after
    )
