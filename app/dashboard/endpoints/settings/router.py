"""The settings of an endpoint, and the form of a new one: shown again with each fault at its field."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.browser import PageRoute, SignedInVisit, see
from app.applications.queries import find_application
from app.core import ids
from app.core.errors import Conflict, Invalid
from app.dashboard import once
from app.dashboard.endpoints.moves.router import host_of
from app.dashboard.endpoints.notices import NOTICES
from app.dashboard.endpoints.queries import require_row
from app.dashboard.endpoints.settings import form, queries
from app.dashboard.endpoints.settings.audience import audience_of, try_on
from app.dashboard.endpoints.settings.form import Typed
from app.dashboard.endpoints.settings.schedule import draw_schedule
from app.dashboard.endpoints.shown import show
from app.dashboard.page import OpenPage, abilities_of, act, open_page
from app.endpoints import service
from app.endpoints.filters import Filter, compile_filter
from app.endpoints.targets import check_url
from app.models import DEFAULT_APPLICATION_UID

_CHANGED_MEANWHILE = (
    "This endpoint was changed since you opened the page, by somebody else or in another tab. Nothing was saved. What you "
    "typed is still here: save again to put it over the change."
)

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/endpoints/new")
async def get_new(visit: SignedInVisit, request: Request) -> Response:
    """Show the form of a new endpoint."""
    abilities_of(request, visit).require_administer()
    typed = form.blank(request.query_params.get("application", DEFAULT_APPLICATION_UID))
    async with open_page(request, visit) as opened:
        seen = await _read(opened, None)
    return _new_page(opened, typed, seen)


@router.post("/endpoints")
async def post_endpoints(visit: SignedInVisit, request: Request) -> Response:
    """Make an endpoint, and lead to its secret; or show the form again."""
    abilities_of(request, visit).require_administer()
    typed = form.read(visit.form)
    faults, fault = dict(typed.faults), None
    async with open_page(request, visit) as opened:
        reference = typed.values["application"].strip()
        application = await find_application(opened.session, opened.caller, reference)
        seen = await _read(opened, application.id if application else None)
    if application is None:
        faults["application"] = f"There is no application {reference[:64]!r} here. Give the id or uid of one."
    if "check" in visit.form:
        return await _checked(opened, typed, seen, faults, page=_new_page)
    try:
        given = form.new_endpoint(typed)
        if not faults:
            async with act(request, visit) as (session, caller):
                made = await service.create_endpoint(
                    session, caller, runtime=opened.runtime, application=reference, given=given
                )
            reference = ids.to_text(ids.ENDPOINT, made.endpoint.id)
            once.hand_over(visit, opened.runtime, about=reference, secret=made.secret)
            return see(f"/dashboard/endpoints/{reference}/secret?done=created")
    except Invalid as error:
        faults |= form.by_field(error.errors, patterns=typed.patterns)
        fault = None if error.errors else error.detail
    except Conflict as error:
        fault = error.detail
    return _new_page(opened, typed, seen, faults=faults, fault=fault, status=422)


@router.get("/endpoints/{endpoint}/settings")
async def get_settings(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Show the settings: as a form to who may change them."""
    async with open_page(request, visit) as opened:
        row = await require_row(opened.session, opened.caller, endpoint)
        typed = form.stored(row, keyring=opened.runtime.keyring)
        seen = await _read(opened, row.endpoint.application_id)
    return _settings_page(opened, typed, seen, row=row, notice=NOTICES.get(opened.query.get("done", "")))


