"""`/account/confirm`: where a person who signed in some time ago proves anew who they are, before a secret is shown."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.access.account import confirm_person
from app.account.router import found_session
from app.api.browser import CONFIRM_PATH, PageRoute, SignedInVisit, Visit, page, see
from app.api.dependencies import RuntimeDep
from app.api.redirects import safe_next
from app.core.errors import Invalid
from app.sign_in.router import browser_of, settle

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(CONFIRM_PATH)
async def get_confirm(
    visit: SignedInVisit,
    runtime: RuntimeDep,
    next_path: Annotated[str | None, Query(alias="next")] = None,
) -> Response:
    """Return the form; who has just signed in goes on at once."""
    if visit.is_recent(now=runtime.clock.now()):
        return see(safe_next(next_path))
    return _form(visit, runtime, next_path=next_path)


@router.post(CONFIRM_PATH)
async def post_confirm(request: Request, visit: SignedInVisit, runtime: RuntimeDep) -> Response:
    """Compare the password; a new session takes the place of this one."""
    found, next_path = found_session(visit), visit.form.get("next")
    try:
        token = await confirm_person(
            runtime,
            request.app.state.passwords,
            found,
            current=visit.form.get("current", ""),
            browser=browser_of(request),
            replaces=visit.token,
        )
    except Invalid as error:
        return _form(visit, runtime, next_path=next_path, fault=error.errors[0].detail)
    settle(visit, runtime, token=token, user_id=found.user_id)
    return see(safe_next(next_path))


def _form(visit: Visit, runtime: RuntimeDep, *, next_path: str | None, fault: str | None = None) -> Response:
    return page(
        "confirm.html",
        visit,
        status=422 if fault else 200,
        next=safe_next(next_path),
        fault=fault,
        provider=runtime.settings.oidc_name if runtime.settings.oidc_issuer else None,
    )
