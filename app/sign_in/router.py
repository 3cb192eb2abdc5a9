"""`/login` and `/logout`: the doors through which people come in and go out."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from app.access.account import end_session
from app.access.devices import make_device
from app.access.login_links import PATH, find_link, use_link
from app.access.sessions import Browser, begin_session
from app.access.sign_in import Refused, SignedIn, record_refusal, sign_in_with_password
from app.api.auth import header_of
from app.api.browser import (
    DEVICE_COOKIE,
    DEVICE_SECONDS,
    AnyVisit,
    PageRoute,
    SignedInVisit,
    Visit,
    page,
    see,
)
from app.api.client_address import address_of
from app.api.dependencies import RuntimeDep
from app.api.redirects import DEFAULT, safe_next
from app.api.templating import STYLE_PATH, style
from app.core import ids

router = APIRouter(include_in_schema=False, route_class=PageRoute)
assets = APIRouter(include_in_schema=False)

_WRONG = (
    "Address and password do not fit together. Check both and try again; if you have forgotten the password, "
    "ask an admin of your workspace for a login link."
)


@router.get("/login")
async def get_login(
    visit: AnyVisit,
    runtime: RuntimeDep,
    next_path: Annotated[str | None, Query(alias="next")] = None,
    out: Annotated[str | None, Query()] = None,
) -> Response:
    """Return the form; who is signed in goes on at once."""
    if visit.session is not None:
        return see(safe_next(next_path))
    return login_page(visit, runtime, next_path=next_path, signed_out=out is not None)


@router.post("/login")
async def post_login(request: Request, visit: AnyVisit, runtime: RuntimeDep) -> Response:
    """Sign in with a password."""
    email, password = visit.form.get("email", ""), visit.form.get("password", "")
    next_path = visit.form.get("next")
    browser = browser_of(request)
    result = await sign_in_with_password(
        runtime,
        request.app.state.passwords,
        email=email,
        password=password,
        browser=browser,
        device=visit.device,
        replaces=visit.token,
    )
    if isinstance(result, SignedIn):
        settle(visit, runtime, token=result.token, user_id=result.user_id)
        return see(safe_next(next_path))
    if isinstance(result, Refused):
        response = login_page(visit, runtime, next_path=next_path, email=email, fault=_WRONG, status=403)
        response.background = BackgroundTask(record_refusal, runtime, result, browser=browser)
        return response
    fault = (
        f"Too many attempts failed, so the password was not looked at. Wait {result.seconds} s and try again, or ask "
        "an admin for a login link."
    )
    return login_page(
        visit,
        runtime,
        next_path=next_path,
        email=email,
        fault=fault,
        status=429,
        headers={"Retry-After": str(result.seconds)},
    )


@router.post("/logout")
async def post_logout(visit: SignedInVisit, runtime: RuntimeDep) -> Response:
    """End the session of this browser."""
    caller = visit.require_caller()
    if caller.person is not None:
        async with runtime.sessions.begin() as session:
            await end_session(session, caller, session_id=ids.to_text(ids.SESSION, caller.person.session_id))
    visit.sign_out()
    return see("/login?out=1")


@router.get(PATH + "{token}")
async def get_login_link(token: str, visit: AnyVisit, runtime: RuntimeDep) -> Response:
    """Return a page that asks before it uses the link up: programs that look at links in mail only load it."""
    async with runtime.sessions() as session:
        user = await find_link(session, token)
    if user is None:
        return page("link_over.html", visit, status=404)
    return page("link.html", visit, email=user.email, action=PATH + token)


@router.post(PATH + "{token}")
async def post_login_link(request: Request, token: str, visit: AnyVisit, runtime: RuntimeDep) -> Response:
    """Use the link up and sign its person in."""
    async with runtime.sessions.begin() as session:
        user = await use_link(session, token)
        if user is None:
            return page("link_over.html", visit, status=404)
        new_token = await begin_session(
            session,
            user,
            method="link",
            browser=browser_of(request),
            settings=runtime.settings,
            clock=runtime.clock,
            replaces=visit.token,
        )
        user_id, has_password = user.id, user.password_hash is not None
    settle(visit, runtime, token=new_token, user_id=user_id)
    # Who comes with a link either begins here, which is seen there, or has forgotten the password.
    return see(DEFAULT + "?done=link" if has_password else DEFAULT)


@assets.get(STYLE_PATH)
async def get_style() -> Response:
    """Return the style of all pages. Its address changes with its content."""
    return Response(
        style(),
        media_type="text/css; charset=utf-8",
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


def browser_of(request: Request) -> Browser:
    """Return from where somebody signs in."""
    return Browser(
        address=address_of(request),
        user_agent=header_of(request, b"user-agent"),
        request_id=request.state.request_id,
    )


def settle(visit: Visit, runtime: RuntimeDep, *, token: str, user_id: UUID) -> None:
    """Let the browser carry its new session, and be known as a device of this person."""
    visit.sign_in(token, seconds=runtime.settings.session_hours * 3600)
    visit.set_cookie(DEVICE_COOKIE, make_device(runtime.keyring, user_id), seconds=DEVICE_SECONDS)


def login_page(
    visit: Visit,
    runtime: RuntimeDep,
    *,
    next_path: str | None,
    email: str = "",
    fault: str | None = None,
    signed_out: bool = False,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return the form of /login, with what went wrong, if anything did."""
    return page(
        "login.html",
        visit,
        status=status,
        headers=headers,
        next=safe_next(next_path),
        email=email,
        fault=fault,
        signed_out=signed_out,
        provider=runtime.settings.oidc_name if runtime.settings.oidc_issuer else None,
    )
