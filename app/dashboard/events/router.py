"""`/dashboard/events`: the list, one event, and the form that publishes one."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.access import audit
from app.api.browser import SignedInVisit, Visit, see
from app.core import ids
from app.core.errors import Conflict, Invalid, NotFound, RequestError, TooBusy
from app.core.pagination import PageRequest
from app.dashboard.events import queries
from app.dashboard.events.publishing import faults_by_field, publish, read_form
from app.dashboard.events.shown import VIEWS, cloud_event, curl
from app.dashboard.events.unmatched import reasons_of
from app.dashboard.page import OpenPage, abilities_of, act, make_router, open_page
from app.dashboard.picks import back_with, notice_of, retry_all
from app.dashboard.saved_views.queries import views_of_page
from app.dashboard.search.address import read_search
from app.deliveries.cancel import cancel_pending
from app.events.service import erase, require_event

router = make_router()

ROWS = 25
# As many of one event's deliveries are sent again by one press.
MOST_AT_ONCE = 50
EXAMPLE = '{\n  "order": {"id": 42, "total": "129.90"}\n}'
_DONE = {
    "published": "The event is stored, and on its way to every endpoint below.",
    "cancelled": "What was waiting is cancelled; what is being sent ends with its result.",
    "erased": "The data is erased for good. The record of the event stays.",
}


@router.get("/events")
async def get_events(visit: SignedInVisit, request: Request) -> Response:
    """List events: what is asked for, newest first, with how far each one has come."""
    opened: OpenPage | None = None
    search = read_search(request.url.path, dict(request.query_params))
    shown: dict[str, Any] = {"found": None, "failure": None, "views": [], "ever": True}
    try:
        async with open_page(request, visit) as opened:
            if not search.faults:
                wanted = PageRequest(limit=ROWS, cursor=opened.query.get("cursor") or None)
                shown["found"] = await queries.list_rows(opened, search.query, page=wanted)
                if not shown["found"].rows and not search.query.terms:
                    shown["ever"] = await queries.has_any(opened)
            shown["views"] = await views_of_page(opened, "events")
    except TooBusy as error:
        if opened is None:
            raise
        shown["failure"] = error.detail
    return opened.page(
        "events/list.html",
        nav="events",
        status=503 if shown["failure"] else 200,
        notice=notice_of(opened.query),
        search=search,
        request_id=request.state.request_id,
        **shown,
    )


@router.get("/events/new")
async def get_new_event(visit: SignedInVisit, request: Request) -> Response:
    """Show the form that publishes an event, empty or with another event's data in it."""
    abilities_of(request, visit).require_administer()
    given = {"type": "order.placed", "application": "default", "data": EXAMPLE}
    async with open_page(request, visit) as opened:
        event_id = ids.from_text(ids.EVENT, opened.query.get("from", ""))
        found = await queries.read_event(opened, event_id) if event_id is not None else None
    if found is not None:
        given = {
            "type": found.row.type,
            "application": found.application_uid or ids.to_text(ids.APPLICATION, found.row.application_id),
            "data": (found.row.data or b"null").decode(),
        }
    return opened.page("events/new.html", nav="events", given=given, faults={})


@router.post("/events")
async def post_event(visit: SignedInVisit, request: Request) -> Response:
    """Publish an event; with a fault the form is shown again, with what was typed."""
    abilities_of(request, visit).require_administer()
    form = visit.form
    try:
        event, size = read_form(form)
        published = await publish(request, visit, event, size=size)
    except RequestError as error:
        faults = (
            {"application": error.detail}
            if isinstance(error, NotFound | Conflict)
            else faults_by_field(error.errors if isinstance(error, Invalid) else [], error.detail)
        )
    else:
        return see(f"/dashboard/events/{ids.to_text(ids.EVENT, published.id)}?done=published")
    async with open_page(request, visit) as opened:
        pass
    given = {name: form.get(name, "") for name in ("type", "application", "data")}
    return opened.page("events/new.html", nav="events", status=422, given=given, faults=faults)


