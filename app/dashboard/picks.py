"""What is picked in a list, and what is done with each of it.

Each delivery is asked for again in a transaction of its own: one that cannot be sent keeps no other from it, and no
lock is held for longer than one of them takes.
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
from app.deliveries.service import retry_delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many are due now, and how many could not be asked for again."""

    done: int
    left: int


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
    done = left = 0
    for delivery in deliveries:
        try:
            async with act(request, visit) as (session, caller):
                await retry_delivery(session, caller, delivery, runtime=runtime_of(request))
            done += 1
        except (Conflict, NotFound):
            left += 1
    if done:
        request.app.state.waker.wake()
    return Outcome(done, left)


def back_with(path: str | None, outcome: Outcome) -> Response:
    """Lead back to the list, which then says what became of it."""
    parts = urlsplit(safe_next(path))
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name not in {"done", "n", "left"}]
    query = urlencode([*kept, ("done", "retried"), ("n", str(outcome.done)), ("left", str(outcome.left))])
    return see(f"{parts.path}?{query}")


def notice_of(query: dict[str, str]) -> str | None:
    """Return the sentence about what was just done; the address only says how many."""
    if query.get("done") != "retried":
        return None
    done, left = _count(query.get("n")), _count(query.get("left"))
    if not done and not left:
        return "Nothing was picked: tick the rows that are to be sent again."
    said = f"{plural(done, 'delivery is', 'deliveries are')} due now." if done else "Nothing was sent again."
    if left:
        said += (
            f" {left:,} could not be: being sent at this moment, endpoint "
            "disabled or deleted, or data erased."
        )
    return said


def _count(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else 0  # noqa: PLR2004 - far more than a page
