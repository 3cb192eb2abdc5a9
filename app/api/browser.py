"""Pages for people: sessions in cookies, protection of forms, and faults as pages.

A page stands on a `PageRoute`. Its handler names `visit: AnyVisit` (signed in or not), `visit: SignedInVisit` (else the
browser is led to /login and back), or, where a secret is shown, `visit: RecentVisit` (who signed in longer ago is led to
/account/confirm and back). Before a handler that changes something runs, the form's token and the
browser's own word on where the form came from are checked. Handlers open transactions by themselves.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

import orjson
from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.api.auth import header_of, runtime_of
from app.api.client_address import address_of
from app.api.problems import TooLarge, UnsupportedMediaType, problem_response
from app.api.redirects import safe_next
from app.api.templating import render
from app.api.theme import cookie_name, theme_of, uses_https
from app.core.db import Autocommit
from app.core.errors import Forbidden, Invalid

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.context import Caller
    from app.core.settings import Settings

SESSION_COOKIE = "bellwire"
DEVICE_COOKIE = "bellwire-device"
DEVICE_SECONDS = 365 * 86_400
CSRF_FIELD = "csrf"
_CSRF_BYTES = 32

# After so long a person proves anew who they are before a secret is shown: a browser that was left open shows none.
RECENT = timedelta(minutes=10)
CONFIRM_PATH = "/account/confirm"

MAX_FORM_BYTES = 65_536
MAX_FORM_FIELDS = 100

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_WITH_SCRIPTS = {"Content-Security-Policy": f"{_POLICY}; script-src 'self'; connect-src 'self'"}
_PAGE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    # With `no-referrer` browsers say `Origin: null` of our own forms, which is what a stranger's would say, too.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

# A problem's title speaks of API keys, which nobody has who sees a page.
_PAGE_TITLES = {403: "Nothing was done"}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Session(Protocol):
    """A session that works now; `app.access.sessions.FoundSession` is one."""

    @property
    def signed_in_at(self) -> datetime:
        """When the person last proved who they are."""

    def caller(self, *, address: str | None, request_id: str | None) -> Caller:
        """Return who calls, for services."""


class FindSession(Protocol):
    """Looks a session up; `app.access.sessions.find_session` does it, the application's start-up puts it in place."""

    def __call__(
        self, connection: AsyncConnection, token: str, /, *, settings: Settings
    ) -> Awaitable[Session | None]:
        """Return the session, or None if it does not work."""


@dataclass(slots=True)
class Visit:
    """One request of a browser: who is signed in, its token for forms, and the cookies that the answer will set."""

    token: str
    session: Session | None
    caller: Caller | None
    device: str | None
    theme: str | None = None
    form: dict[str, str] = field(default_factory=dict)
    _cookies: dict[str, tuple[str, int | None]] = field(default_factory=dict)

    @property
    def csrf(self) -> str:
        """The token that every form of this browser carries. It is made from the cookie's, and does not tell it.

        It looks different each time it is written (a mask, and the token under that mask), so that nothing about it
        is learnt from how well a page compresses.
        """
        mask = secrets.token_bytes(_CSRF_BYTES)
        return (mask + _masked(self._csrf, mask)).hex()

    def has_csrf(self, given: str) -> bool:
        """Tell whether a form carries this browser's token."""
        try:
            both = bytes.fromhex(given)
        except ValueError:
            return False
        mask, masked = both[:_CSRF_BYTES], both[_CSRF_BYTES:]
        return len(masked) == _CSRF_BYTES and hmac.compare_digest(_masked(masked, mask), self._csrf)

    @property
    def _csrf(self) -> bytes:
        return hmac.digest(self.token.encode(), b"bellwire form", "sha256")

    def require_caller(self) -> Caller:
        """Return who is signed in.

        Raises:
            SignInNeeded: nobody is.

        """
        if self.caller is None:
            raise SignInNeeded
        return self.caller

    def is_recent(self, *, now: datetime) -> bool:
        """Tell whether the person who is signed in proved it within the last ten minutes."""
        return self.session is not None and now - self.session.signed_in_at <= RECENT

    def sign_in(self, token: str, *, seconds: float) -> None:
        """Let the browser carry a session from now on."""
        self.token = token
        self.set_cookie(SESSION_COOKIE, token, seconds=int(seconds))

    def sign_out(self) -> None:
        """Let the browser forget its session."""
        self.set_cookie(SESSION_COOKIE, "", seconds=0)

    def set_cookie(self, name: str, value: str, *, seconds: int | None) -> None:
        """Set a cookie; None lasts until the browser is closed, 0 takes it away."""
        self._cookies[name] = (value, seconds)

    def write_cookies(self, response: Response, *, secure: bool) -> None:
        """Put the cookies into an answer."""
        for name, (value, seconds) in self._cookies.items():
            response.set_cookie(
                cookie_name(name, secure=secure),
                value,
                max_age=seconds,
                path="/",
                secure=secure,
                httponly=True,
                samesite="lax",
            )


