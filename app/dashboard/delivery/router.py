"""`/dashboard/deliveries/{id}`: one delivery, from its event to the last byte of its last attempt."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import runtime_of
from app.api.browser import SignedInVisit, see
from app.core import ids
from app.core.errors import Conflict, NotFound
from app.dashboard.delivery import queries
from app.dashboard.delivery.exchange import redirect_of
from app.dashboard.delivery.har import har_of
from app.dashboard.delivery.steps import key_of
from app.dashboard.delivery.view import ShownAttempt, attempt_number, read_attempt, read_page
from app.dashboard.page import abilities_of, act, make_router, open_page
from app.deliveries.resolve import MAX_REASON_CHARS, read_reason, resolve_delivery
from app.deliveries.service import cancel_delivery, retry_delivery
from app.endpoints.service import update_endpoint

router = make_router()

_DONE = {
    "retried": "It is due now, with a fresh schedule and deadline; the webhook-id stays the same.",
    "cancelled": "The delivery is cancelled: nothing more is sent.",
    "cancelling": "It is being sent at this moment, and ends as cancelled when the attempt is over.",
    "resolved": "It is marked as resolved: no dead letter any more, and cancelled on record. It can still be sent again.",
    "saved": "The redirect's target is the endpoint's URL now. Retry the delivery to try it.",
}


@router.get("/deliveries/{delivery}")
async def get_delivery(delivery: str, visit: SignedInVisit, request: Request) -> Response:
    """Show a delivery: its timeline, and one attempt in full."""
    async with open_page(request, visit) as opened:
        page = await read_page(opened, delivery)
    return opened.page(
        "delivery/delivery.html",
        nav="deliveries",
        page=page,
        notice=_DONE.get(opened.query.get("done", "")),
        most_reason_characters=MAX_REASON_CHARS,
    )


@router.post("/deliveries/{delivery}/retry")
async def post_retry(delivery: str, visit: SignedInVisit, request: Request) -> Response:
    """Send a delivery at once."""
    abilities_of(request, visit).require_operate()
    async with act(request, visit) as (session, caller):
        await retry_delivery(session, caller, delivery, runtime=runtime_of(request))
    request.app.state.waker.wake()
    return _see(delivery, done="retried")


@router.post("/deliveries/{delivery}/cancel")
async def post_cancel(delivery: str, visit: SignedInVisit, request: Request) -> Response:
    """Cancel a delivery."""
    abilities_of(request, visit).require_operate()
    async with act(request, visit) as (session, caller):
        _, final = await cancel_delivery(session, caller, delivery)
    return _see(delivery, done="cancelled" if final else "cancelling")


@router.post("/deliveries/{delivery}/resolve")
async def post_resolve(delivery: str, visit: SignedInVisit, request: Request) -> Response:
    """Mark a dead delivery as resolved; a line that it held up goes on."""
    abilities_of(request, visit).require_operate()
    reason = read_reason(visit.form.get("reason", ""))
    async with act(request, visit) as (session, caller):
        await resolve_delivery(session, caller, delivery, reason=reason)
    request.app.state.waker.wake()
    return _see(delivery, done="resolved")


@router.post("/deliveries/{delivery}/save-url")
async def post_save_url(delivery: str, visit: SignedInVisit, request: Request) -> Response:
    """Save where an attempt was redirected to as the endpoint's URL; the target comes from the record alone."""
    abilities_of(request, visit).require_administer()
    key = visit.form.get("attempt", "")
    async with act(request, visit) as (session, caller):
        found = await queries.require_delivery(session, caller, delivery)
        number = attempt_number(key)
        attempts = await queries.list_attempts(session, found, shown={number} if number else ())
        target = next((redirect_of(each) for each in attempts if key_of(each) == key), None)
        if target is None:
            raise Conflict(
                "This attempt was not redirected to an address that could be an endpoint's, so nothing was saved. "
                "Set the URL in the endpoint's settings."
            )
        endpoint = ids.to_text(ids.ENDPOINT, found.endpoint.id)
        await update_endpoint(session, caller, endpoint, runtime=runtime_of(request), changes={"url": target})
    return _see(delivery, done="saved")


@router.get("/deliveries/{delivery}/attempts/{attempt}/har")
async def get_har(delivery: str, attempt: str, visit: SignedInVisit, request: Request) -> Response:
    """Return an attempt as an HTTP archive."""
    shown = await _read_attempt(delivery, attempt, visit, request)
    content = har_of(shown.attempt, shown.sent, shown.received)
    return _attachment(content, name=f"{delivery}-{shown.key}.har", media_type="application/json")


@router.get("/deliveries/{delivery}/attempts/{attempt}/request-body")
async def get_request_body(delivery: str, attempt: str, visit: SignedInVisit, request: Request) -> Response:
    """Return the bytes that were sent."""
    shown = await _read_attempt(delivery, attempt, visit, request)
    if shown.sent.body is None:
        raise NotFound("The event's data is gone, so its body cannot be made again.")
    return _attachment(shown.sent.body, name=f"{delivery}-request.json")


@router.get("/deliveries/{delivery}/attempts/{attempt}/response-body")
async def get_response_body(delivery: str, attempt: str, visit: SignedInVisit, request: Request) -> Response:
    """Return the bytes that came back, as far as they were kept."""
    shown = await _read_attempt(delivery, attempt, visit, request)
    if shown.received is None:
        raise NotFound("Nothing came back on this attempt, so there is no body.")
    return _attachment(shown.received.body, name=f"{delivery}-{shown.key}-response.bin")


async def _read_attempt(delivery: str, attempt: str, visit: SignedInVisit, request: Request) -> ShownAttempt:
    async with open_page(request, visit) as opened:
        shown = await read_attempt(opened, delivery, attempt)
    if shown is None:
        raise NotFound(f"This delivery has no attempt {attempt[:16]!r}. Its page lists those that it has.")
    return shown


def _attachment(content: bytes, *, name: str, media_type: str = "application/octet-stream") -> Response:
    """Return a file to save. A browser never shows it: what a receiver wrote is nothing to run here."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(content, media_type=media_type, headers=headers)


def _see(delivery: str, *, done: str) -> Response:
    return see(f"/dashboard/deliveries/{delivery}?done={done}")
