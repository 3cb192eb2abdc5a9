"""`/dashboard/audit`: who changed, revealed or repaired what, as a list and as a file. For admins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.access import export
from app.access.actors import names_of
from app.access.export import Format, Wanted
from app.api.browser import SignedInVisit
from app.core.errors import Forbidden, Invalid
from app.core.ranges import TimeRange
from app.dashboard.audit.queries import find_person, read_entries
from app.dashboard.audit.rows import rows_of
from app.dashboard.page import abilities_of, act, make_router, open_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

FIELDS = ("action", "actor", "object", "from", "to")

router = make_router()


@router.get("/audit")
async def get_audit(visit: SignedInVisit, request: Request) -> Response:
    """Show the log, newest first."""
    faults: list[str] = []
    async with open_page(request, visit) as opened:
        if not opened.may_see("audit"):
            raise Forbidden(
                "The audit log is for admins and owners of the workspace. Ask one of them to look something up for you, "
                "or to change your role."
            )
        query = opened.query
        wanted = await _wanted(opened.session, opened.caller, query, faults)
        page = await read_entries(
            opened.session, opened.caller, wanted=wanted, cursor=query.get("cursor") or None
        )
        names = await names_of(opened.session, opened.caller, {row.actor_id for row in page.rows})
    return opened.page(
        "audit/audit.html",
        nav="audit",
        page=page,
        rows=rows_of(page.rows, names),
        faults=faults,
        filtered=any(query.get(name) for name in FIELDS),
        fields={name: query.get(name, "") for name in FIELDS},
        audit_retention_days=opened.runtime.settings.audit_retention_days,
    )


@router.post("/audit/export")
async def post_export(visit: SignedInVisit, request: Request) -> Response:
    """Return the entries that match as a file; that it was taken is put on record first."""
    abilities_of(request, visit).require_administer()
    form = Format.CSV if visit.form.get("format") == Format.CSV.value else Format.NDJSON
    faults: list[str] = []
    async with act(request, visit) as (session, caller):
        wanted = await _wanted(session, caller, visit.form, faults)
        if faults:
            raise Invalid(" ".join(faults))
        await export.record_export(session, caller, form=form, wanted=wanted)
    sessions = request.app.state.runtime.sessions
    return StreamingResponse(
        export.export(sessions, workspace_id=caller.workspace_id, form=form, wanted=wanted),
        headers={
            "Content-Type": export.MEDIA_TYPES[form],
            "Content-Disposition": f'attachment; filename="{export.file_name(form)}"',
            "Cache-Control": "no-store",
        },
    )


async def _wanted(
    session: AsyncSession, caller: Caller, given: Mapping[str, str], faults: list[str]
) -> Wanted:
    """Return what the filters ask for; what cannot be understood is among the faults, and asks for nothing."""
    actor = given.get("actor", "").strip() or None
    if actor is not None and "@" in actor:
        # An address that is nobody's has done nothing.
        actor = await find_person(session, caller, actor) or actor
    until = _day(given.get("to", ""), faults)
    return Wanted(
        action=given.get("action", "").strip() or None,
        actor_id=actor,
        object_id=given.get("object", "").strip() or None,
        created=TimeRange(
            gte=_day(given.get("from", ""), faults),
            # The day itself is wanted, too.
            lt=until + timedelta(days=1) if until is not None else None,
        ),
    )


def _day(text: str, faults: list[str]) -> datetime | None:
    if not text.strip():
        return None
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        faults.append(f"{text[:40]!r} is no date. Write it as 2026-11-26.")
        return None
