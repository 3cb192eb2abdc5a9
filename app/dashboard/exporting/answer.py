"""The answer to "download these": who takes what is put on record first, then the file begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from app.access import audit
from app.access.export import MEDIA_TYPES, Format
from app.core import ids
from app.core.errors import Invalid
from app.dashboard.exporting.files import written
from app.dashboard.page import abilities_of, act, open_page
from app.dashboard.search import meanings
from app.dashboard.search.address import Search, read_search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from app.api.browser import Visit
    from app.dashboard.exporting.files import Line
    from app.dashboard.page import OpenPage
    from app.dashboard.search import Query, Term


async def export(
    request: Request,
    visit: Visit,
    *,
    what: str,
    headings: Sequence[str],
    lines: Callable[[OpenPage, Query, Format], AsyncIterator[Sequence[Line]]],
) -> Response:
    """Answer with what the list at this address shows, all pages of it, as a file.

    Raises:
        Forbidden: the role does not allow it, or the dashboard is read only.
        Invalid: the search is not understood, or the form of the file is none.

    """
    abilities_of(request, visit).require_operate()
    given = visit.form.get("format", "")
    if given not in set(Format):
        raise Invalid.at(
            "/format", f"A file is ndjson or csv, not {given[:20]!r}. Go back and press a button."
        )
    form = Format(given)
    search = read_search(request.url.path, dict(request.query_params))
    if search.faults:
        raise Invalid(" ".join(f"{said}: {fault}" for said, fault in search.faults))
    async with open_page(request, visit) as opened:
        pass
    async with act(request, visit) as (session, caller):
        await audit.record(
            session,
            caller,
            action=f"{what}.exported",
            object_kind="workspace",
            object_id=ids.to_text(ids.WORKSPACE, caller.workspace_id),
            after={"format": form.value, "range": opened.span.name, "search": asked(search)},
        )
    return StreamingResponse(
        written(lines(opened, search.query, form), form=form, headings=headings),
        headers={
            "Content-Type": MEDIA_TYPES[form],
            "Content-Disposition": f'attachment; filename="{file_name(what, opened, form)}"',
            "Cache-Control": "no-store",
        },
    )


def file_name(what: str, opened: OpenPage, form: Format) -> str:
    """Return a name for the file; nothing in it is a caller's."""
    return f"bellwire-{what.replace('_', '-')}-{opened.now:%Y%m%dT%H%M%SZ}.{form.value}"


def asked(search: Search) -> str:
    """Return a search as the audit log keeps it: without values of payloads and headers."""
    return " ".join(_open_part(term) for term in search.query.terms)


def _open_part(term: Term) -> str:
    if isinstance(term.meaning, meanings.Data | meanings.Header):
        return f"{term.said.partition(':')[0]}:…"
    return term.said
