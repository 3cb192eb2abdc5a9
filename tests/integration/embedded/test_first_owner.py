"""The login link that `bellwire dev` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import psycopg
import pytest

from app.access.tokens import digest_of
from app.core.settings import Settings
from app.embedded.first_owner import EMAIL, first_login_link

if TYPE_CHECKING:
    from typing import Any

URL = "http://127.0.0.1:8400"


@pytest.fixture
def database(clean_database: str) -> str:
    """A database with the first workspace, as the first start of an API leaves it."""
    execute(clean_database, "INSERT INTO workspaces (id, name) VALUES (%s, 'Default')", UUID(int=1))
    return clean_database


def execute(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement; return its rows."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql", 1)) as connection:
        cursor = connection.execute(statement, values)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


async def make(database: str) -> str | None:
    settings = Settings.model_validate({"database_url": database})
    return await first_login_link(settings, public_url=URL)


async def test_the_first_start_makes_an_owner_without_a_password(database: str) -> None:
    """One owner, whose only way in is the link that was printed."""
    link = await make(database)

    assert link is not None
    token = link.removeprefix(f"{URL}/login/link/")
    assert execute(database, "SELECT email, role, password_hash FROM users") == [(EMAIL, "owner", None)]
    assert execute(database, "SELECT digest FROM login_links") == [(digest_of(token),)]


async def test_a_later_start_makes_a_new_link_and_no_second_owner(database: str) -> None:
    """The one that was printed before stops working."""
    first = await make(database)
    second = await make(database)

    assert first != second
    assert execute(database, "SELECT count(*) FROM users") == [(1,)]
    assert execute(database, "SELECT count(*) FROM login_links") == [(1,)]


async def test_no_link_once_an_owner_can_sign_in(database: str) -> None:
    """With a password there is a way in, and none is printed any more."""
    await make(database)
    execute(database, "UPDATE users SET password_hash = 'x'")

    assert await make(database) is None


async def test_no_owner_without_a_workspace(clean_database: str) -> None:
    """A database that no API has opened yet stays as it is."""
    assert await make(clean_database) is None
    assert execute(clean_database, "SELECT count(*) FROM users") == [(0,)]
