"""What can be done with applications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError

from app.access import audit
from app.applications import queries
from app.core import ids
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.deliveries.cancel import cancel_pending
from app.models import DEFAULT_APPLICATION_UID, OPERATIONS_APPLICATION_UID, Application

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.context import Caller

RESERVED_UIDS = frozenset({DEFAULT_APPLICATION_UID, OPERATIONS_APPLICATION_UID})

_KIND = "application"
_UNIQUE_UID = "uq_applications_workspace_id_uid"
# What PATCH may change, by the API's names, and the column of each.
_CHANGEABLE = {"uid": "uid", "name": "name", "metadata": "custom"}


async def require_application(session: AsyncSession, caller: Caller, reference: str | None) -> Application:
    """Return the application that a request means by its id or uid.

    None means the one that the key is bound to, else `default`.

    Raises:
        NotFound: there is none, or the caller may not see it.

    """
    if reference is None:
        bound = caller.application_id
        reference = ids.to_text(ids.APPLICATION, bound) if bound else DEFAULT_APPLICATION_UID
    found = await queries.find_application(session, caller, reference)
    if found is None:
        raise NotFound(
            f"There is no application {reference!r} here. GET /v1/applications lists those there are; "
            "POST /v1/applications makes one."
        )
    return found


async def create_application(
    session: AsyncSession,
    caller: Caller,
    *,
    clock: DatabaseClock,
    name: str,
    uid: str | None,
    metadata: dict[str, str],
) -> Application:
    """Make an application.

    Raises:
        Conflict: the uid is taken.
        Forbidden: the caller's key is bound to another application.
        Invalid: the uid looks like an id.

    """
    if caller.application_id is not None:
        raise Forbidden(
            "This key is bound to one application, so it cannot make others. Use an unbound admin key."
        )
    _check_uid(uid)
    application = new_application(
        clock, workspace_id=caller.workspace_id, name=name, uid=uid, metadata=metadata
    )
    session.add(application)
    await _flush(session, uid=uid)
    await session.refresh(application)
    await audit.record(
        session,
        caller,
        action="application.created",
        object_kind=_KIND,
        object_id=ids.to_text(ids.APPLICATION, application.id),
        after={"name": name, "uid": uid},
    )
    return application


async def update_application(
    session: AsyncSession, caller: Caller, reference: str, *, changes: Mapping[str, Any]
) -> Application:
    """Change what `changes` names (`uid`, `name`, `metadata`).

    Raises:
        Conflict: the new uid is taken, or the application is reserved and its uid would change.
        Invalid: the new uid looks like an id.
        NotFound: there is no such application.

    """
    application = await _locked(session, caller, reference)
    if "uid" in changes and changes["uid"] != application.uid:
        _refuse_reserved(application, "given another uid")
        _check_uid(changes["uid"])
    before = {name: getattr(application, _CHANGEABLE[name]) for name in changes}
    for name, value in changes.items():
        setattr(application, _CHANGEABLE[name], value)
    if session.is_modified(application):
        application.updated_at = func.now()
        await _flush(session, uid=application.uid)
        if before.get("uid", application.uid) != application.uid:
            # Publishers name it by its uid, and processes remember what a uid stands for.
            await queries.bump_routing(session, application.id)
        await session.refresh(application)
        await audit.record(
            session,
            caller,
            action="application.updated",
            object_kind=_KIND,
            object_id=ids.to_text(ids.APPLICATION, application.id),
            before=before,
            after=dict(changes),
        )
    return application


async def delete_application(session: AsyncSession, caller: Caller, reference: str) -> None:
    """Delete an application: its endpoints close, what waits is cancelled, its keys are revoked, its uid is free.

    What was delivered stays on record. Deliveries that are being sent end as cancelled when their result comes.

    Raises:
        Conflict: `default` and `operations` cannot be deleted.
        NotFound: there is no such application.

    """
    application = await _locked(session, caller, reference)
    _refuse_reserved(application, "deleted")
    application.deleted_at = func.now()
    application.updated_at = func.now()
    application.routing_version += 1
    await session.flush()
    cancelled = await cancel_pending(
        session, workspace_id=application.workspace_id, application_id=application.id
    )
    await queries.delete_endpoints(session, application)
    await queries.revoke_bound_keys(session, application.id)
    await audit.record(
        session,
        caller,
        action="application.deleted",
        object_kind=_KIND,
        object_id=ids.to_text(ids.APPLICATION, application.id),
        before={"name": application.name, "uid": application.uid},
        after={"deliveries_cancelled": cancelled},
    )


def new_application(
    clock: DatabaseClock, *, workspace_id: UUID, name: str, uid: str | None, metadata: dict[str, str]
) -> Application:
    """Return a new row, not yet added to a session."""
    return Application(
        id=ids.uuid7(clock.unix_ms()), workspace_id=workspace_id, name=name, uid=uid, custom=metadata
    )


async def _locked(session: AsyncSession, caller: Caller, reference: str) -> Application:
    found = await require_application(session, caller, reference)
    locked = await queries.lock_application(session, found.id)
    if locked is None:
        # It was deleted between the two queries.
        raise NotFound(f"There is no application {reference!r} here any more.")
    return locked


def _check_uid(uid: str | None) -> None:
    if uid is not None and ids.from_text(ids.APPLICATION, uid) is not None:
        raise Invalid.at("/uid", "A uid may not look like an id of this API (app_...). Choose another.")


def _refuse_reserved(application: Application, what: str) -> None:
    if application.uid in RESERVED_UIDS:
        raise Conflict(
            f"The application {application.uid!r} is part of every workspace and cannot be {what}.",
            slug="reserved-application",
        )


async def _flush(session: AsyncSession, *, uid: str | None) -> None:
    try:
        await session.flush()
    except IntegrityError as error:
        if _UNIQUE_UID not in str(error.orig):
            raise
        raise Conflict(
            f"The uid {uid!r} is taken by another application of this workspace. Choose another, or use that "
            f"application: GET /v1/applications/{uid}.",
            slug="uid-taken",
        ) from None
