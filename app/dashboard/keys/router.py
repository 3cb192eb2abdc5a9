"""`/dashboard/keys`: API keys, for admins. A key is shown once, on the page after it was made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from app.access import keys
from app.access.actors import names_of
from app.access.schemas import ApiKeyCreate
from app.api.auth import runtime_of
from app.api.browser import SignedInVisit, see
from app.core import ids
from app.core.errors import Forbidden, Invalid, NotFound
from app.core.pagination import PageRequest
from app.core.roles import Role
from app.dashboard import once
from app.dashboard.forms import faults_of, validated
from app.dashboard.keys import queries
from app.dashboard.page import abilities_of, act, make_router, open_page

if TYPE_CHECKING:
    from app.dashboard.keys.queries import KeyRow, Maker

UNUSED_AFTER = timedelta(days=90)
OVERLAPS = {0: "none: the old one stops at once", 3_600: "1 hour", 86_400: "24 hours", 604_800: "7 days"}
ROLES = {
    "publisher": "publisher: publish events, and nothing else",
    "viewer": "viewer: read, but no secrets",
    "operator": "operator: read, retry, replay, pause",
    "admin": "admin: everything in the workspace",
}
_EXPIRIES = {"": None, "30": 30, "90": 90, "365": 365}
_ABOUT = "api_key"
_FIELDS = ("name", "role", "application", "expires")
_NOTICES = {
    "created": "The key is there.",
    "rotated": "The new key is there. The old one works until its overlap ends.",
    "revoked": "The key is revoked: from now on it opens nothing.",
}

router = make_router()


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A key as the page shows it; `warning` is what should be done about it."""

    id: str
    name: str
    prefix: str
    role: str
    application: str | None
    application_id: str | None
    created_at: datetime
    created_by: str | None
    last_used_at: datetime | None
    expires_at: datetime | None
    expired: bool
    warning: str | None


@router.get("/keys")
async def get_keys(visit: SignedInVisit, request: Request) -> Response:
    """List the keys, and show one that was just made."""
    async with open_page(request, visit) as opened:
        if not opened.may_see("keys"):
            raise Forbidden(
                "API keys are for admins of the workspace, so nothing was done. Ask one of them for what you need."
            )
        page = await queries.list_keys(
            opened.session, opened.caller, page=PageRequest(cursor=opened.query.get("cursor"))
        )
        makers = await queries.read_makers(opened.session, opened.caller, [row.key for row in page.rows])
        names = await names_of(opened.session, opened.caller, {maker.id for maker in makers.values()})
    made, secret, role = opened.query.get("new", ""), None, None
    if made and opened.may.administer:
        secret = once.take(request, visit, opened.runtime, about=f"{_ABOUT}:{made}")
        role = next((row.key.role for row in page.rows if ids.to_text(ids.API_KEY, row.id) == made), None)
    done = opened.query.get("done", "")
    return opened.page(
        "keys/list.html",
        nav="keys",
        page=page,
        keys=[_show(row, makers=makers, names=names, now=opened.now) for row in page.rows],
        compressed=secret is None,
        secret=secret,
        curl=_curl(opened.base_url, secret, role=role) if secret else None,
        overlaps=OVERLAPS,
        unused_days=UNUSED_AFTER.days,
        # A key that is shown once is not there any more when its page is loaded again.
        notice=_NOTICES.get(done) if secret or done == "revoked" else None,
    )


@router.get("/keys/new")
async def get_new(visit: SignedInVisit, request: Request) -> Response:
    """Show the form of a new key."""
    abilities_of(request, visit).require_administer()
    return await _new_page(request, visit, {}, {})


@router.post("/keys")
async def post_keys(visit: SignedInVisit, request: Request) -> Response:
    """Make a key, and show it on the next page; or show the form again."""
    abilities_of(request, visit).require_administer()
    runtime = runtime_of(request)
    typed = {name: visit.form.get(name, "").strip() for name in _FIELDS}
    try:
        body = validated(ApiKeyCreate, _given(typed, now=runtime.clock.now()))
        async with act(request, visit) as (session, caller):
            issued = await keys.create_key(
                session,
                caller,
                clock=runtime.clock,
                name=body.name,
                role=Role(body.role),
                application=body.application,
                expires_at=body.expires_at,
            )
            made = ids.to_text(ids.API_KEY, issued.row.id)
    except Invalid as error:
        return await _new_page(request, visit, typed, faults_of(error, otherwise="name"))
    except NotFound:
        fault = (
            f"There is no application {typed['application'][:64]!r} here. Give the id or uid of one, or none."
        )
        return await _new_page(request, visit, typed, {"application": fault})
    once.hand_over(visit, runtime, about=f"{_ABOUT}:{made}", secret=issued.text)
    return see(f"/dashboard/keys?done=created&new={made}")


