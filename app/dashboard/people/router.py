"""`/dashboard/people`: who may sign in, as what, and when they were last here; changed by the rules of `/v1/users`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from app.access import users
from app.access.people_rules import INVITATION_LASTS, LINK_LASTS, may_manage, standing_of
from app.api.auth import runtime_of
from app.api.browser import RecentVisit, SignedInVisit, Visit, see
from app.core import ids
from app.core.errors import Conflict, Forbidden, Invalid
from app.core.roles import PersonRole
from app.dashboard import once, words
from app.dashboard.forms import faults_of, validated
from app.dashboard.page import abilities_of, act, make_router, open_page
from app.dashboard.people import queries
from app.users.schemas import UserCreate, UserPatch

if TYPE_CHECKING:
    from app.core.context import Caller
    from app.dashboard.page import OpenPage

ROLES = {
    PersonRole.VIEWER: "viewer: reads, but no secrets",
    PersonRole.OPERATOR: "operator: reads, retries, pauses",
    PersonRole.ADMIN: "admin: everything but owners",
    PersonRole.OWNER: "owner: everything, owners too",
}
_FIELDS = ("email", "name", "role")
_NOTICES = {
    "invited": "The person is there. Send them the link below: it opens the door once.",
    "link": "The link is made; links that were made before work no more.",
    "saved": "The person is saved. With another role they sign in anew.",
    "disabled": "The person is signed out everywhere, and cannot sign in.",
    "enabled": "The person may sign in again.",
    "out": "The person is signed out everywhere. Login links that were not used work no more.",
    "removed": "The person is removed. What they did stays in the audit log.",
}

router = make_router()


@router.get("/people")
async def get_people(visit: SignedInVisit, request: Request) -> Response:
    """List the people of the workspace."""
    async with open_page(request, visit) as opened:
        _require_may_see(opened)
        page = await queries.list_people(opened.session, opened.caller, cursor=opened.query.get("cursor"))
    settings = opened.runtime.settings
    return opened.page(
        "people/list.html",
        nav="system",
        tab="people",
        page=page,
        provider=settings.oidc_issuer or None,
        domains=settings.oidc_domains,
        domain_role=settings.oidc_role,
        notice=_NOTICES.get(opened.query.get("done", "")),
    )


@router.get("/people/new")
async def get_new(visit: SignedInVisit, request: Request) -> Response:
    """Show the form that invites a person."""
    abilities_of(request, visit).require_administer()
    return await _new_page(request, visit, {}, {})


@router.post("/people")
async def post_people(visit: SignedInVisit, request: Request) -> Response:
    """Add a person, and show their first login link on the next page; or show the form again."""
    abilities_of(request, visit).require_administer()
    runtime = runtime_of(request)
    typed = {name: visit.form.get(name, "").strip() for name in _FIELDS}
    try:
        body = validated(UserCreate, typed | {"name": typed["name"] or None})
        async with act(request, visit) as (session, caller):
            invited = await users.invite_user(
                session,
                caller,
                clock=runtime.clock,
                email=body.email,
                role=PersonRole(body.role),
                name=body.name,
            )
            made = ids.to_text(ids.USER, invited.row.id)
    except Invalid as error:
        return await _new_page(request, visit, typed, faults_of(error, otherwise="email"))
    except Conflict as error:
        return await _new_page(request, visit, typed, {"email": error.detail})
    once.hand_over(visit, runtime, about=made, secret=invited.link.url(runtime.settings.public_url))
    return see(f"/dashboard/people/{made}?done=invited")


@router.get("/people/{user}")
async def get_person(user: str, visit: SignedInVisit, request: Request) -> Response:
    """Show one person, and a login link that was just made."""
    return await _page(request, visit, user)


@router.post("/people/{user}")
async def post_person(user: str, visit: SignedInVisit, request: Request) -> Response:
    """Change name and role; or show the form again."""
    abilities_of(request, visit).require_administer()
    typed = {name: visit.form.get(name, "").strip() for name in ("name", "role")}
    try:
        body = validated(UserPatch, typed | {"name": typed["name"] or None})
        async with act(request, visit) as (session, caller):
            await users.change_user(session, caller, user, changes=body.changes())
    except Invalid as error:
        return await _page(request, visit, user, typed=typed, faults=faults_of(error, otherwise="role"))
    except Conflict as error:
        return await _page(request, visit, user, typed=typed, faults={"role": error.detail})
    return see(f"/dashboard/people/{user}?done=saved")


@router.post("/people/{user}/disable")
async def post_disable(user: str, visit: SignedInVisit, request: Request) -> Response:
    """Let a person sign in no more."""
    return await _switch(request, visit, user, disabled=True)


@router.post("/people/{user}/enable")
async def post_enable(user: str, visit: SignedInVisit, request: Request) -> Response:
    """Let a person sign in again."""
    return await _switch(request, visit, user, disabled=False)


@router.post("/people/{user}/login-link")
async def post_login_link(user: str, visit: RecentVisit, request: Request) -> Response:
    """Make a login link and show it on the next page: whoever has it is that person, once."""
    abilities_of(request, visit).require_administer()
    runtime = runtime_of(request)
    async with act(request, visit) as (session, caller):
        issued = await users.give_link(session, caller, user, clock=runtime.clock)
    once.hand_over(visit, runtime, about=user, secret=issued.url(runtime.settings.public_url))
    return see(f"/dashboard/people/{user}?done=link")


@router.post("/people/{user}/sign-out")
async def post_sign_out(user: str, visit: SignedInVisit, request: Request) -> Response:
    """Sign a person out everywhere."""
    abilities_of(request, visit).require_administer()
    async with act(request, visit) as (session, caller):
        await users.end_all_sessions(session, caller, user)
    return see(f"/dashboard/people/{user}?done=out")


@router.post("/people/{user}/remove")
async def post_remove(user: str, visit: SignedInVisit, request: Request) -> Response:
    """Remove a person whose address somebody has typed."""
    abilities_of(request, visit).require_administer()
    async with act(request, visit) as (session, caller):
        found = await users.require_user(session, caller, user)
        if visit.form.get("typed", "").strip().lower() != found.email:
            raise Invalid(
                f"The person was not removed: type their address, {found.email}, to show that you mean this one. Go back "
                "and try again."
            )
        await users.delete_user(session, caller, user)
    return see("/dashboard/people?done=removed")


async def _switch(request: Request, visit: Visit, user: str, *, disabled: bool) -> Response:
    abilities_of(request, visit).require_administer()
    async with act(request, visit) as (session, caller):
        await users.change_user(session, caller, user, changes={"disabled": disabled})
    return see(f"/dashboard/people/{user}?done={'disabled' if disabled else 'enabled'}")


async def _page(
    request: Request,
    visit: SignedInVisit,
    user: str,
    *,
    typed: dict[str, str] | None = None,
    faults: dict[str, str] | None = None,
) -> Response:
    async with open_page(request, visit) as opened:
        _require_may_see(opened)
        row = await queries.require_person(opened.session, opened.caller, user)
    shown = once.take(request, visit, opened.runtime, about=row.id_text) if opened.may.administer else None
    done = opened.query.get("done", "")
    lasts = INVITATION_LASTS if done == "invited" else LINK_LASTS
    return opened.page(
        "people/person.html",
        nav="system",
        status=422 if faults else 200,
        person=row,
        manages=opened.may.administer and _may_manage(opened.caller, PersonRole(row.user.role)),
        oneself=row.user.id == opened.found.user_id,
        roles=_roles_for(opened.caller),
        typed=typed or {"name": row.user.name or "", "role": row.user.role},
        faults=faults or {},
        link=shown,
        link_lasts=words.duration(lasts.total_seconds()),
        compressed=shown is None,
        # A link is shown once: a page that is loaded again says nothing of it.
        notice=_NOTICES.get(done) if shown or done not in {"invited", "link"} else None,
    )


async def _new_page(
    request: Request, visit: SignedInVisit, typed: dict[str, str], faults: dict[str, str]
) -> Response:
    async with open_page(request, visit) as opened:
        pass
    return opened.page(
        "people/new.html",
        nav="system",
        status=422 if faults else 200,
        typed=dict.fromkeys(_FIELDS, "") | {"role": "viewer"} | typed,
        faults=faults,
        roles=_roles_for(opened.caller),
    )


def _require_may_see(opened: OpenPage) -> None:
    if not opened.may_see("people"):
        raise Forbidden(
            "The people of a workspace are for its admins, so nothing was done. Ask one of them for what you need; what "
            "concerns you alone is on your account's page."
        )


def _may_manage(caller: Caller, role: PersonRole) -> bool:
    return may_manage(standing_of(caller), roles=[role])


def _roles_for(caller: Caller) -> dict[str, str]:
    """Return the roles that this person may give, with what they mean."""
    return {role.value: meaning for role, meaning in ROLES.items() if _may_manage(caller, role)}
