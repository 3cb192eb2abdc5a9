"""Saved views: a person's own searches of a page, by name. Another person's are not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from app.core import ids
from app.core.errors import Conflict, Invalid
from app.models import SavedView

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.context import Caller
    from app.dashboard.page import OpenPage

# Pages that may be searched, and where each is.
PAGES = {
    "deliveries": "/dashboard/deliveries",
    "events": "/dashboard/events",
    "dead": "/dashboard/dead",
}
MOST_VIEWS = 30
MAX_NAME = 60
MAX_QUERY = 1_500


@dataclass(frozen=True, slots=True)
class ShownView:
    """One saved view as its page links to it."""

    id: str
    name: str
    path: str


async def views_of_page(opened: OpenPage, page: str) -> Sequence[ShownView]:
    """Return the views of this page that the person has saved, by name."""
    person = opened.caller.person
    if person is None:
        return []
    rows = await opened.session.scalars(
        select(SavedView)
        .where(
            SavedView.workspace_id == opened.caller.workspace_id,
            SavedView.user_id == person.user_id,
            SavedView.page == page,
        )
        .order_by(SavedView.name)
        .limit(MOST_VIEWS)
    )
    return [ShownView(str(row.id), row.name, f"{PAGES[page]}?{row.query}") for row in rows]


async def save_view(
    session: AsyncSession, caller: Caller, *, page: str, name: str, query: str, clock: DatabaseClock
) -> None:
    """Keep a search under a name; the same name again is written over.

    Raises:
        Invalid: the page, the name or the search cannot be kept.
        Conflict: the person has as many as there may be.

    """
    name = " ".join(name.split())
    if page not in PAGES:
        raise Invalid.at("/page", "There are saved views of events, deliveries and dead letters only.")
    if not 1 <= len(name) <= MAX_NAME:
        raise Invalid.at("/name", f"A view's name has 1 to {MAX_NAME} characters. Go back and type another.")
    if not query or len(query) > MAX_QUERY:
        raise Invalid.at("/query", "There is nothing to keep, or too much: search for something first.")
    user_id = _user_of(caller)
    mine = [
        SavedView.workspace_id == caller.workspace_id,
        SavedView.user_id == user_id,
        SavedView.page == page,
    ]
    others = (
        await session.execute(
            select(func.count()).select_from(SavedView).where(*mine, SavedView.name != name)
        )
    ).scalar_one()
    if others >= MOST_VIEWS:
        raise Conflict(f"You have {MOST_VIEWS} views of this page, and more are not kept. Delete one first.")
    wanted = insert(SavedView).values(
        id=ids.uuid7(clock.unix_ms()),
        workspace_id=caller.workspace_id,
        user_id=user_id,
        page=page,
        name=name,
        query=query,
    )
    await session.execute(
        wanted.on_conflict_do_update(
            index_elements=["user_id", "page", "name"],
            set_={"query": wanted.excluded.query},
            where=SavedView.workspace_id == caller.workspace_id,
        )
    )


async def delete_view(session: AsyncSession, caller: Caller, view_id: UUID) -> None:
    """Forget one of the person's own views; one that is not there is forgotten already."""
    await session.execute(
        delete(SavedView).where(
            SavedView.workspace_id == caller.workspace_id,
            SavedView.user_id == _user_of(caller),
            SavedView.id == view_id,
        )
    )


def _user_of(caller: Caller) -> UUID:
    if caller.person is None:
        raise Invalid("Views are kept for people who are signed in.")
    return caller.person.user_id
