"""The newcomer's way into the pages: an owner of the first workspace, and a login link that works once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app.access.audit import own_caller
from app.access.login_links import make_link
from app.access.people_rules import LINK_LASTS
from app.access.users import add_user
from app.core.clock import DatabaseClock
from app.core.db import adjust_clock, make_engine, make_sessions
from app.core.roles import PersonRole
from app.models import User, Workspace

if TYPE_CHECKING:
    from app.core.settings import Settings

# `.localhost` never leaves this machine (RFC 6761), so the address is nobody's.
EMAIL = "owner@bellwire.localhost"


async def first_login_link(settings: Settings, *, public_url: str) -> str | None:
    """Return a fresh login link of the first owner, until an owner has set a password; then None.

    Safe to repeat: the owner is made once, and of several links the last one works.
    """
    engine = make_engine(settings, name="dev", pool_size=1)
    clock = DatabaseClock()
    try:
        await adjust_clock(engine, clock)
        async with make_sessions(engine).begin() as session:
            workspace = await session.scalar(select(Workspace).order_by(Workspace.id).limit(1))
            if workspace is None:
                return None
            owners = (
                await session.scalars(
                    select(User)
                    .where(User.workspace_id == workspace.id, User.role == PersonRole.OWNER.value)
                    .order_by(User.id)
                )
            ).all()
            if any(owner.password_hash or owner.oidc_subject for owner in owners):
                return None
            owner = next((owner for owner in owners if owner.disabled_at is None), None)
            if owner is None:
                owner = await add_user(
                    session, clock, workspace_id=workspace.id, email=EMAIL, role=PersonRole.OWNER
                )
            link = await make_link(session, own_caller(workspace.id), owner, clock=clock, lasts=LINK_LASTS)
            return link.url(public_url)
    finally:
        await engine.dispose()
