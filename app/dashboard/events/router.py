"""`/dashboard/events`: the list, one event, and the form that publishes one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from app.access import audit
from app.api.auth import runtime_of
from app.api.browser import SignedInVisit, Visit, see
from app.core import ids
from app.core.errors import Conflict, Invalid, NotFound, RequestError
from app.dashboard.events import queries
from app.dashboard.events.export import HEADINGS, event_lines
from app.dashboard.events.publishing import faults_by_field, publish, read_form
from app.dashboard.events.shown import VIEWS, cloud_event, curl
from app.dashboard.events.unmatched import reasons_of
from app.dashboard.exporting.answer import export
from app.dashboard.lists import list_page, page_of
from app.dashboard.page import OpenPage, abilities_of, act, make_router, open_page
from app.dashboard.picks import back_with, notice_of, retry_all
from app.deliveries.cancel import cancel_pending
from app.endpoints.trial import send_test
from app.events.service import erase, require_event

if TYPE_CHECKING:
    from app.dashboard.search.address import Search

router = make_router()

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
    return await list_page(
        request,
        visit,
        nav="events",
        template="events/list.html",
        read=_read,
        unread={"found": None, "reach": None, "ever": True},
    )


@router.post("/events/export")
async def post_export(visit: SignedInVisit, request: Request) -> Response:
    """Give the list as a file; NDJSON has the data of each event."""
    return await export(request, visit, what="events", headings=HEADINGS, lines=event_lines)


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


@router.post("/events/{event}/test")
async def post_test(event: str, visit: SignedInVisit, request: Request) -> Response:
    """Send a copy of an event to one endpoint alone, as a test of it: once, outside all figures."""
    abilities_of(request, visit).require_operate()
    endpoint = visit.form.get("endpoint", "")
    async with open_page(request, visit) as opened:
        row = (await _require(opened, event)).row
    if row.data is None:
        raise NotFound("The data of this event was erased, so there is nothing to test with.")
    async with act(request, visit) as (session, caller):
        sent = await send_test(
            session, caller, endpoint, clock=runtime_of(request).clock, event_type=row.type, data=row.data
        )
        delivery = ids.to_text(ids.DELIVERY, sent.id)
    request.app.state.waker.wake()
    return see(f"/dashboard/endpoints/{endpoint}/test?sent={delivery}#result")


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


async def _read(opened: OpenPage, search: Search) -> dict[str, Any]:
    found, reach = await queries.list_rows(opened, search.query, page=page_of(opened))
    asked = bool(found.rows or search.query.terms)
    return {"found": found, "reach": reach, "ever": asked or await queries.has_any(opened)}


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
