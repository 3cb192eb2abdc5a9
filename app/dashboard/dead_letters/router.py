"""`/dashboard/dead`: deliveries that gave up, in groups or one by one; sent again, or marked as resolved."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from app.api.browser import SignedInVisit, Visit
from app.api.redirects import safe_next
from app.core import ids
from app.core.error_classes import ErrorClass
from app.core.errors import Invalid
from app.dashboard.dead_letters.queries import (
    MOST_AT_ONCE,
    MOST_GROUPS,
    last_dead,
    list_dead,
    list_groups,
    newest_of_group,
)
from app.dashboard.deliveries.export import HEADINGS, delivery_lines
from app.dashboard.exporting.answer import export
from app.dashboard.lists import list_page, page_of
from app.dashboard.page import OpenPage, abilities_of, make_router, open_page
from app.dashboard.picks import back_with, picked, resolve_all, retry_all
from app.dashboard.search.reach import dead_looked_at
from app.deliveries.resolve import MAX_REASON_CHARS, read_reason

if TYPE_CHECKING:
    from app.dashboard.search.address import Search

router = make_router()

LIST = "/dashboard/dead"
_ALWAYS = {"most_groups": MOST_GROUPS, "most_at_once": MOST_AT_ONCE}


@router.get("/dead")
async def get_dead_letters(visit: SignedInVisit, request: Request) -> Response:
    """List deliveries that gave up: grouped, or with `?flat=1` one by one."""
    flat = request.query_params.get("flat") == "1"
    return await list_page(
        request,
        visit,
        nav="dead",
        template="dead_letters/list.html",
        read=_read,
        unread={"groups": [], "found": None, "last": None, "flat": flat, "most_looked": None, **_ALWAYS},
    )


@router.post("/dead/retry")
async def post_retry(visit: SignedInVisit, request: Request) -> Response:
    """Send dead deliveries again: one, those that are ticked, or the newest of a group."""
    abilities_of(request, visit).require_operate()
    outcome = await retry_all(request, visit, await _wanted(request, visit))
    return back_with(visit.form.get("next"), outcome)


@router.post("/dead")
async def post_resolve(visit: SignedInVisit, request: Request) -> Response:
    """Mark dead deliveries as resolved; first ask how it was done, and whether these are meant."""
    abilities_of(request, visit).require_operate()
    wanted = await _wanted(request, visit)
    given, back, fault = visit.form.get("reason", ""), safe_next(visit.form.get("next") or LIST), None
    if not wanted or visit.form.get("sure") == "1":
        try:
            reason = read_reason(given)
        except Invalid as error:
            fault = error.errors[0].detail
        else:
            return back_with(back, await resolve_all(request, visit, wanted, reason=reason))
    async with open_page(request, visit) as opened:
        pass
    return opened.page(
        "dead_letters/resolve.html",
        nav="dead",
        status=422 if fault else 200,
        wanted=wanted,
        back=back,
        given=given,
        fault=fault,
        most_characters=MAX_REASON_CHARS,
    )


@router.post("/dead/export")
async def post_export(visit: SignedInVisit, request: Request) -> Response:
    """Give the dead letters that match as a file, one by one, also where the page has them in groups."""
    return await export(
        request, visit, what="dead_letters", headings=HEADINGS, lines=partial(delivery_lines, list_dead)
    )


async def _read(opened: OpenPage, search: Search) -> dict[str, Any]:
    flat = opened.query.get("flat") == "1"
    found = await list_dead(opened, search.query, page=page_of(opened)) if flat else None
    groups = [] if flat else await list_groups(opened, search.query)
    nothing = not search.query.terms and not (groups or (found and found.rows))
    last = await last_dead(opened) if nothing else None
    looked = dead_looked_at(search.query)
    return {"groups": groups, "found": found, "last": last, "flat": flat, "most_looked": looked, **_ALWAYS}


async def _wanted(request: Request, visit: Visit) -> list[str]:
    """Return the deliveries that a form of the list means.

    Raises:
        Invalid: it names a group that is none.

    """
    group = visit.form.get("group")
    if group is None:
        return await picked(request, visit)
    endpoint, _, error_class = group.partition(" ")
    endpoint_id = ids.from_text(ids.ENDPOINT, endpoint)
    if endpoint_id is None or (error_class and error_class not in {each.value for each in ErrorClass}):
        raise Invalid("There is no such group of dead letters. Go back and load the page again.")
    async with open_page(request, visit) as opened:
        return await newest_of_group(opened, endpoint_id, error_class or None)
