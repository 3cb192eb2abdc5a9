"""`/dashboard/deliveries`: the list."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from app.api.browser import SignedInVisit
from app.core.pagination import Keyset
from app.dashboard.deliveries.export import HEADINGS, delivery_lines
from app.dashboard.deliveries.queries import count_states, has_any, list_on, list_rows
from app.dashboard.exporting.answer import export
from app.dashboard.lists import list_page, page_of
from app.dashboard.page import OpenPage, abilities_of, make_router
from app.dashboard.picks import back_with, picked, retry_all
from app.dashboard.search.values import STATES

if TYPE_CHECKING:
    from app.dashboard.search.address import Search

router = make_router()


@router.get("/deliveries")
async def get_deliveries(visit: SignedInVisit, request: Request) -> Response:
    """List deliveries: what is asked for, newest first, with counts by state."""
    return await list_page(
        request,
        visit,
        nav="deliveries",
        template="deliveries/list.html",
        read=_read,
        unread={"found": None, "facets": None, "reach": None, "ever": True, "states": STATES},
    )


@router.post("/deliveries/retry")
async def post_retry(visit: SignedInVisit, request: Request) -> Response:
    """Send what is picked again, at once."""
    abilities_of(request, visit).require_operate()
    outcome = await retry_all(request, visit, await picked(request, visit))
    return back_with(visit.form.get("next"), outcome)


@router.post("/deliveries/export")
async def post_export(visit: SignedInVisit, request: Request) -> Response:
    """Give the list as a file."""
    return await export(
        request, visit, what="deliveries", headings=HEADINGS, lines=partial(delivery_lines, list_on)
    )


async def _read(opened: OpenPage, search: Search) -> dict[str, Any]:
    wanted = page_of(opened)
    found = await list_rows(opened, search.query, page=wanted)
    asked = bool(found.rows or search.query.terms or wanted.cursor)
    facets = await count_states(opened, search, page=wanted) if asked else None
    reach = facets.reach if facets is not None and len(found.rows) < wanted.limit else None
    return {
        "found": Keyset.of(wanted).go_on(found, edge=reach.edge) if reach is not None else found,
        "facets": facets,
        "reach": reach,
        "ever": asked or await has_any(opened),
        "states": STATES,
    }
