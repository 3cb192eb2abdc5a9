"""`/v1/users`: the people of a workspace, for its admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.access import users
from app.api.dependencies import Admin, RuntimeDep, Session
from app.api.pages import Page, PageParams, page_of
from app.api.routing import TransactionalRoute
from app.core.roles import PersonRole
from app.users.schemas import InvitedUserAnswer, LoginLinkAnswer, UserAnswer, UserCreate, UserPatch

router = APIRouter(tags=["Users"], route_class=TransactionalRoute)

UserReference = Annotated[str, Path(description="The person's id (`usr_...`) or e-mail address.")]


@router.post("/v1/users", status_code=201)
async def invite_user(
    body: UserCreate, caller: Admin, session: Session, runtime: RuntimeDep
) -> InvitedUserAnswer:
    """Add a person. The login link with which they come in is in this answer only; send it to them."""
    invited = await users.invite_user(
        session, caller, clock=runtime.clock, email=body.email, role=PersonRole(body.role), name=body.name
    )
    return InvitedUserAnswer.invited(invited, public_url=runtime.settings.public_url)


@router.get("/v1/users")
async def list_users(caller: Admin, session: Session, page: PageParams) -> Page[UserAnswer]:
    """List the people of the workspace, newest first; disabled ones too."""
    return page_of(await users.list_people(session, caller, page=page), UserAnswer.of)


@router.get("/v1/users/{user}")
async def get_user(user: UserReference, caller: Admin, session: Session) -> UserAnswer:
    """Show one person."""
    return UserAnswer.of(await users.require_user(session, caller, user))


@router.patch("/v1/users/{user}")
async def update_user(user: UserReference, body: UserPatch, caller: Admin, session: Session) -> UserAnswer:
    """Change a person; fields that are left out stay as they are. Owners are changed by owners only."""
    return UserAnswer.of(await users.change_user(session, caller, user, changes=body.changes()))


@router.delete("/v1/users/{user}", status_code=204)
async def delete_user(user: UserReference, caller: Admin, session: Session) -> None:
    """Remove a person with their sessions and links; what they did stays in the audit log."""
    await users.delete_user(session, caller, user)


@router.post("/v1/users/{user}/login-link", status_code=201)
async def create_login_link(
    user: UserReference, caller: Admin, session: Session, runtime: RuntimeDep
) -> LoginLinkAnswer:
    """Make a login link for a person who has forgotten the password. It works once, for an hour."""
    issued = await users.give_link(session, caller, user, clock=runtime.clock)
    return LoginLinkAnswer.of(issued, public_url=runtime.settings.public_url)


@router.delete("/v1/users/{user}/sessions", status_code=204)
async def end_user_sessions(user: UserReference, caller: Admin, session: Session) -> None:
    """Sign a person out everywhere."""
    await users.end_all_sessions(session, caller, user)
