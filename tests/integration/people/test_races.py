"""A person is changed by one transaction while another signs them in, or makes them a link."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select, text

from app.access.oidc import sign_in_with_identity
from app.access.oidc_rules import Identity, OidcRefused
from app.access.sessions import Browser
from app.access.users import change_user, give_link
from app.core.context import Caller
from app.core.errors import Forbidden
from app.core.roles import Role
from app.models import Workspace
from tests.integration.people.conftest import CSRF

BEA = "bea@example.com"
WAITING_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
def changing(app):
    """Changes a person in a transaction that stays open until what was begun meanwhile waits for it."""

    async def caller_as(kind):
        async with app.state.runtime.sessions() as session:
            workspace = (await session.scalars(select(Workspace))).one()
        return Caller(workspace_id=workspace.id, role=Role.ADMIN, actor_kind=kind, actor_id="tests")

    @asynccontextmanager
    async def change(meanwhile, **changes):
        runtime = app.state.runtime
        owner, admin = await caller_as("command_line"), await caller_as("api_key")
        async with runtime.sessions.begin() as session:
            await change_user(session, owner, BEA, changes=changes)
            begun = asyncio.create_task(meanwhile(admin))
            async with runtime.engine.connect() as watching:
                await watching.execution_options(isolation_level="AUTOCOMMIT")
                while not await watching.scalar(text(WAITING_FOR_A_LOCK)):
                    assert not begun.done(), "it did not wait for the change"
        yield begun

    return change


async def sessions_of(app):
    async with app.state.runtime.sessions() as session:
        return await session.scalar(text("SELECT count(*) FROM sessions"))


async def test_no_link_for_who_becomes_an_owner_at_this_moment(app, changing, add_person):
    """The admin's request waits for the change, and then sees an owner."""
    await add_person(BEA, "admin")
    runtime = app.state.runtime

    async def make_link(admin):
        async with runtime.sessions.begin() as session:
            await give_link(session, admin, BEA, clock=runtime.clock)

    async with changing(make_link, role="owner") as begun:
        with pytest.raises(Forbidden):
            await begun


async def test_a_link_that_is_used_while_its_person_is_disabled(app, browser, changing, add_person):
    """Nobody is signed in, and no session is left for the day when the person is enabled again."""
    path = f"/login/link/{await add_person(BEA, 'viewer', password=None)}"
    csrf = CSRF.search((await browser.get(path)).text)[1]

    async def use_link(_):
        return await browser.post(path, data={"csrf": csrf})

    async with changing(use_link, disabled=True) as begun:
        assert (await begun).status_code == 404
    assert await sessions_of(app) == 0


async def test_an_identity_that_signs_in_while_its_person_is_disabled(app, changing, add_person):
    """As with links: refused, and no session is left."""
    await add_person(BEA, "viewer", password=None)
    identity = Identity(issuer="https://id.example", subject="bea", email=BEA, name=None)
    runtime = app.state.runtime

    async def enter(_=None):
        await sign_in_with_identity(runtime, identity, browser=Browser(), replaces=None)

    await enter()
    async with changing(enter, disabled=True) as begun:
        with pytest.raises(OidcRefused):
            await begun
    assert await sessions_of(app) == 0
