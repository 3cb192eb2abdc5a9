"""A list that is searched: what its address asks for, read as far as the database manages in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.core.errors import TooBusy
from app.core.pagination import PageRequest
from app.dashboard.exporting.files import MOST_ROWS
from app.dashboard.page import OpenPage, open_page
from app.dashboard.picks import notice_of
from app.dashboard.saved_views.queries import ShownView, views_of_page
from app.dashboard.search.address import Search, read_search

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from app.api.browser import Visit

ROWS = 25


async def list_page(
    request: Request,
    visit: Visit,
    *,
    nav: str,
    template: str,
    read: Callable[[OpenPage, Search], Awaitable[dict[str, Any]]],
    unread: dict[str, Any],
) -> Response:
    """Answer with a list: what `read` returns of it, or `unread` where nothing could be asked or read.

    A search that is not understood reads nothing. A list that takes too long says so in its place, and the page around
    it, with its filters, is there.
    """
    opened: OpenPage | None = None
    search = read_search(request.url.path, dict(request.query_params))
    shown = unread
    views: Sequence[ShownView] = ()
    failure: str | None = None
    try:
        async with open_page(request, visit) as opened:
            if not search.faults:
                shown = await read(opened, search)
            views = await views_of_page(opened, nav)
    except TooBusy as error:
        if opened is None:
            raise
        shown, failure = unread, error.detail
    return opened.page(
        template,
        nav=nav,
        status=503 if failure else 200,
        notice=notice_of(opened.query),
        search=search,
        views=views,
        failure=failure,
        request_id=request.state.request_id,
        most_exported=MOST_ROWS,
        **shown,
    )


def page_of(opened: OpenPage, *, rows: int = ROWS) -> PageRequest:
    """Return which part of the list the address asks for."""
    return PageRequest(limit=rows, cursor=opened.query.get("cursor") or None)
