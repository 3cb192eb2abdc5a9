"""The signing secret of an endpoint: masked, shown to admins for a moment, replaced with a grace, verified with."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import runtime_of
from app.api.browser import PageRoute, RecentVisit, SignedInVisit, see
from app.core.errors import Conflict, Invalid, NotFound
from app.dashboard import once
from app.dashboard.delivery.snippets import snippets as verifying
from app.dashboard.endpoints.notices import NOTICES
from app.dashboard.endpoints.queries import require_row
from app.dashboard.endpoints.secret import queries
from app.dashboard.endpoints.secret.snippets import SNIPPETS
from app.dashboard.endpoints.shown import show
from app.dashboard.page import abilities_of, act, open_page
from app.endpoints import secrets
from app.endpoints.secrets import public_key_of

# Whoever looks over a shoulder has this long. The script hides it; without one it goes with the page.
SHOWN_SECONDS = 30
GRACES = {
    0: "none: the old one stops at once",
    3_600: "1 hour",
    86_400: "24 hours",
    604_800: "7 days",
}
# How the code of other languages is called for a kind of signature.
_KINDS = {"hmac-sha256": "hmac", "ed25519": "ed25519"}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/endpoints/{endpoint}/secret")
async def get_secret(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Show which keys sign, and a secret that was just made or asked for."""
    return await _page(request, visit, endpoint)


@router.post("/endpoints/{endpoint}/secret/reveal")
async def post_reveal(endpoint: str, visit: RecentVisit, request: Request) -> Response:
    """Show the secret on the next page. Who asked is on record."""
    abilities_of(request, visit).require_administer()
    runtime = runtime_of(request)
    async with act(request, visit) as (session, caller):
        found = await secrets.reveal_secret(session, caller, endpoint, keyring=runtime.keyring)
    once.hand_over(visit, runtime, about=endpoint, secret=found.secret)
    return see(f"/dashboard/endpoints/{endpoint}/secret?done=revealed")


@router.post("/endpoints/{endpoint}/secret/rotate")
async def post_rotate(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Put another secret in the place of the present one, and show it on the next page."""
    abilities_of(request, visit).require_administer()
    runtime = runtime_of(request)
    grace = visit.form.get("grace", "")
    if grace not in map(str, GRACES):
        return await _page(
            request, visit, endpoint, fault="Choose one of the graces; nothing was rotated.", status=422
        )
    try:
        async with act(request, visit) as (session, caller):
            secret = await secrets.rotate_secret(
                session,
                caller,
                endpoint,
                clock=runtime.clock,
                keyring=runtime.keyring,
                grace_seconds=int(grace),
                secret=visit.form.get("secret", "").strip() or None,
            )
    except (Invalid, Conflict) as error:
        return await _page(request, visit, endpoint, fault=error.detail, status=422)
    once.hand_over(visit, runtime, about=endpoint, secret=secret)
    return see(f"/dashboard/endpoints/{endpoint}/secret?done=rotated")


@router.post("/endpoints/{endpoint}/secret/revoke-previous")
async def post_revoke(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Let only the current secret sign from now on."""
    abilities_of(request, visit).require_administer()
    async with act(request, visit) as (session, caller):
        await secrets.revoke_previous(session, caller, endpoint)
    return see(f"/dashboard/endpoints/{endpoint}/secret?done=revoked")


@router.get("/endpoints/{endpoint}/public-key.txt")
async def get_public_key(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Return the public key of an ed25519 endpoint, as a file."""
    async with open_page(request, visit) as opened:
        row = await require_row(opened.session, opened.caller, endpoint)
        keys = await queries.read_keys(opened.session, row.endpoint.id)
    public = public_key_of(keys[0], keyring=opened.runtime.keyring) if keys else None
    if public is None:
        raise NotFound(
            "This endpoint signs with HMAC-SHA256, which has no public key. Its receiver holds the secret itself."
        )
    return Response(
        public + "\n",
        media_type="text/plain; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{endpoint}.pub.txt"',
            "Cache-Control": "no-store",
        },
    )


async def _page(
    request: Request, visit: SignedInVisit, endpoint: str, *, fault: str | None = None, status: int = 200
) -> Response:
    async with open_page(request, visit) as opened:
        row = await require_row(opened.session, opened.caller, endpoint)
        keys = await queries.read_keys(opened.session, row.endpoint.id)
        signed = await queries.read_signed(opened.session, opened.caller, row.endpoint.id)
    shown = once.take(request, visit, opened.runtime, about=endpoint) if opened.may.administer else None
    done = opened.query.get("done", "")
    return opened.page(
        "endpoints/secret.html",
        nav="endpoints",
        status=status,
        tab="secret",
        endpoint=show(row, opened.caller),
        keys=keys,
        signed=signed,
        signature=row.endpoint.signature,
        public_key=public_key_of(keys[0], keyring=opened.runtime.keyring) if keys else None,
        shown=shown,
        compressed=shown is None,
        hides=SHOWN_SECONDS if done == "revealed" else None,
        graces=GRACES,
        snippets=(
            *SNIPPETS,
            *((each.language, each.code) for each in verifying(_KINDS[row.endpoint.signature])),
        ),
        fault=fault,
        # What was made is shown once: a page that is loaded again says nothing of it.
        notice=NOTICES.get(done) if shown or done == "revoked" else None,
    )
