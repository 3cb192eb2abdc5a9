"""`/login/oidc`: to the identity provider, and back. There where BELLWIRE_OIDC_ISSUER is set."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.access.oidc import sign_in_with_identity
from app.access.oidc_provider import OidcProvider, ProviderAway
from app.access.oidc_rules import FLOW_SECONDS, Flow, OidcRefused
from app.api.browser import AnyVisit, PageRoute, Visit, see
from app.api.dependencies import RuntimeDep
from app.api.redirects import safe_next
from app.api.theme import cookie_name, uses_https
from app.core.crypto import CannotDecrypt
from app.core.errors import NotFound
from app.sign_in.router import browser_of, login_page, settle

router = APIRouter(include_in_schema=False, route_class=PageRoute)

CALLBACK_PATH = "/login/oidc/callback"
FLOW_COOKIE = "bellwire-oidc"

# What the sealed cookie is bound to: no row, but a purpose.
_ROW, _COLUMN = UUID(int=0), "cookies.oidc"
_MAX_COOKIE_CHARS = 8_000
_FORBIDDEN, _BAD_GATEWAY = 403, 502

_log = structlog.get_logger(__name__)


@router.get("/login/oidc")
async def get_oidc(
    request: Request,
    visit: AnyVisit,
    runtime: RuntimeDep,
    next_path: Annotated[str | None, Query(alias="next")] = None,
    again: Annotated[str | None, Query()] = None,
) -> Response:
    """Send the browser to the provider. State, nonce and verifier stay in it, sealed.

    `again` is for who is signed in and confirms it: the provider is to ask who they are.
    """
    provider = _provider(request)
    flow = Flow.begin(next_path=safe_next(next_path), now=runtime.clock.unix(), again=again is not None)
    try:
        address = await provider.authorization_url(flow, redirect_uri=_redirect_uri(runtime))
    except ProviderAway as error:
        return _fault(visit, runtime, error, next_path=next_path)
    sealed = runtime.keyring.seal(flow.plain(), row=_ROW, column=_COLUMN)
    cookie = base64.urlsafe_b64encode(sealed).decode().rstrip("=")
    visit.set_cookie(FLOW_COOKIE, cookie, seconds=FLOW_SECONDS)
    return RedirectResponse(address, status_code=303, headers={"Referrer-Policy": "no-referrer"})


@router.get(CALLBACK_PATH)
async def get_oidc_callback(
    request: Request,
    visit: AnyVisit,
    runtime: RuntimeDep,
    code: Annotated[str, Query()] = "",
    state: Annotated[str, Query()] = "",
    error: Annotated[str, Query()] = "",
    iss: Annotated[str | None, Query()] = None,
) -> Response:
    """Take the provider's answer: exchange the code, verify whom it names, and sign them in."""
    provider = _provider(request)
    flow = _open_flow(request, runtime)
    # Whatever the answer is, this attempt is over.
    visit.set_cookie(FLOW_COOKIE, "", seconds=0)
    try:
        flow = _require_flow(flow)
        flow.require_answer(state=state, now=runtime.clock.unix())
        await provider.require_issuer(iss)
        _require_code(code, error=error)
        identity = await provider.identify(
            flow, code=code, redirect_uri=_redirect_uri(runtime), now=runtime.clock.unix()
        )
        flow.require_fresh(identity)
        user_id, token = await sign_in_with_identity(
            runtime, identity, browser=browser_of(request), replaces=visit.token
        )
    except (OidcRefused, ProviderAway) as refusal:
        return _fault(visit, runtime, refusal, next_path=flow.next_path if flow else None)
    settle(visit, runtime, token=token, user_id=user_id)
    return see(safe_next(flow.next_path))


def _require_flow(flow: Flow | None) -> Flow:
    if flow is None:
        raise OidcRefused(
            "This browser has not begun to sign in, or did so more than ten minutes ago. Begin here.",
            reason="no_flow",
        )
    return flow


def _require_code(code: str, *, error: str) -> None:
    if error or not code:
        raise OidcRefused(
            "The identity provider did not sign you in. Try again, or ask its operator.",
            reason=f"provider says {error[:64]!r}",
        )


def _provider(request: Request) -> OidcProvider:
    provider: OidcProvider | None = request.app.state.oidc
    if provider is None:
        raise NotFound("Signing in through an identity provider is not set up here. Use /login.")
    return provider


def _redirect_uri(runtime: RuntimeDep) -> str:
    return runtime.settings.public_url + CALLBACK_PATH


def _open_flow(request: Request, runtime: RuntimeDep) -> Flow | None:
    cookie = request.cookies.get(cookie_name(FLOW_COOKIE, secure=uses_https(request)), "")
    if not cookie or len(cookie) > _MAX_COOKIE_CHARS:
        return None
    try:
        sealed = base64.b64decode(cookie + "=" * (-len(cookie) % 4), altchars=b"-_", validate=True)
        return Flow.read(runtime.keyring.open(sealed, row=_ROW, column=_COLUMN))
    except (CannotDecrypt, binascii.Error, ValueError, TypeError):
        return None


def _fault(
    visit: Visit, runtime: RuntimeDep, fault: OidcRefused | ProviderAway, *, next_path: str | None
) -> Response:
    _log.warning("oidc.refused", reason=fault.reason)
    status = _BAD_GATEWAY if isinstance(fault, ProviderAway) else _FORBIDDEN
    return login_page(visit, runtime, next_path=next_path, fault=str(fault), status=status)
