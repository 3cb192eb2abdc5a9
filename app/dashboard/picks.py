"""What is picked in a list, and what is done with each of it.

Each delivery is dealt with in a transaction of its own: one that cannot be keeps no other from it, and no lock is held
for longer than one of them takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from app.api.auth import runtime_of
from app.api.browser import MAX_FORM_FIELDS, Visit, see
from app.api.redirects import safe_next
from app.core.errors import Conflict, NotFound
from app.dashboard.page import act
from app.dashboard.words import plural
from app.deliveries.resolve import resolve_delivery
from app.deliveries.service import retry_delivery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession
    from starlette.requests import Request
    from starlette.responses import Response

    from app.core.context import Caller


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, to how many, and how many it could not be done to."""

    deed: str
    done: int
    left: int


@dataclass(frozen=True, slots=True)
class _Said:
    """A deed in words: of one, of many, of none, why it could not be, and what to do where nothing was picked."""

    one: str
    many: str
    none: str
    why_not: str
    nothing: str


_SAID = {
    "retried": _Said(
        one="delivery is due now",
        many="deliveries are due now",
        none="Nothing was sent again.",
        why_not="being sent at this moment, endpoint disabled or deleted, or data erased",
        nothing="Nothing was picked: tick the rows that are to be sent again.",
    ),
    "resolved": _Said(
        one="delivery is marked as resolved, and no dead letter any more",
        many="deliveries are marked as resolved, and no dead letters any more",
        none="Nothing was marked as resolved.",
        why_not="sent again, or marked by somebody else, meanwhile",
        nothing="Nothing was picked: tick the rows that are to be marked as resolved.",
    ),
}


async def picked(request: Request, visit: Visit) -> list[str]:
    """Return the ids that a list's form names: of one row (its button), or of all that are ticked."""
    one = visit.form.get("one")
    if one is not None:
        return [one]
    # The guard of forms has read and checked the body; here are names that stand in it more than once.
    fields = parse_qsl((await request.body()).decode(), max_num_fields=MAX_FORM_FIELDS)
    return sorted({value for name, value in fields if name == "pick"})


async def retry_all(request: Request, visit: Visit, deliveries: Sequence[str]) -> Outcome:
    """Ask for deliveries again, each for itself, and wake the workers."""

    async def retry(session: AsyncSession, caller: Caller, delivery: str) -> None:
        await retry_delivery(session, caller, delivery, runtime=runtime_of(request))

    return await _each(request, visit, deliveries, deed="retried", do=retry)


async def resolve_all(
    request: Request, visit: Visit, deliveries: Sequence[str], *, reason: str | None
) -> Outcome:
    """Mark dead deliveries as resolved, each for itself, and wake the workers: lines that they held up go on."""

    async def resolve(session: AsyncSession, caller: Caller, delivery: str) -> None:
        await resolve_delivery(session, caller, delivery, reason=reason)

    return await _each(request, visit, deliveries, deed="resolved", do=resolve)


def back_with(path: str | None, outcome: Outcome) -> Response:
    """Lead back to the list, which then says what became of it."""
    parts = urlsplit(safe_next(path))
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name not in {"done", "n", "left"}]
    query = urlencode([*kept, ("done", outcome.deed), ("n", str(outcome.done)), ("left", str(outcome.left))])
    return see(f"{parts.path}?{query}")


def notice_of(query: dict[str, str]) -> str | None:
    """Return the sentence about what was just done; the address only says what, and how many."""
    words = _SAID.get(query.get("done", ""))
    if words is None:
        return None
    done, left = _count(query.get("n")), _count(query.get("left"))
    if not done and not left:
        return words.nothing
    said = f"{plural(done, words.one, words.many)}." if done else words.none
    return f"{said} {left:,} could not be: {words.why_not}." if left else said


async def _each(
    request: Request,
    visit: Visit,
    deliveries: Sequence[str],
    *,
    deed: str,
    do: Callable[[AsyncSession, Caller, str], Awaitable[None]],
) -> Outcome:
    done = left = 0
    for delivery in deliveries:
        try:
            async with act(request, visit) as (session, caller):
                await do(session, caller, delivery)
            done += 1
        except (Conflict, NotFound):
            left += 1
    if done:
        request.app.state.waker.wake()
    return Outcome(deed, done, left)


def _count(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else 0  # noqa: PLR2004 - far more than a page
