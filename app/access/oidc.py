"""From an identity that the provider has proven to a person of ours, and a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.access import audit
from app.access.audit import own_caller
from app.access.oidc_rules import Identity, OidcRefused, may_be_provisioned
from app.access.sessions import ACTOR, Browser, begin_session
from app.access.users import add_user
from app.core import ids
from app.core.roles import PersonRole
from app.models import User, Workspace

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.runtime import Runtime
    from app.core.settings import Settings


async def sign_in_with_identity(
    runtime: Runtime, identity: Identity, *, browser: Browser, replaces: str | None
) -> tuple[UUID, str]:
    """Sign in who has this identity; return the person's id and the session's token.

    The identity decides, then the verified address: of somebody who has none yet, or of a new person from a domain
    that was named. Whoever was bound to an identity once is not taken over by another with the same address.

    Raises:
        OidcRefused: there is nobody for it here.

    """
    async with runtime.sessions.begin() as session:
        user = await _find(session, identity)
        if user is None:
            user = await _by_address(session, identity, runtime)
        if user.disabled_at is not None:
            raise _nobody(identity, "disabled")
        token = await begin_session(
            session,
            user,
            method="oidc",
            browser=browser,
            settings=runtime.settings,
            clock=runtime.clock,
            replaces=replaces,
        )
        return user.id, token


async def _find(session: AsyncSession, identity: Identity) -> User | None:
    query = select(User).where(User.oidc_issuer == identity.issuer, User.oidc_subject == identity.subject)
    # Locked, so that who is disabled at this moment is refused, or has the session that begins here ended.
    query = query.with_for_update(key_share=True)
    return (await session.scalars(query)).one_or_none()


async def _by_address(session: AsyncSession, identity: Identity, runtime: Runtime) -> User:
    settings = runtime.settings
    if identity.email is None:
        raise _nobody(identity, "no verified address")
    if settings.oidc_domains and not may_be_provisioned(identity.email, domains=settings.oidc_domains):
        raise _nobody(identity, "domain not allowed")
    query = select(User).where(func.lower(User.email) == identity.email).with_for_update()
    user = (await session.scalars(query)).one_or_none()
    if user is None:
        user = await _provision(session, identity, runtime)
    elif user.oidc_subject is not None and (user.oidc_issuer, user.oidc_subject) != (
        identity.issuer,
        identity.subject,
    ):
        raise _nobody(identity, "address belongs to another identity")
    user.oidc_issuer, user.oidc_subject = identity.issuer, identity.subject
    await session.flush()
    await audit.record(
        session,
        own_caller(user.workspace_id),
        action="user.identity_bound",
        object_kind=ACTOR,
        object_id=ids.to_text(ids.USER, user.id),
        after={"issuer": identity.issuer, "subject": identity.subject},
    )
    return user


async def _provision(session: AsyncSession, identity: Identity, runtime: Runtime) -> User:
    settings = runtime.settings
    if identity.email is None or not may_be_provisioned(identity.email, domains=settings.oidc_domains):
        raise _nobody(identity, "unknown, and no domain to take it from")
    workspace_id = await _workspace(session, settings)
    if workspace_id is None:
        raise _nobody(identity, "BELLWIRE_OIDC_WORKSPACE names no workspace, or there are several")
    user = await add_user(
        session,
        runtime.clock,
        workspace_id=workspace_id,
        email=identity.email,
        role=PersonRole(settings.oidc_role),
        name=identity.name,
    )
    await audit.record(
        session,
        own_caller(workspace_id),
        action="user.created",
        object_kind=ACTOR,
        object_id=ids.to_text(ids.USER, user.id),
        after={"email": user.email, "name": user.name, "role": user.role, "disabled": False},
    )
    return user


async def _workspace(session: AsyncSession, settings: Settings) -> UUID | None:
    """Return where new people go: the workspace that was named, or the only one."""
    if settings.oidc_workspace:
        wanted = ids.from_text(ids.WORKSPACE, settings.oidc_workspace)
        return await session.scalar(select(Workspace.id).where(Workspace.id == wanted)) if wanted else None
    found = (await session.scalars(select(Workspace.id).limit(2))).all()
    return found[0] if len(found) == 1 else None


def _nobody(identity: Identity, reason: str) -> OidcRefused:
    shown = f" with the address {identity.email}" if identity.email else ""
    return OidcRefused(
        f"The identity provider knows you, but nobody{shown} may sign in here. Ask an admin of your workspace to add "
        "you, with the address that the provider has verified.",
        reason=reason,
    )
