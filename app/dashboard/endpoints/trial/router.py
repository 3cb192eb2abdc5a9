"""The test page of an endpoint: send one event to it alone, and see what came back."""

from __future__ import annotations

import json
import shlex

import msgspec
import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import runtime_of
from app.api.browser import PageRoute, SignedInVisit, see
from app.core import ids
from app.core.errors import Invalid, Malformed
from app.dashboard.endpoints.queries import require_row
from app.dashboard.endpoints.shown import show
from app.dashboard.endpoints.trial import queries
from app.dashboard.endpoints.trial.example import example_of
from app.dashboard.endpoints.trial.forgery import verdict_of
from app.dashboard.page import abilities_of, act, open_page
from app.endpoints import trial
from app.endpoints.trial import DEFAULT_TYPE, FORGED_TYPE, FORGERY, GREETING
from app.events.envelope import read_event

# A signature that no key makes: 32 bytes of zeros.
_FORGED = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
_MAX_TYPE_CHARS = 128

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/endpoints/{endpoint}/test")
async def get_test(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Show the form, and what became of a test that was sent."""
    return await _page(request, visit, endpoint)


@router.post("/endpoints/{endpoint}/test")
async def post_test(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Send a test; or fill the form in with an example of a type."""
    abilities_of(request, visit).require_operate()
    event_type = visit.form.get("type", "").strip()[:_MAX_TYPE_CHARS]
    if "example" in visit.form:
        return await _page(request, visit, endpoint, event_type=event_type)
    typed = visit.form.get("data", "").replace("\r\n", "\n").strip()
    try:
        data = _checked(event_type or DEFAULT_TYPE, typed)
    except (Invalid, Malformed) as error:
        faults = (
            {fault.pointer.split("/")[1]: fault.detail for fault in error.errors}
            if isinstance(error, Invalid) and error.errors
            else {"data": error.detail}
        )
        return await _page(request, visit, endpoint, event_type=event_type, data=typed, faults=faults)
    return await _send(request, visit, endpoint, event_type=event_type or None, data=data)


@router.post("/endpoints/{endpoint}/ping")
async def post_ping(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Send the smallest test there is."""
    abilities_of(request, visit).require_operate()
    return await _send(request, visit, endpoint, event_type=None, data=GREETING)


@router.post("/endpoints/{endpoint}/forge")
async def post_forge(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Send a test with a bad signature: a receiver that verifies refuses it."""
    abilities_of(request, visit).require_operate()
    return await _send(request, visit, endpoint, event_type=FORGED_TYPE, data=FORGERY)


async def _send(
    request: Request, visit: SignedInVisit, endpoint: str, *, event_type: str | None, data: bytes
) -> Response:
    async with act(request, visit) as (session, caller):
        delivery = await trial.send_test(
            session, caller, endpoint, clock=runtime_of(request).clock, event_type=event_type, data=data
        )
        sent = ids.to_text(ids.DELIVERY, delivery.id)
    request.app.state.waker.wake()
    return see(f"/dashboard/endpoints/{endpoint}/test?sent={sent}#result")


async def _page(
    request: Request,
    visit: SignedInVisit,
    endpoint: str,
    *,
    event_type: str | None = None,
    data: str | None = None,
    faults: dict[str, str] | None = None,
) -> Response:
    async with open_page(request, visit) as opened:
        row = await require_row(opened.session, opened.caller, endpoint)
        sent, result = opened.query.get("sent"), None
        if sent and event_type is None:
            result = await queries.read_result(opened.session, opened.caller, row.endpoint.id, sent)
        shown_test = result if result and not result.forged else None
        wanted = shown_test.event_type if shown_test else event_type or opened.query.get("type", "")
        types = await queries.read_types(opened.session, opened.caller, wanted=wanted)
    if data is None:
        data = (
            _pretty(shown_test.data)
            if shown_test and shown_test.data is not None
            else _example(wanted, types)
        )
    shown = show(row, opened.caller)
    return opened.page(
        "endpoints/test.html",
        nav="endpoints",
        status=422 if faults else 200,
        tab="test",
        endpoint=shown,
        result=result,
        verdict=verdict_of(result.status, succeeded=result.outcome == "succeeded")
        if result and result.forged and result.outcome
        else None,
        names=types.names,
        known=wanted in types.names,
        type=wanted,
        data=data,
        faults=faults or {},
        default_type=DEFAULT_TYPE,
        forged=_forged_request(shown.url),
    )


def _checked(event_type: str, typed: str) -> bytes:
    """Return the bytes of a test's data, checked as a published event's are.

    Raises:
        Invalid, Malformed: they could not be published.

    """
    data = typed.encode()
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid.at("/data", f"This is not JSON: {error}. Correct it and send it again.") from None
    read_event(b'{"type":%s,"data":%s}' % (orjson.dumps(event_type), data))
    return data


def _example(wanted: str, types: queries.Types) -> str:
    if types.example is not None:
        return _pretty(types.example)
    if types.schema is not None:
        return json.dumps(example_of(types.schema), indent=2, ensure_ascii=False)
    return _pretty(GREETING) if wanted in {"", DEFAULT_TYPE} else "{\n  \n}"


def _pretty(data: bytes) -> str:
    """Return JSON in lines; every number keeps its digits."""
    return msgspec.json.format(data, indent=2).decode()


def _forged_request(url: str) -> str:
    """Return a command that sends what a forger would: all headers, and a signature that no key makes."""
    body = '{"type":"bellwire.test","timestamp":"2026-01-31T12:00:00.000Z","data":{"message":"forged"}}'
    parts = (
        f"curl -i -X POST {shlex.quote(url)}",
        "-H 'content-type: application/json'",
        "-H 'webhook-id: evt_forged'",
        '-H "webhook-timestamp: $(date +%s)"',
        f"-H 'webhook-signature: {_FORGED}'",
        f"-d {shlex.quote(body)}",
    )
    return " \\\n  ".join(parts)