@router.post("/keys/{key}/rotate")
async def post_rotate(key: str, visit: SignedInVisit, request: Request) -> Response:
    """Make a key like this one, and let this one end after the overlap."""
    abilities_of(request, visit).require_administer()
    runtime = runtime_of(request)
    overlap = visit.form.get("overlap", "86400")
    if overlap not in map(str, OVERLAPS):
        raise Invalid("Choose one of the overlaps; nothing was rotated. Go back and try again.")
    async with act(request, visit) as (session, caller):
        issued, _ = await keys.roll_key(
            session, caller, key, clock=runtime.clock, overlap_seconds=int(overlap)
        )
        made = ids.to_text(ids.API_KEY, issued.row.id)
    once.hand_over(visit, runtime, about=f"{_ABOUT}:{made}", secret=issued.text)
    return see(f"/dashboard/keys?done=rotated&new={made}")


@router.post("/keys/{key}/revoke")
async def post_revoke(key: str, visit: SignedInVisit, request: Request) -> Response:
    """Make a key open nothing from now on."""
    abilities_of(request, visit).require_administer()
    async with act(request, visit) as (session, caller):
        await keys.revoke_key(session, caller, key)
    return see("/dashboard/keys?done=revoked")


async def _new_page(
    request: Request, visit: SignedInVisit, typed: dict[str, str], faults: dict[str, str]
) -> Response:
    async with open_page(request, visit) as opened:
        pass
    return opened.page(
        "keys/new.html",
        nav="keys",
        status=422 if faults else 200,
        typed=dict.fromkeys(_FIELDS, "") | {"role": "publisher"} | typed,
        faults=faults,
        roles=ROLES,
    )


def _given(typed: dict[str, str], *, now: datetime) -> dict[str, Any]:
    """Return what was typed by the API's names.

    Raises:
        Invalid: the time after which the key expires is none of those to choose from.

    """
    if typed["expires"] not in _EXPIRIES:
        raise Invalid.at("/expires", "Choose one of these.")
    days = _EXPIRIES[typed["expires"]]
    return {
        "name": typed["name"],
        "role": typed["role"],
        "application": typed["application"] or None,
        "expires_at": (now + timedelta(days=days)).astimezone(UTC) if days else None,
    }


def _show(row: KeyRow, *, makers: dict[str, Maker], names: dict[str, str], now: datetime) -> ShownKey:
    key = row.key
    reference = ids.to_text(ids.API_KEY, key.id)
    maker = makers.get(reference)
    expired = key.expires_at is not None and key.expires_at <= now
    warning = None
    if not expired and now - (key.last_used_at or key.created_at) > UNUSED_AFTER:
        warning = f"not used for {UNUSED_AFTER.days} days: revoke it if nobody needs it"
    return ShownKey(
        id=reference,
        name=key.name,
        prefix=f"bw_{key.key_id}_",
        role=key.role,
        application=row.application,
        application_id=ids.to_text(ids.APPLICATION, key.application_id) if key.application_id else None,
        created_at=key.created_at,
        created_by=names.get(maker.id, f"{maker.kind.replace('_', ' ')} {maker.id}") if maker else None,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        expired=expired,
        warning=warning,
    )


def _curl(base_url: str, key: str, *, role: str | None) -> str:
    """Return a command that shows that a key works, with what its role may do."""
    if role in {"publisher", "admin"}:
        return (
            f"curl -X POST {base_url}/v1/events \\\n  -H 'Authorization: Bearer {key}' \\\n"
            "  -H 'Content-Type: application/json' \\\n"
            '  -d \'{"type": "order.placed", "data": {"order": 1001, "total": "49.90"}}\''
        )
    return f"curl {base_url}/v1/deliveries \\\n  -H 'Authorization: Bearer {key}'"
