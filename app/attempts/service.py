"""Looking at attempts; nobody changes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.attempts import queries
from app.attempts.queries import AttemptSelection
from app.core import ids
from app.core.errors import NotFound
from app.deliveries.selection import Wanted, resolve
from app.deliveries.service import require_delivery

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.core.pagination import Page, PageRequest
    from app.models import Attempt


async def require_attempt(session: AsyncSession, caller: Caller, reference: str) -> Attempt:
    """Return the attempt that a request means by its id.

    Raises:
        NotFound: there is none, or the caller may not see it.

    """
    attempt_id = ids.from_text(ids.ATTEMPT, reference)
    found = await queries.find_attempt(session, caller, attempt_id) if attempt_id is not None else None
    if found is None:
        raise NotFound(
            f"There is no attempt {reference[:64]!r} here. GET /v1/attempts lists those there are; "
            "an id begins with att_."
        )
    return found


async def list_attempts(
    session: AsyncSession,
    caller: Caller,
    *,
    wanted: Wanted,
    delivery: str | None,
    outcome: str | None,
    trigger: str | None,
    page: PageRequest,
) -> Page[Attempt]:
    """Return attempts, newest first.

    Raises:
        NotFound: a filter names an application, endpoint or delivery that is not here.

    """
    selection = AttemptSelection(
        deliveries=await resolve(session, caller, wanted),
        delivery_id=(await require_delivery(session, caller, delivery)).id if delivery is not None else None,
        outcome=outcome,
        trigger=trigger,
    )
    return await queries.list_attempts(session, caller, selection=selection, page=page)


async def attempts_of(
    session: AsyncSession, caller: Caller, reference: str, *, page: PageRequest
) -> Page[Attempt]:
    """Return the attempts of one delivery, oldest first.

    Raises:
        NotFound: there is no such delivery.

    """
    delivery = await require_delivery(session, caller, reference)
    selection = AttemptSelection(deliveries=await resolve(session, caller, Wanted()), delivery_id=delivery.id)
    return await queries.list_attempts(session, caller, selection=selection, page=page, oldest_first=True)
