"""`/dashboard/live` and `/dashboard/changes`: what happens now, and what has changed on a page that is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from app.access.sessions import FoundSession
from app.api.auth import runtime_of
from app.api.browser import SignedInVisit, SignInNeeded
from app.dashboard.live.stream import LeavingResponse, say_changes
from app.dashboard.live.topics import parse_topics
from app.dashboard.live.watch import ChangeWatch, Listener
from app.dashboard.page import make_router

if TYPE_CHECKING:
    from app.api.browser import Visit

router = make_router()

_FAR_MS = 86_400_000


@router.get("/changes")
async def get_changes(visit: SignedInVisit, request: Request) -> Response:
    """Say which topics have changed, as long as the page listens, its person is signed in and the server runs."""
    found = _session_of(visit)
    watch: ChangeWatch = request.app.state.change_watch
    listener = Listener(
        workspace_id=found.workspace_id,
        session_id=found.session_id,
        user_id=found.user_id,
        role=found.role,
        topics=parse_topics(request.query_params.get("topics", ""), role=found.role),
        since_ms=_since(request),
    )
    watch.join(listener)
    return LeavingResponse(say_changes(listener), leave=lambda: watch.leave(listener))


def _session_of(visit: Visit) -> FoundSession:
    if not isinstance(visit.session, FoundSession):
        raise SignInNeeded
    return visit.session


def _since(request: Request) -> int:
    """Return when the page was read (Unix, ms): what it says itself, if that can be true."""
    now = runtime_of(request).clock.unix_ms()
    given = request.query_params.get("since", "")
    since = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else now  # noqa: PLR2004 - digits
    return min(max(since, now - _FAR_MS), now)
