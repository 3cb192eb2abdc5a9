"""`/dashboard/system`: whether everything that Bellwire consists of is well, and how it is set up."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app import __version__
from app.api.browser import SignedInVisit
from app.core.egress import EgressDenied
from app.core.errors import Forbidden
from app.core.outbound import policy_of
from app.dashboard.abilities import ADMINS
from app.dashboard.overview.queries import Signs
from app.dashboard.overview.vital_signs import SCHEDULER_LATE, nobody_works
from app.dashboard.page import make_router, open_page
from app.dashboard.system.configuration import settings_shown
from app.dashboard.system.diagnostics import diagnostics_of
from app.dashboard.system.queries import read_system
from app.health.checks import WORKER_SILENT_SECONDS

if TYPE_CHECKING:
    from app.core.settings import Settings
    from app.health.checks import HealthChecks

MAX_TARGET_CHARS = 2_048

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
    settings = opened.runtime.settings
    admin = opened.found.role in ADMINS
    target = opened.query.get("target", "").strip()[:MAX_TARGET_CHARS] if admin else ""
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
        tab="system",
        settings=settings_shown(settings) if admin else None,
        retention_days=settings.retention_days,
        kept_since=opened.now - timedelta(days=settings.retention_days),
        audit_retention_days=settings.audit_retention_days,
        audit_kept_since=opened.now - timedelta(days=settings.audit_retention_days),
        egress_allow=settings.egress_allow,
        egress_deny=settings.egress_deny,
        egress_proxied=bool(settings.egress_proxy.get_secret_value()),
        target=target,
        refusal=_refusal(target, settings) if target else None,
    )


@router.get("/system/diagnostics")
async def get_diagnostics(visit: SignedInVisit, request: Request) -> Response:
    """Return what the page shows to admins as a file, without secrets."""
    health: HealthChecks = request.app.state.health
    async with open_page(request, visit) as opened:
        if opened.found.role not in ADMINS:
            raise Forbidden(
                "Diagnostics name every setting and table, so they are for admins of the workspace, and nothing was done. "
                "Ask one of them for the file."
            )
        system = await read_system(opened.session, opened.caller)
        checks = await health.run()
    found = diagnostics_of(
        system,
        checks,
        settings_shown(opened.runtime.settings),
        version=__version__,
        environment=opened.environment,
        now=opened.now,
    )
    return Response(
        orjson.dumps(found, option=orjson.OPT_INDENT_2),
        media_type="application/json",
        headers={
            "Content-Disposition": f'attachment; filename="bellwire-diagnostics-{opened.now:%Y-%m-%dT%H%M}.json"',
            "Cache-Control": "no-store",
        },
    )


def _refusal(target: str, settings: Settings) -> str | None:
    """Return why nothing may be delivered to a URL; None: it may, as far as its text says."""
    try:
        policy_of(settings).check_url(target)
    except EgressDenied as denied:
        return denied.reason
    return None
