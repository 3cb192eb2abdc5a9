"""`/dashboard/applications`: the consumers of the workspace, and who of them takes up how much."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import runtime_of
from app.api.browser import SignedInVisit, see
from app.applications import service
from app.applications.schemas import ApplicationCreate, ApplicationUpdate
from app.applications.service import RESERVED_UIDS
from app.core import ids
from app.core.errors import Conflict, Invalid
from app.core.ids import lowest_uuid_at
from app.dashboard import figures
from app.dashboard.applications import queries
from app.dashboard.endpoints.shown import state_of
from app.dashboard.forms import faults_of, validated
from app.dashboard.page import abilities_of, act, make_router, open_page
from app.endpoints.targets import shown_url
from app.models import OPERATIONS_APPLICATION_UID
from app.stats.rankings import read_applications
from app.stats.rollups import read_series
from app.stats.spans import Span

# From this share of the volume on an application is named as the noisy one, if there are others.
NOISY_SHARE = 0.5
_NOTICES = {
    "created": "The application is there. Give its endpoints next.",
    "renamed": "The application is saved.",
    "deleted": "The application is deleted: its endpoints are closed, what waited is cancelled, its keys are revoked. What "
    "was delivered stays on record.",
}

router = make_router()


@router.get("/applications")
async def get_applications(visit: SignedInVisit, request: Request) -> Response:
    """List the applications, the one with the largest volume first."""
    async with open_page(request, visit) as opened:
        span = Span.ending(opened.span.name, opened.now)
        found = await read_applications(opened.session, opened.caller, span=span)
        uses = await queries.read_uses(opened.session, opened.caller)
    wanted = opened.query.get("q", "").strip()[:200]
    listed = [each for each in found if _matches(each, wanted)] if wanted else found
    noisy = (
        found[0] if len(found) > 1 and found[0].volume_share >= NOISY_SHARE and found[0].attempts else None
    )
    return opened.page(
        "applications/list.html",
        nav="applications",
        applications=[
            (each, ids.to_text(ids.APPLICATION, each.id), uses.endpoints.get(str(each.id), 0))
            for each in listed
        ],
        wanted=wanted,
        noisy=noisy,
        operations=OPERATIONS_APPLICATION_UID,
        quotas=uses.quotas.over(opened.runtime.settings),
        in_use=sum(uses.endpoints.values()),
        notice=_NOTICES.get(opened.query.get("done", "")),
    )


@router.get("/applications/new")
async def get_new(visit: SignedInVisit, request: Request) -> Response:
    """Show the form of a new application."""
    abilities_of(request, visit).require_administer()
    return await _new_page(request, visit, {}, {})


@router.post("/applications")
async def post_applications(visit: SignedInVisit, request: Request) -> Response:
    """Make an application, or show the form again."""
    abilities_of(request, visit).require_administer()
    typed = {name: visit.form.get(name, "").strip() for name in ("name", "uid")}
    try:
        body = validated(ApplicationCreate, _given(typed))
        async with act(request, visit) as (session, caller):
            made = await service.create_application(
                session, caller, clock=runtime_of(request).clock, name=body.name, uid=body.uid, metadata={}
            )
            reference = ids.to_text(ids.APPLICATION, made.id)
    except (Invalid, Conflict) as error:
        return await _new_page(request, visit, typed, _faults(error), status=422)
    return see(f"/dashboard/applications/{reference}?done=created")


@router.get("/applications/{application}")
async def get_application(application: str, visit: SignedInVisit, request: Request) -> Response:
    """Show one application: its figures, its endpoints, and what it uses of the quotas."""
    return await _page(request, visit, application)


@router.post("/applications/{application}")
async def post_application(application: str, visit: SignedInVisit, request: Request) -> Response:
    """Rename an application, or show its page again."""
    abilities_of(request, visit).require_administer()
    typed = {name: visit.form.get(name, "").strip() for name in ("name", "uid")}
    try:
        changes = validated(ApplicationUpdate, _given(typed)).changes()
        async with act(request, visit) as (session, caller):
            await service.update_application(session, caller, application, changes=changes)
    except (Invalid, Conflict) as error:
        return await _page(request, visit, application, typed=typed, faults=_faults(error), status=422)
    return see(f"/dashboard/applications/{application}?done=renamed")


@router.post("/applications/{application}/delete")
async def post_delete(application: str, visit: SignedInVisit, request: Request) -> Response:
    """Delete an application whose name somebody has typed."""
    abilities_of(request, visit).require_administer()
    async with act(request, visit) as (session, caller):
        found = await service.require_application(session, caller, application)
        if visit.form.get("typed", "").strip() != found.name.strip():
            raise Invalid(
                f"The application was not deleted: type its name, {found.name}, to show that you mean this one. Go back "
                "and try again."
            )
        await service.delete_application(session, caller, application)
    return see("/dashboard/applications?done=deleted")


async def _page(
    request: Request,
    visit: SignedInVisit,
    application: str,
    *,
    typed: dict[str, str] | None = None,
    faults: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    async with open_page(request, visit) as opened:
        since = opened.now - timedelta(seconds=queries.RATED_SECONDS)
        row = await queries.require_application(
            opened.session,
            opened.caller,
            application,
            lowest=lowest_uuid_at(int(since.timestamp() * 1000)),
        )
        span = Span.ending(opened.span.name, opened.now)
        series = await read_series(opened.session, opened.caller, span=span, application_id=row.id)
        ranked = await read_applications(opened.session, opened.caller, span=span)
    place = next((at for at, each in enumerate(ranked) if each.id == row.id), None)
    quotas = row.quotas.over(opened.runtime.settings)
    events, size = row.per_second(now=opened.now)
    return opened.page(
        "applications/application.html",
        nav="applications",
        status=status,
        application=row,
        id_text=application,
        endpoints=[
            (each, shown_url(each.url, opened.caller), state_of(enabled=each.enabled, paused=each.paused))
            for each in row.endpoints
        ],
        most=queries.MOST_ENDPOINTS,
        totals=series.totals,
        before=series.preceding,
        figures=[figures.attempts_figure(series, span), figures.latency_figure(series, span)],
        ranked=ranked[place] if place is not None else None,
        place=place,
        others=len(ranked),
        quotas=quotas,
        events_per_second=events,
        bytes_per_second=size,
        reserved=row.uid in RESERVED_UIDS,
        typed=typed or {"name": row.name, "uid": row.uid or ""},
        faults=faults or {},
        notice=_NOTICES.get(opened.query.get("done", "")),
    )


async def _new_page(
    request: Request,
    visit: SignedInVisit,
    typed: dict[str, str],
    faults: dict[str, str],
    *,
    status: int = 200,
) -> Response:
    async with open_page(request, visit) as opened:
        pass
    return opened.page(
        "applications/new.html",
        nav="applications",
        status=status,
        typed={"name": "", "uid": ""} | typed,
        faults=faults,
    )


def _given(typed: dict[str, str]) -> dict[str, Any]:
    """Return what was typed by the API's names; without a uid there is none."""
    return {"name": typed["name"], "uid": typed["uid"] or None}


def _faults(error: Invalid | Conflict) -> dict[str, str]:
    """Return what is wrong, by field; a conflict is about the uid, but for what is reserved."""
    return faults_of(error, otherwise="uid") if isinstance(error, Invalid) else {"uid": error.detail}


def _matches(found: Any, wanted: str) -> bool:
    low = wanted.lower()
    return (
        low in found.name.lower()
        or low in (found.uid or "").lower()
        or wanted == ids.to_text(ids.APPLICATION, found.id)
    )
