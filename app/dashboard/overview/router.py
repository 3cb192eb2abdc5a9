"""`/dashboard/`: what goes on, and what needs attention."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from app.access.account import asks_for_current
from app.api.browser import SignedInVisit, see
from app.applications.service import require_application
from app.core import ids
from app.core.errors import NotFound
from app.dashboard import figures, words
from app.dashboard.events.publishing import publish
from app.dashboard.frame import address
from app.dashboard.overview.attention import MOST_INCIDENTS, rows_of
from app.dashboard.overview.cards import cards_of
from app.dashboard.overview.first_steps import SAMPLE_TYPE, first_steps_of, sample_body
from app.dashboard.overview.queries import read_present
from app.dashboard.overview.vital_signs import nobody_works, signs_of
from app.dashboard.page import OpenPage, abilities_of, make_router, open_page
from app.events.envelope import read_event
from app.stats.rankings import read_incidents
from app.stats.rollups import read_series
from app.stats.spans import Span

if TYPE_CHECKING:
    from app.health.checks import HealthChecks

# The broker answers a ping in a millisecond; one that does not is no reason to wait for the page.
BROKER_PATIENCE_SECONDS = 0.05

router = make_router()


@router.get("/")
async def get_overview(visit: SignedInVisit, request: Request) -> Response:
    """Show the figures of the workspace, or of one application."""
    wanted = request.query_params.get("application") or None
    application_id = ids.from_text(ids.APPLICATION, wanted) if wanted else None
    if wanted and application_id is None:
        return await _by_id(request, visit, wanted)
    health: HealthChecks = request.app.state.health
    broker = await health.look_at_broker(patience=BROKER_PATIENCE_SECONDS)
    async with open_page(request, visit) as opened:
        session, caller = opened.session, opened.caller
        span = Span.ending(opened.span.name, opened.now)
        began = time.perf_counter()
        present = await read_present(session, caller, span=span, application_id=application_id)
        database_ms = (time.perf_counter() - began) * 1000
        if application_id is not None and present.application_name is None:
            raise NotFound(f"There is no application {wanted!r} in this workspace. Choose one from the list.")
        series = await read_series(session, caller, span=span, application_id=application_id)
        incidents = await read_incidents(
            session, caller, span=span, limit=MOST_INCIDENTS, application_id=application_id
        )
    kept = {"span_name": opened.span.name, "span_words": opened.span.words}
    return opened.page(
        "overview/overview.html",
        nav="overview",
        notice=_notice(opened),
        # Who came by a link may set a password without the old one, for a while.
        may_set_password=not asks_for_current(opened.found, opened.runtime),
        came_by_link=opened.query.get("done") == "link",
        application=present.application_name,
        applications=[(ids.to_text(ids.APPLICATION, each.id), each.name) for each in present.applications],
        alarm=nobody_works(present.signs, opened.now),
        signs=signs_of(present.signs, broker, database_ms=database_ms, now=opened.now),
        firsts=present.firsts,
        steps=first_steps_of(present.firsts, caller, base_url=opened.base_url, now=opened.now),
        sample_type=SAMPLE_TYPE,
        cards=cards_of(
            series,
            present.waiting,
            opened.counts if application_id is None else None,
            query=opened.query,
            **kept,
        ),
        waiting=present.waiting,
        rows=rows_of(incidents, caller, **kept),
        charts=[
            figures.attempts_figure(series, span),
            figures.latency_figure(series, span),
            figures.backlog_figure(present.backlog, span),
            figures.failures_figure(series, span),
        ],
    )


@router.post("/sample")
async def post_sample(visit: SignedInVisit, request: Request) -> Response:
    """Publish a sample event, in the way in which a program's is published."""
    abilities_of(request, visit).require_operate()
    body = sample_body(
        event_type=visit.form.get("type", "").strip() or SAMPLE_TYPE,
        application=visit.form.get("application") or None,
    )
    published = await publish(request, visit, read_event(body), size=len(body))
    event_id = ids.to_text(ids.EVENT, published.id)
    return see(f"/dashboard/?done=sample&event={event_id}&endpoints={published.deliveries}")


async def _by_id(request: Request, visit: SignedInVisit, wanted: str) -> Response:
    """Lead to the address with the application's id, where its own name for it was given."""
    async with open_page(request, visit) as opened:
        found = await require_application(opened.session, opened.caller, wanted)
        name = ids.to_text(ids.APPLICATION, found.id)
    return see(address(opened.path, opened.query, application=name))


def _notice(opened: OpenPage) -> str | None:
    query = opened.query
    if query.get("done") != "sample" or ids.from_text(ids.EVENT, query.get("event", "")) is None:
        return None
    count = query.get("endpoints", "")
    if count in {"", "0"} or not count.isdecimal():
        return (
            f"The event {query['event']} is accepted. No endpoint wants its type, so it goes nowhere: create an "
            "endpoint, or let one have this type."
        )
    return f"The event {query['event']} is accepted and goes to {words.plural(int(count[:6]), 'endpoint')}."
