"""`/dashboard/views`: keeps searches under names, and forgets them."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import runtime_of
from app.api.browser import SignedInVisit, see
from app.api.redirects import safe_next
from app.dashboard.page import act, make_router
from app.dashboard.saved_views.queries import PAGES, delete_view, save_view

router = make_router()

# What belongs to a moment, and not to a search.
_OF_THE_MOMENT = frozenset({"cursor", "done", "n", "left"})


@router.post("/views")
async def post_view(visit: SignedInVisit, request: Request) -> Response:
    """Keep the search of the page under a name; everybody may, for it is theirs alone."""
    path = safe_next(visit.form.get("next"))
    parts = urlsplit(path)
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name not in _OF_THE_MOMENT])
    page = next((key for key, of in PAGES.items() if of == parts.path), "")
    async with act(request, visit) as (session, caller):
        await save_view(
            session,
            caller,
            page=page,
            name=visit.form.get("name", ""),
            query=query,
            clock=runtime_of(request).clock,
        )
    return see(f"{parts.path}?{query}")


@router.post("/views/{view}/delete")
async def post_delete(view: UUID, visit: SignedInVisit, request: Request) -> Response:
    """Forget a view."""
    async with act(request, visit) as (session, caller):
        await delete_view(session, caller, view)
    return see(safe_next(visit.form.get("next")))