class SignInNeeded(Exception):
    """Nobody is signed in, and the page is for people who are."""


class ConfirmationNeeded(Exception):
    """The person signed in too long ago for what the page does."""


class PageGuard:
    """Stands in a handler's signature and says who may see the page."""

    def __init__(self, *, signed_in: bool, recent: bool = False) -> None:
        self.signed_in = signed_in
        self.recent = recent

    def __call__(self, request: Request) -> Visit:
        """Return the visit, to the handler."""
        visit: Visit = request.state.visit
        return visit


AnyVisit = Annotated[Visit, Depends(PageGuard(signed_in=False))]
"""Anybody may see this page."""

SignedInVisit = Annotated[Visit, Depends(PageGuard(signed_in=True))]
"""People who are signed in may see this page; `visit.session` and `visit.caller` are there."""

RecentVisit = Annotated[Visit, Depends(PageGuard(signed_in=True, recent=True))]
"""People who proved within the last ten minutes who they are may see this page; it shows a secret."""


class PageRoute(APIRoute):
    """A route that answers with pages."""

    def get_route_handler(self) -> Handler:
        """Wrap FastAPI's handler; called once, when the route is made."""
        handler = super().get_route_handler()
        guards = [
            dependency.call
            for dependency in self.dependant.dependencies
            if isinstance(dependency.call, PageGuard)
        ]
        if len(guards) != 1:
            raise TypeError(f"{self.path} says not who may see it: give its handler `visit: SignedInVisit`.")
        guard = guards[0]

        async def handle(request: Request) -> Response:
            secure = uses_https(request)
            visit: Visit | None = None
            try:
                visit = request.state.visit = await _open_visit(request, secure=secure)
                if guard.signed_in:
                    visit.require_caller()
                if request.method not in _SAFE_METHODS:
                    require_own_page(request)
                    visit.form = await _read_form(request)
                    _require_token(visit)
                if guard.recent and not visit.is_recent(now=runtime_of(request).clock.now()):
                    raise ConfirmationNeeded  # noqa: TRY301 - answered below, like all that ends a visit early
                response = await handler(request)
            except SignInNeeded:
                response = _to_sign_in(request)
            except ConfirmationNeeded:
                response = _to_confirm(request)
            except Exception as error:  # noqa: BLE001 - whatever it is, people see a page
                response = _fault_page(request, error, visit)
            if visit is not None:
                visit.write_cookies(response, secure=secure)
            return response

        return handle


def page(
    name: str,
    visit: Visit,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    scripts: bool = False,
    **values: object,
) -> Response:
    """Return a page made from a template; `scripts` lets our own script run on it and load from here."""
    content = render(name, visit=visit, **values)
    return Response(
        content,
        status_code=status,
        media_type="text/html; charset=utf-8",
        headers=_PAGE_HEADERS | (_WITH_SCRIPTS if scripts else {}) | (headers or {}),
    )


def see(path: str) -> Response:
    """Lead the browser on to a path of this server, with a GET."""
    return RedirectResponse(path, status_code=303, headers=_PAGE_HEADERS)


