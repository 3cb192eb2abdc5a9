"""`/dashboard/deliveries`: the list."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from app.api.browser import SignedInVisit
from app.core.errors import TooBusy
from app.core.pagination import PageRequest
from app.dashboard.deliveries.queries import count_states, has_any, list_rows
from app.dashboard.page import OpenPage, abilities_of, make_router, open_page
from app.dashboard.picks import back_with, notice_of, picked, retry_all
from app.dashboard.saved_views.queries import ShownView, views_of_page
from app.dashboard.search.address import read_search
from app.dashboard.search.values import STATES

router = make_router()

ROWS = 25


@router.get("/deliveries")
async def get_deliveries(visit: SignedInVisit, request: Request) -> Response:
    """List deliveries: what is asked for, newest first, with counts by state."""
    opened: OpenPage | None = None
    page = facets = failure = None
    ever = True
    views: Sequence[ShownView] = ()
    search = read_search(request.url.path, dict(request.query_params))
    try:
        async with open_page(request, visit) as opened:
            if not search.faults:
                wanted = PageRequest(limit=ROWS, cursor=opened.query.get("cursor") or None)
                page = await list_rows(opened, search.query, page=wanted)
                if page.rows or search.query.terms or wanted.cursor:
                    facets = await count_states(opened, search.any_status)
                else:
                    ever = await has_any(opened)
            views = await views_of_page(opened, "deliveries")
    except TooBusy as error:
        if opened is None:
            raise
        page, failure = None, error.detail
    return opened.page(
        "deliveries/list.html",
        nav="deliveries",
        status=503 if failure else 200,
        notice=notice_of(opened.query),
        search=search,
        found=page,
        facets=facets,
        failure=failure,
        ever=ever,
        views=views,
        states=STATES,
        request_id=request.state.request_id,
    )


@router.post("/deliveries/retry")
async def post_retry(visit: SignedInVisit, request: Request) -> Response:
    """Send what is picked again, at once."""
    abilities_of(request, visit).require_operate()
    outcome = await retry_all(request, visit, await picked(request, visit))
    return back_with(visit.form.get("next"), outcome)
