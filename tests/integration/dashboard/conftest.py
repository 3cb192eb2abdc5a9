"""The dashboard as people see it: the real application on a real database, and browsers that are signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from tests.integration.api.traffic import Traffic
from tests.integration.people.conftest import (  # noqa: F401 - fixtures
    AddPerson,
    Browser,
    OpenBrowser,
    add_person,
    admin,
    admin_key,
    app,
    client,
    instance,
    make_app,
    make_key,
    open_browser,
    other_admin,
    settings,
    sign_in,
    watch,
)

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI


class BrowseAs(Protocol):
    """Opens a browser in which a person of this role is signed in."""

    async def __call__(self, role: str) -> Browser: ...


@pytest.fixture
def browse_as(add_person: AddPerson, open_browser: OpenBrowser) -> BrowseAs:  # noqa: F811
    """Opens browsers of people of the first workspace."""

    async def browse(role: str) -> Browser:
        email = f"{role}@example.com"
        await add_person(email, role)
        browser = await open_browser()
        answer = await sign_in(browser, email)
        assert answer.status_code == 303, answer.text
        return browser

    return browse


@pytest.fixture
async def owner(browse_as: BrowseAs) -> Browser:
    """A browser of the owner."""
    return await browse_as("owner")


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:  # noqa: F811
    """Makes endpoints, events and results in the first workspace."""
    return Traffic(app=app, client=client, headers=admin)