def require_own_page(request: Request) -> None:
    """Refuse a form that a page of another site has sent, as far as the browser says where it came from.

    Raises:
        Forbidden: it came from elsewhere.

    """
    site = header_of(request, b"sec-fetch-site")
    if site is not None:
        # `none` is a person's own doing, such as loading the page again.
        if site in {"same-origin", "none"}:
            return
        raise _foreign()
    origin = header_of(request, b"origin")
    if origin is None:
        return
    settings: Settings = request.app.state.settings
    found, own = urlsplit(origin.lower()), urlsplit(settings.public_url.lower())
    if found[:2] == own[:2]:
        return
    # In development people type `localhost`, too. Neither header can be forged by another site's page.
    if own.scheme == "http" and found.scheme == "http" and found.netloc == header_of(request, b"host"):
        return
    raise _foreign()


async def _open_visit(request: Request, *, secure: bool) -> Visit:
    token = request.cookies.get(cookie_name(SESSION_COOKIE, secure=secure), "")
    device = request.cookies.get(cookie_name(DEVICE_COOKIE, secure=secure))
    session = None
    if _TOKEN.fullmatch(token):
        runtime, find = runtime_of(request), request.app.state.find_session
        # Its own short transaction, as with keys: the request must not hold one open.
        async with Autocommit(runtime.engine).connect() as connection:
            session = await find(connection, token, settings=runtime.settings)
    else:
        token = ""
    visit = Visit(token=token, session=session, caller=None, device=device, theme=theme_of(request))
    if session is not None:
        visit.caller = session.caller(address=address_of(request), request_id=request.state.request_id)
        request.state.caller = visit.caller
    elif not token:
        # A browser that is not signed in has a token as well, so that its forms are protected like all others.
        visit.token = secrets.token_urlsafe(32)
        visit.set_cookie(SESSION_COOKIE, visit.token, seconds=None)
    return visit


async def _read_form(request: Request) -> dict[str, str]:
    kind = (header_of(request, b"content-type") or "").partition(";")[0].strip().lower()
    body = await request.body()
    if body and kind != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("This page takes forms as browsers send them. Go back and use its form.")
    if len(body) > MAX_FORM_BYTES:
        raise TooLarge(f"This form is longer than {MAX_FORM_BYTES:,} bytes. Go back and write less.")
    try:
        fields = dict(
            parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="strict")
        )
    except ValueError:
        raise Invalid(
            "The form cannot be read. Go back, load the page again, and send it once more."
        ) from None
    if "\x00" in "".join((*fields, *fields.values())):
        raise Invalid("A field holds the NUL character, which no text has. Go back and type it again.")
    return fields


def _require_token(visit: Visit) -> None:
    if not visit.has_csrf(visit.form.pop(CSRF_FIELD, "")):
        raise Forbidden(
            "This form belongs to another sign-in, or your browser does not keep cookies, so nothing was done. "
            "Go back, load the page again, and send it once more."
        )


def _masked(token: bytes, mask: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(token, mask, strict=True))


def _foreign() -> Forbidden:
    return Forbidden(
        "This form was sent by a page of another site, so nothing was done. Open Bellwire itself and do it there."
    )


def _to_sign_in(request: Request) -> Response:
    """Lead to /login and, where a page was asked for, back to it."""
    if request.method not in _SAFE_METHODS:
        return see("/login")
    return see("/login?next=" + quote(safe_next(_asked_for(request)), safe="/"))


def _to_confirm(request: Request) -> Response:
    """Lead to where a person proves who they are, and back: from a form to the page on which it stood."""
    back = _asked_for(request)
    if request.method not in _SAFE_METHODS:
        came_from = urlsplit(header_of(request, b"referer") or "")
        back = came_from.path + (f"?{came_from.query}" if came_from.query else "")
    return see(f"{CONFIRM_PATH}?next=" + quote(safe_next(back), safe="/"))


def _asked_for(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _fault_page(request: Request, error: Exception, visit: Visit | None) -> Response:
    """Return a page that says what a problem document says."""
    problem = problem_response(error, instance=request.url.path, request_id=request.state.request_id)
    members = orjson.loads(bytes(problem.body))
    members["title"] = _PAGE_TITLES.get(problem.status_code, members["title"])
    headers = _PAGE_HEADERS | {
        name: value for name, value in problem.headers.items() if name in {"retry-after", "connection"}
    }
    return Response(
        render("fault.html", visit=visit, problem=members),
        status_code=problem.status_code,
        media_type="text/html; charset=utf-8",
        headers=headers,
    )
