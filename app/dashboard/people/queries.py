"""The people of a workspace and their last visits. Each function is one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, select

from app.core import ids
from app.core.errors import NotFound
from app.core.pagination import Keyset, Page, PageRequest
from app.models import User, UserSession

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

ROWS = 50


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A person, when they were last here, and in how many browsers they are signed in now."""

    user: User
    seen_at: datetime | None
    sessions: int

    @property
    def id(self) -> UUID:
        """The person's id: pages are ordered by it."""
        return self.user.id

    @property
    def id_text(self) -> str:
        """The id as addresses have it."""
        return ids.to_text(ids.USER, self.user.id)

    @property
    def shown_name(self) -> str:
        """What the person is called."""
        return self.user.name or self.user.email

    @property
    def state(self) -> str:
        """Whether the person may sign in, as a word."""
        if self.user.disabled_at is not None:
            return "disabled"
        has_a_way_in = self.user.password_hash is not None or self.user.oidc_subject is not None
        return "active" if has_a_way_in or self.user.last_sign_in_at is not None else "invited"


async def list_people(session: AsyncSession, caller: Caller, *, cursor: str | None) -> Page[PersonRow]:
    """Return the people of the workspace, newest first; disabled ones too."""
    keyset = Keyset.of(PageRequest(limit=ROWS, cursor=cursor))
    rows = await session.execute(keyset.narrow(_people(caller), id_column=User.id))
    return keyset.page([_person(row) for row in rows])


async def require_person(session: AsyncSession, caller: Caller, reference: str) -> PersonRow:
    """Return one person by the id.

    Raises:
        NotFound: there is none, or it is another workspace's.

    """
    user_id = ids.from_text(ids.USER, reference)
    found = user_id and (await session.execute(_people(caller).where(User.id == user_id))).one_or_none()
    if not found:
        raise NotFound(
            f"There is no person {reference[:64]!r} in this workspace, or they were removed. The list of people has those "
            "there are."
        )
    return _person(found)


def _people(caller: Caller) -> Select[Any]:
    # A session that ended by itself still says when somebody was here; it is deleted some time later.
    seen = (
        select(
            func.max(UserSession.last_seen_at).label("seen_at"),
            func.count().filter(UserSession.expires_at > func.now()).label("sessions"),
        )
        .where(UserSession.workspace_id == caller.workspace_id, UserSession.user_id == User.id)
        .correlate(User)
        .lateral()
    )
    return (
        select(User, func.greatest(seen.c.seen_at, User.last_sign_in_at), seen.c.sessions)
        .join(seen, literal(value=True))
        .where(User.workspace_id == caller.workspace_id)
        .execution_options(populate_existing=True)
    )


def _person(row: Any) -> PersonRow:
    return PersonRow(user=row[0], seen_at=row[1], sessions=row[2])
