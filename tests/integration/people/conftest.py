"""People and their browsers: the real application on a real database, and clients that keep cookies."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import httpx2
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from app.access.passwords import Passwords
from app.access.people_rules import COMMAND_LINE
from app.access.users import invite_user
from app.core.context import Caller
from app.core.roles import PersonRole, Role
from app.models import Workspace
from tests.integration.api.conftest import (  # noqa: F401 - fixtures
    ADMIN_KEY,
    admin,
    admin_key,
    app,
    client,
    instance,
    make_app,
    make_key,
    open_client,
    other_admin,
    settings,
    watch,
)
from tests.integration.api.walls.watch import Watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

PASSWORD = "four words nobody joined"
CSRF = re.compile(r'name="csrf" value="([0-9a-f]{128})"')
# As cheap as argon2 allows: these tests are not about its cost.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Browser(httpx2.AsyncClient):
    """A client that keeps cookies and fills in forms as a browser does."""

    async def submit(self, path: str, *, at: str | None = None, **fields: str) -> httpx2.Response:
        """Load the page with the form (`at`, or `path` itself), then send it with the token that stood there."""
        loaded = await self.get(at or path)
        found = CSRF.search(loaded.text)
        assert found is not None, loaded.text
        return await self.post(path, data={"csrf": found[1], **fields})


class OpenBrowser(Protocol):
    """Opens a browser that nobody has used yet."""

    async def __call__(self, of: FastAPI | None = None, **options: Any) -> Browser: ...


class AddPerson(Protocol):
    """Adds a person to the first workspace; with a password unless told otherwise. Returns the link's token."""

    async def __call__(self, email: str, role: str = "owner", *, password: str | None = PASSWORD) -> str: ...


@pytest.fixture
async def open_browser(app: FastAPI) -> AsyncIterator[OpenBrowser]:  # noqa: F811
    """Opens browsers, each with cookies of its own."""
    app.state.passwords = Passwords(CHEAP)
    async with AsyncExitStack() as opened:

        async def make(of: FastAPI | None = None, **options: Any) -> Browser:
            address = options.pop("address", "192.0.2.7")
            transport = httpx2.ASGITransport(app=Watched(of or app), client=(address, 1234))
            base_url = options.pop("base_url", (of or app).state.settings.public_url)
            return await opened.enter_async_context(
                Browser(transport=transport, base_url=base_url, **options)
            )

        yield make


@pytest.fixture
async def browser(open_browser: OpenBrowser) -> Browser:
    """One browser."""
    return await open_browser()


@pytest.fixture
def add_person(app: FastAPI) -> AddPerson:  # noqa: F811
    """Adds people, as the command line would."""

    async def add(email: str, role: str = "owner", *, password: str | None = PASSWORD) -> str:
        runtime = app.state.runtime
        digest = await Passwords(CHEAP).make_hash(password) if password else None
        async with runtime.sessions.begin() as session:
            (workspace,) = (await session.scalars(select(Workspace).where(Workspace.name == "Default"))).all()
            caller = Caller(
                workspace_id=workspace.id, role=Role.ADMIN, actor_kind=COMMAND_LINE, actor_id="tests"
            )
            invited = await invite_user(
                session, caller, clock=runtime.clock, email=email, role=PersonRole(role)
            )
            invited.row.password_hash = digest
            return invited.link.token

    return add


async def sign_in(browser: Browser, email: str, password: str = PASSWORD, **fields: str) -> httpx2.Response:
    """Fill in the form of /login."""
    return await browser.submit("/login", email=email, password=password, **fields)
