"""`/dashboard/dead`: deliveries that gave up, in groups or one by one."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.api.browser import SignedInVisit
from app.core import ids
from app.core.error_classes import ErrorClass
from app.core.errors import Invalid, TooBusy
from app.core.pagination import PageRequest
from app.dashboard.dead_letters.queries import (
    MOST_AT_ONCE,
    MOST_GROUPS,
    last_dead,
    list_dead,
    list_groups,
    newest_of_group,
)
from app.dashboard.page import OpenPage, abilities_of, make_router, open_page
from app.dashboard.picks import back_with, notice_of, picked, retry_all
from app.dashboard.saved_views.queries import views_of_page
from app.dashboard.search.address import read_search

router = make_router()

ROWS = 25


@router.get("/dead")
async def get_dead_letters(visit: SignedInVisit, request: Request) -> Response:
    """List deliveries that gave up: grouped, or with `?flat=1` one by one."""
    opened: OpenPage | None = None
    search = read_search(request.url.path, dict(request.query_params))
    shown: dict[str, Any] = {"groups": [], "found": None, "last": None, "failure": None, "views": []}
    try:
        async with open_page(request, visit) as opened:
            flat = opened.query.get("flat") == "1"
            if not search.faults and flat:
                wanted = PageRequest(limit=ROWS, cursor=opened.query.get("cursor") or None)
                shown["found"] = await list_dead(opened, search.query, page=wanted)
            elif not search.faults:
                shown["groups"] = await list_groups(opened, search.query)
            if not search.query.terms and not (shown["groups"] or (shown["found"] and shown["found"].rows)):
                shown["last"] = await last_dead(opened)
            shown["views"] = await views_of_page(opened, "dead")
    except TooBusy as error:
        if opened is None:
            raise
        shown["failure"] = error.detail
    return opened.page(
        "dead_letters/list.html",
        nav="dead",
        status=503 if shown["failure"] else 200,
        notice=notice_of(opened.query),
        search=search,
        flat=opened.query.get("flat") == "1",
        most_groups=MOST_GROUPS,
        most_at_once=MOST_AT_ONCE,
        request_id=request.state.request_id,
        **shown,
    )


@router.post("/dead/retry")
async def post_retry(visit: SignedInVisit, request: Request) -> Response:
    """Send dead deliveries again: one, those that are ticked, or the newest of a group."""
    abilities_of(request, visit).require_operate()
    group = visit.form.get("group")
    wanted = await (_newest(visit, request, group) if group is not None else picked(request, visit))
    outcome = await retry_all(request, visit, wanted)
    return back_with(visit.form.get("next"), outcome)


async def _newest(visit: SignedInVisit, request: Request, group: str) -> list[str]:
    endpoint, _, error_class = group.partition(" ")
    endpoint_id = ids.from_text(ids.ENDPOINT, endpoint)
    if endpoint_id is None or (error_class and error_class not in {each.value for each in ErrorClass}):
        raise Invalid("There is no such group of dead letters. Go back and load the page again.")
    async with open_page(request, visit) as opened:
        return await newest_of_group(opened, endpoint_id, error_class or None)
