"""`/dashboard/system`: whether everything that Bellwire consists of is well, and how it is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from app import __version__
from app.api.browser import SignedInVisit
from app.dashboard.abilities import ADMINS
from app.dashboard.overview.queries import Signs
from app.dashboard.overview.vital_signs import SCHEDULER_LATE, nobody_works
from app.dashboard.page import make_router, open_page
from app.dashboard.system.configuration import settings_shown
from app.dashboard.system.queries import read_system
from app.health.checks import WORKER_SILENT_SECONDS

if TYPE_CHECKING:
    from app.health.checks import HealthChecks

router = make_router()


@router.get("/system")
async def get_system(visit: SignedInVisit, request: Request) -> Response:
    """Show the parts of the installation; its tables and settings to admins only."""
    health: HealthChecks = request.app.state.health
    async with open_page(request, visit) as opened:
        system = await read_system(opened.session, opened.caller)
        checks = await health.run()
    alive = [
        worker
        for worker in system.workers
        if (opened.now - worker.beat_at).total_seconds() < WORKER_SILENT_SECONDS
    ]
    last = max((worker.beat_at for worker in system.workers), default=None)
    late = system.counted_until is None or opened.now - system.counted_until > SCHEDULER_LATE
    return opened.page(
        "system/system.html",
        nav="system",
        system=system,
        checks=checks,
        alive=alive,
        scheduler_late=late,
        alarm=nobody_works(Signs(workers=len(alive), beat_at=last, counted_until=None), opened.now),
        version=__version__,
        settings=settings_shown(opened.runtime.settings) if opened.found.role in ADMINS else None,
        retention_days=opened.runtime.settings.retention_days,
        audit_retention_days=opened.runtime.settings.audit_retention_days,
    )
