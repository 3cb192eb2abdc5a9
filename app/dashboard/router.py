"""`/dashboard`: all of its pages, and what is none of them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.browser import SignedInVisit, see
from app.api.redirects import safe_next
from app.api.theme import THEME_COOKIE, THEMES
from app.core.errors import NotFound
from app.dashboard import assets, frame
from app.dashboard.applications import router as applications
from app.dashboard.audit import router as audit
from app.dashboard.dead_letters import router as dead_letters
from app.dashboard.deliveries import router as deliveries
from app.dashboard.delivery import router as delivery
from app.dashboard.endpoints import router as endpoints
from app.dashboard.events import router as events
from app.dashboard.keys import router as keys
from app.dashboard.live import router as live
from app.dashboard.overview import router as overview
from app.dashboard.page import make_router
from app.dashboard.people import router as people
from app.dashboard.saved_views import router as saved_views
from app.dashboard.system import router as system

_YEAR = 365 * 86_400

frame.install()
own = make_router()


@own.post("/theme")
async def post_theme(visit: SignedInVisit) -> Response:
    """Keep the colours that this browser is to have; the script does the same without a load."""
    theme = visit.form.get("theme", "")
    if theme in THEMES:
        visit.set_cookie(THEME_COOKIE, theme, seconds=_YEAR)
    return see(safe_next(visit.form.get("next")))


@own.get("/{rest:path}")
async def get_nothing(rest: str, visit: SignedInVisit, request: Request) -> Response:  # noqa: ARG001 - a page needs its visit
    """Say that there is no such page."""
    raise NotFound(
        f"There is no page {request.url.path[:100]!r}. It may have been moved or typed wrongly: start at the overview."
    )


def routers() -> list[APIRouter]:
    """Return the routers of all pages; what no page takes comes last."""
    return [
        assets.router,
        overview.router,
        events.router,
        deliveries.router,
        delivery.router,
        dead_letters.router,
        live.router,
        endpoints.router,
        applications.router,
        keys.router,
        audit.router,
        system.router,
        people.router,
        saved_views.router,
        own,
    ]