@router.get("/events/{event}")
async def get_event(event: str, visit: SignedInVisit, request: Request) -> Response:
    """Show one event: where it went, where it did not and why, and its data."""
    async with open_page(request, visit) as opened:
        found = await _require(opened, event)
        deliveries = await queries.read_fanout(opened, found.row)
        dots = await queries.read_attempts(opened, found.row, [row.id for row in deliveries])
        outsiders = await queries.read_outsiders(opened, found.row)
    # Filters are run as they are at a publish: away from the event loop.
    reasons = await asyncio.to_thread(reasons_of, found.row, outsiders)
    view = opened.query.get("view", "pretty")
    row = found.row
    return opened.page(
        "events/event.html",
        nav="events",
        notice=notice_of(opened.query) or _DONE.get(opened.query.get("done", "")),
        event=ids.to_text(ids.EVENT, row.id),
        application=ids.to_text(ids.APPLICATION, row.application_id),
        found=found,
        row=row,
        deliveries=deliveries[: queries.SHOWN_ENDPOINTS],
        more=len(deliveries) > queries.SHOWN_ENDPOINTS,
        dots=dots,
        outsiders=[
            (ids.to_text(ids.ENDPOINT, outsider.endpoint.id), outsider.endpoint.url.partition("?")[0], reason)
            for outsider, reason in zip(outsiders, reasons, strict=True)
        ],
        view=view if view in VIEWS else "pretty",
        views=VIEWS,
        cloud_event=cloud_event(row),
        curl=curl(found, base_url=opened.base_url),
        trace=row.traceparent.split("-")[1] if row.traceparent and row.traceparent.count("-") >= 3 else None,  # noqa: PLR2004 - W3C: version, trace, span, flags
    )


@router.get("/events/{event}/data")
async def get_data(event: str, visit: SignedInVisit, request: Request) -> Response:
    """Give the data as a file, byte for byte as it was published."""
    async with open_page(request, visit) as opened:
        found = await _require(opened, event)
    if found.row.data is None:
        raise NotFound("The data of this event was erased, so there is nothing to download.")
    name = ids.to_text(ids.EVENT, found.row.id)
    return Response(
        found.row.data,
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": f'attachment; filename="{name}.json"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


@router.post("/events/{event}/retry")
async def post_retry(event: str, visit: SignedInVisit, request: Request) -> Response:
    """Send an event again: to the endpoints where it died, or with `which=all` to all that it went to."""
    abilities_of(request, visit).require_operate()
    async with open_page(request, visit) as opened:
        found = await _require(opened, event)
        wanted = await queries.deliveries_to_retry(
            opened, found.row, failed_only=visit.form.get("which") != "all", most=MOST_AT_ONCE
        )
    outcome = await retry_all(request, visit, wanted)
    return back_with(visit.form.get("next"), outcome)


@router.post("/events/{event}/cancel")
async def post_cancel(event: str, visit: SignedInVisit, request: Request) -> Response:
    """Cancel what still waits of an event."""
    abilities_of(request, visit).require_operate()
    await _cancel(request, visit, event=event)
    return see(f"/dashboard/events/{event}?done=cancelled")


@router.post("/events/{event}/erase")
async def post_erase(event: str, visit: SignedInVisit, request: Request) -> Response:
    """Erase an event's data for good."""
    abilities_of(request, visit).require_administer()
    async with act(request, visit) as (session, caller):
        await erase(session, caller, event)
    return see(f"/dashboard/events/{event}?done=erased")


async def _cancel(request: Request, visit: Visit, *, event: str) -> None:
    async with act(request, visit) as (session, caller):
        row = await require_event(session, caller, event)
        cancelled = await cancel_pending(session, workspace_id=row.workspace_id, event_id=row.id)
        await audit.record(
            session,
            caller,
            action="event.cancelled",
            object_kind="event",
            object_id=event,
            after={"cancelled_deliveries": cancelled},
        )


async def _require(opened: OpenPage, event: str) -> queries.OneEvent:
    event_id = ids.from_text(ids.EVENT, event)
    found = await queries.read_event(opened, event_id) if event_id is not None else None
    if found is None:
        raise NotFound(
            f"There is no event {event[:64]!r} here. It may be older than what is kept, or the id was not copied whole: "
            "it begins with evt_ and has 26 characters after that."
        )
    return found
