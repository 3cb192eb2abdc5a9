"""`/dashboard/live` and `/dashboard/changes`: what happens now, and what has changed on a page that is open."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from app.access.sessions import FoundSession
from app.api.auth import header_of, runtime_of
from app.api.browser import SignedInVisit, SignInNeeded
from app.core.ids import lowest_uuid_at
from app.dashboard.live.attempts import FIRST_ROWS, AttemptReader
from app.dashboard.live.stream import LeavingResponse, say_changes
from app.dashboard.live.tail import say_rows
from app.dashboard.live.topics import parse_topics
from app.dashboard.live.watch import ChangeWatch, Listener
from app.dashboard.page import make_router, open_page
from app.dashboard.search import MAX_LENGTH, parse

if TYPE_CHECKING:
    from app.api.browser import Visit

router = make_router()

_FAR_MS = 86_400_000


@router.get("/live")
async def get_live(visit: SignedInVisit, request: Request) -> Response:
    """Show the newest attempts; with a script they stream on."""
    typed = request.query_params.get("q", "").strip()[: MAX_LENGTH + 1]
    query = parse(typed)
    async with open_page(request, visit) as opened:
        reader = AttemptReader(opened.caller.workspace_id, query)
        news = await reader.read(opened.session)
    last = datetime.fromtimestamp(news.last_ms / 1000, tz=UTC) if news.last_ms is not None else None
    return opened.page(
        "live/tail.html",
        nav="live",
        typed=typed,
        faults=query.faults,
        rows=news.rows[: -FIRST_ROWS - 1 : -1],
        last=last,
        stream="/dashboard/live/rows?" + urlencode({"q": typed, "since": news.last_ms or 0}),
        same="/dashboard/deliveries" + (f"?{urlencode({'q': typed})}" if typed else ""),
    )


@router.get("/live/rows")
async def get_live_rows(visit: SignedInVisit, request: Request) -> Response:
    """Say which attempts are made, as long as the page listens, its person is signed in and the server runs."""
    found = _session_of(visit)
    runtime, watch = runtime_of(request), request.app.state.change_watch
    query = parse(request.query_params.get("q", "").strip()[: MAX_LENGTH + 1])
    since_ms = _since(request)
    listener = Listener(
        workspace_id=found.workspace_id,
        session_id=found.session_id,
        user_id=found.user_id,
        role=found.role,
        topics=parse_topics("deliveries", role=found.role),
        since_ms=since_ms,
    )
    reader = AttemptReader(found.workspace_id, query, newest=lowest_uuid_at(since_ms + 1))
    watch.join(listener)
    return LeavingResponse(say_rows(runtime.engine, listener, reader), leave=lambda: watch.leave(listener))


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
    """Return since when the page wants to hear (Unix, ms), if that can be true; a broken stream goes on where it was."""
    now = runtime_of(request).clock.unix_ms()
    given = header_of(request, b"last-event-id") or request.query_params.get("since", "")
    since = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else now  # noqa: PLR2004 - digits
    return min(max(since, now - _FAR_MS), now)
