"""`/account`: who is signed in, where, and with which password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.access import user_queries
from app.access.account import asks_for_current, end_other_sessions, end_session, set_password
from app.access.password_rules import MAX_CHARS, MIN_CHARS
from app.access.sessions import FoundSession
from app.account.user_agents import device_name
from app.api.browser import PageRoute, SignedInVisit, SignInNeeded, Visit, page, see
from app.api.dependencies import RuntimeDep
from app.core import ids
from app.core.errors import Invalid
from app.models import confine
from app.sign_in.router import browser_of, settle

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_NOTICES = {
    "password": "Your password is saved, and you are signed out everywhere else.",
    "ended": "That session is over.",
}


@router.get("/account")
async def get_account(
    visit: SignedInVisit, runtime: RuntimeDep, done: Annotated[str | None, Query()] = None
) -> Response:
    """Show the account and its sessions."""
    found = found_session(visit)
    async with runtime.sessions() as session:
        confine(session, found.workspace_id)
        rows = await user_queries.list_sessions(
            session, found.workspace_id, found.user_id, idle_hours=runtime.settings.session_idle_hours
        )
    sessions = [
        {
            "id": ids.to_text(ids.SESSION, row.id),
            "device": device_name(row.user_agent),
            "address": row.address,
            "method": _METHODS[row.method],
            "last_seen_at": row.last_seen_at,
            "expires_at": row.expires_at,
            "current": row.id == found.session_id,
        }
        for row in rows
    ]
    return page(
        "account.html",
        visit,
        sessions=sessions,
        notice=_NOTICES.get(done or ""),
        asks_for_current=asks_for_current(found, runtime),
    )


@router.get("/account/password")
async def get_password(visit: SignedInVisit, runtime: RuntimeDep) -> Response:
    """Return the form for a new password."""
    return _password_form(visit, runtime, faults={})


@router.post("/account/password")
async def post_password(request: Request, visit: SignedInVisit, runtime: RuntimeDep) -> Response:
    """Set a new password. All other sessions of the person end, and this one gets a new token."""
    found, wanted = found_session(visit), visit.form.get("wanted", "")
    if wanted != visit.form.get("again", ""):
        return _password_form(
            visit, runtime, faults={"again": "The two new passwords differ. Type the same one twice."}
        )
    try:
        token = await set_password(
            runtime,
            request.app.state.passwords,
            found,
            visit.require_caller(),
            current=visit.form.get("current", ""),
            wanted=wanted,
            browser=browser_of(request),
            replaces=visit.token,
        )
    except Invalid as error:
        faults = {fault.pointer.lstrip("/"): fault.detail for fault in error.errors}
        return _password_form(visit, runtime, faults=faults)
    settle(visit, runtime, token=token, user_id=found.user_id)
    return see("/account?done=password")


@router.post("/account/sessions/end-others")
async def post_end_other_sessions(visit: SignedInVisit, runtime: RuntimeDep) -> Response:
    """End every session of the person but this one."""
    async with runtime.sessions.begin() as session:
        confine(session, found_session(visit).workspace_id)
        await end_other_sessions(session, visit.require_caller())
    return see("/account?done=ended")


@router.post("/account/sessions/{session_id}/end")
async def post_end_session(session_id: str, visit: SignedInVisit, runtime: RuntimeDep) -> Response:
    """End one of the person's sessions; ending this browser's own signs out."""
    async with runtime.sessions.begin() as session:
        confine(session, found_session(visit).workspace_id)
        ended = await end_session(session, visit.require_caller(), session_id=session_id)
    if ended == found_session(visit).session_id:
        visit.sign_out()
        return see("/login?out=1")
    return see("/account?done=ended")


def found_session(visit: Visit) -> FoundSession:
    """Return the session with all that is known of its person.

    Raises:
        SignInNeeded: nobody is signed in.

    """
    if not isinstance(visit.session, FoundSession):
        raise SignInNeeded
    return visit.session


_METHODS = {"password": "password", "link": "login link", "oidc": "identity provider"}


def _password_form(visit: Visit, runtime: RuntimeDep, *, faults: dict[str, str]) -> Response:
    return page(
        "password.html",
        visit,
        status=422 if faults else 200,
        faults=faults,
        asks_for_current=asks_for_current(found_session(visit), runtime),
        min_chars=MIN_CHARS,
        max_chars=MAX_CHARS,
    )
