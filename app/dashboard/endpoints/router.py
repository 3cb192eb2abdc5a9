"""`/dashboard/endpoints`: where deliveries go, how each endpoint does, and what holds it up."""

from __future__ import annotations

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from app.api.browser import SignedInVisit
from app.core.pagination import PageRequest
from app.dashboard import figures, small_charts
from app.dashboard.endpoints import queries
from app.dashboard.endpoints.drain import drain_of
from app.dashboard.endpoints.history import read_circuit
from app.dashboard.endpoints.moves import router as moves
from app.dashboard.endpoints.notices import NOTICES
from app.dashboard.endpoints.queries import Filters
from app.dashboard.endpoints.secret import router as secret
from app.dashboard.endpoints.settings import router as settings
from app.dashboard.endpoints.shown import show, show_circuit, show_limits
from app.dashboard.endpoints.trial import router as trial
from app.dashboard.page import make_router, open_page
from app.stats.rankings import read_endpoint_figures
from app.stats.rollups import read_series
from app.stats.spans import Span

STATES = ("active", "paused", "disabled")
CIRCUITS = ("closed", "open", "half_open")
MAX_TEXT_CHARS = 200
# Certificates are renewed a month before their end; what is nearer is said in the warning colour.
CERTIFICATE_SOON = timedelta(days=14)

router = make_router()
# Before the pages of one endpoint: `new` is no id.
for part in (settings, secret, trial, moves):
    router.include_router(part.router)


@router.get("/endpoints")
async def get_endpoints(visit: SignedInVisit, request: Request) -> Response:
    """List the endpoints of the workspace, newest first."""
    async with open_page(request, visit) as opened:
        filters = _filters_of(opened.query)
        page = await queries.list_endpoints(
            opened.session,
            opened.caller,
            filters=filters,
            page=PageRequest(cursor=opened.query.get("cursor")),
        )
        found = [row.id for row in page.rows]
        rows = await queries.read_rows(opened.session, opened.caller, found)
        done = await read_endpoint_figures(
            opened.session, opened.caller, found, span=Span.ending(opened.span.name, opened.now)
        )
    return opened.page(
        "endpoints/list.html",
        nav="endpoints",
        page=page,
        filters=filters,
        states=STATES,
        circuits=CIRCUITS,
        endpoints=[(show(row, opened.caller), done.get(row.endpoint.id)) for row in rows],
        spark=small_charts.spark,
        notice=NOTICES.get(opened.query.get("done", "")),
    )


@router.get("/endpoints/{endpoint}")
async def get_endpoint(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Show how one endpoint does: its charts, its circuit, what waits for it."""
    async with open_page(request, visit) as opened:
        row = await queries.require_row(opened.session, opened.caller, endpoint)
        history = await read_circuit(opened.session, opened.caller, row.endpoint.id)
        span = Span.ending(opened.span.name, opened.now)
        series = await read_series(opened.session, opened.caller, span=span, endpoint_id=row.endpoint.id)
    shown = show(row, opened.caller)
    return opened.page(
        "endpoints/overview.html",
        nav="endpoints",
        tab="overview",
        endpoint=shown,
        circuit=show_circuit(row, now=opened.now),
        certificate_soon=opened.now + CERTIFICATE_SOON,
        history=history,
        totals=series.totals,
        figures=[
            figures.attempts_figure(series, span),
            figures.latency_figure(series, span),
            *([figures.failures_figure(series, span)] if series.totals.failed else []),
        ],
        limits=show_limits(row),
        drain=drain_of(row, series, now=opened.now),
        notice=NOTICES.get(opened.query.get("done", "")),
    )


@router.get("/endpoints/{endpoint}/deliveries")
async def get_deliveries(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Show the newest deliveries of one endpoint; the list of deliveries has the rest."""
    async with open_page(request, visit) as opened:
        row = await queries.require_row(opened.session, opened.caller, endpoint)
        deliveries = await queries.read_newest_deliveries(opened.session, opened.caller, row.endpoint.id)
    return opened.page(
        "endpoints/deliveries.html",
        nav="endpoints",
        tab="deliveries",
        endpoint=show(row, opened.caller),
        deliveries=deliveries,
        most=queries.NEWEST_DELIVERIES,
    )


def _filters_of(query: dict[str, str]) -> Filters:
    """Return what an address asks for; what it spells wrongly narrows nothing."""
    text, application = query.get("q", "").strip(), query.get("application", "").strip()
    state, circuit = query.get("state", ""), query.get("circuit", "")
    return Filters(
        text=text[:MAX_TEXT_CHARS] or None,
        application=application[:MAX_TEXT_CHARS] or None,
        state=state if state in STATES else None,
        circuit=circuit if circuit in CIRCUITS else None,
        everything=query.get("types") == "all",
    )