@router.post("/endpoints/{endpoint}/settings")
async def post_settings(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Save what was changed, or show the form again."""
    abilities_of(request, visit).require_administer()
    typed = form.read(visit.form)
    faults, fault = dict(typed.faults), None
    async with open_page(request, visit) as opened:
        row = await require_row(opened.session, opened.caller, endpoint)
        before = form.stored(row, keyring=opened.runtime.keyring)
        seen = await _read(opened, row.endpoint.application_id)
    values: dict[str, Any] = {"row": row}
    if "check" in visit.form:
        return await _checked(opened, typed, seen, faults, page=_settings_page, **values)
    try:
        changes = form.changed(typed, before)
        if visit.form.get("version") != str(row.endpoint.settings_version):
            fault = _CHANGED_MEANWHILE
        elif not faults and not changes:
            return see(f"/dashboard/endpoints/{endpoint}/settings?done=nothing")
        elif not faults:
            async with act(request, visit) as (session, caller):
                await service.update_endpoint(
                    session, caller, endpoint, runtime=opened.runtime, changes=changes
                )
            request.app.state.waker.wake()
            return see(f"/dashboard/endpoints/{endpoint}/settings?done=saved")
    except Invalid as error:
        faults |= form.by_field(error.errors, patterns=typed.patterns)
        fault = None if error.errors else error.detail
    except Conflict as error:
        fault = error.detail
    return _settings_page(opened, typed, seen, faults=faults, fault=fault, status=422, **values)


async def _read(opened: OpenPage, application_id: Any) -> dict[str, Any]:
    """Return what the choice of events is held against; samples only where somebody asks for a trial."""
    session, caller, span = opened.session, opened.caller, opened.span
    published = await queries.read_published(session, caller, application_id, span=span)
    samples = None
    if "check" in opened.visit.form and application_id is not None:
        samples = await queries.read_samples(
            session, caller, application_id, span=span, reference=opened.visit.form.get("event", "").strip()
        )
    return {"published": published, "samples": samples}


async def _checked(
    opened: OpenPage,
    typed: Typed,
    seen: dict[str, Any],
    faults: dict[str, str],
    *,
    page: Callable[..., Response],
    **values: Any,
) -> Response:
    """Show what the form would do, and save nothing."""
    url = typed.values["url"].strip()
    if url:
        try:
            check_url(url, settings=opened.runtime.settings)
        except Invalid as error:
            faults |= form.by_field(error.errors, patterns=typed.patterns)
    content_filter: Filter | None = None
    if typed.filter is not None:
        try:
            content_filter = compile_filter(typed.filter)
        except Invalid as error:
            faults |= form.by_field(error.errors, patterns=typed.patterns)
    tried = None
    if "filter" not in faults and seen["samples"] is not None:
        tried = await asyncio.to_thread(
            try_on, seen["samples"], patterns=typed.patterns, content_filter=content_filter
        )
    return page(opened, typed, seen, faults=faults, tried=tried, checked=True, **values)


def _new_page(opened: OpenPage, typed: Typed, seen: dict[str, Any], **values: Any) -> Response:
    return _form_page("endpoints/new.html", opened, typed, seen, **values)


def _settings_page(
    opened: OpenPage, typed: Typed, seen: dict[str, Any], *, row: Any, **values: Any
) -> Response:
    endpoint = show(row, opened.caller)
    return _form_page(
        "endpoints/settings.html",
        opened,
        typed,
        seen,
        tab="settings",
        endpoint=endpoint,
        row=row,
        host=host_of(endpoint.url),
        version=row.endpoint.settings_version,
        selectors=row.selectors,
        **values,
    )


def _form_page(
    template: str, opened: OpenPage, typed: Typed, seen: dict[str, Any], **values: Any
) -> Response:
    settings = opened.runtime.settings
    defaults: dict[str, Any] = {"faults": {}, "fault": None, "tried": None, "checked": False, "status": 200}
    schedule = typed.given.get("retry_schedule") or list(settings.retry_schedule)
    age = typed.given.get("max_age_seconds") or settings.max_age_seconds
    return opened.page(
        template,
        nav="endpoints",
        typed=typed.values,
        audience=audience_of(typed.patterns, seen["published"]),
        schedule=draw_schedule(schedule, deadline_seconds=age),
        own_schedule=bool(typed.given.get("retry_schedule")),
        event=opened.visit.form.get("event", ""),
        **(defaults | values),
    )
