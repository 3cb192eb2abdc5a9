"""What every page of the dashboard is made with: its reads, its frame, and the transactions of its forms.

A page reads inside `open_page` (one workspace, read only, 3 s a statement) and is written afterwards, when its
connection is back in the pool. A form acts inside `act` and is answered with `see`, so that loading again repeats
nothing.
"""

from __future__ import annotations

import gzip
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from sqlalchemy import event

from app.access.sessions import FoundSession
from app.api.auth import header_of, runtime_of
from app.api.browser import PageRoute, SignInNeeded, Visit, page
from app.core.errors import TooBusy
from app.core.time_limits import time_limit
from app.dashboard.abilities import ADMINS, Abilities
from app.dashboard.counts import Counts, CountsCache
from app.dashboard.frame import ADMIN_PAGES
from app.dashboard.spans import SPANS, Span, span_of
from app.models import confine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import ORMExecuteState
    from starlette.requests import Request
    from starlette.responses import Response

    from app.core.context import Caller
    from app.core.runtime import Runtime

# Longer than this a page is of no use to anybody who waits for it, and hurts those who publish.
READ_SECONDS = 3.0
# A page of 90 KB: 1 ms, and a tenth of it is left.
_GZIP_LEVEL = 5


def make_router() -> APIRouter:
    """Return a router of pages under /dashboard."""
    return APIRouter(prefix="/dashboard", include_in_schema=False, route_class=PageRoute)


@dataclass(slots=True)
class OpenPage:
    """A page that is being made: what it reads with, and what its template finds as `frame`."""

    request: Request
    visit: Visit
    runtime: Runtime
    found: FoundSession
    caller: Caller
    session: AsyncSession
    may: Abilities
    now: datetime
    span: Span
    counts: Counts = field(default_factory=lambda: Counts(dead_letters=0, open_circuits=0))
    statements: int = 0
    _started: float = field(default_factory=time.perf_counter)

    @property
    def path(self) -> str:
        """The page's own path."""
        return self.request.url.path

    @property
    def query(self) -> dict[str, str]:
        """The page's own query, as it was given; of a name that was given twice the last."""
        return dict(self.request.query_params)

    @property
    def theme(self) -> str | None:
        """The colours that this browser chose; None follows the system."""
        return self.visit.theme

    @property
    def environment(self) -> str:
        """The installation's kind, which stands in every title."""
        return self.runtime.settings.environment

    @property
    def base_url(self) -> str:
        """The address under which people and programs reach this server."""
        return self.runtime.settings.public_url

    @property
    def spans(self) -> dict[str, str]:
        """All spans by name, in words."""
        return {name: words for name, (_, words) in SPANS.items()}

    def may_see(self, key: str) -> bool:
        """Tell whether a page of the navigation is for this person."""
        return key not in ADMIN_PAGES or self.found.role in ADMINS

    def count(self, _state: ORMExecuteState) -> None:
        """Count a statement, for Server-Timing."""
        self.statements += 1

    def page(
        self, template: str, *, nav: str, status: int = 200, compressed: bool = True, **values: Any
    ) -> Response:
        """Write the page. Call it after `open_page` is left, with what was read.

        A page that shows a secret is not to be `compressed`: how well it compresses beside what the address brings
        would tell of it. The tokens of forms are masked anew each time.
        """
        values.setdefault("notice", None)
        response = page(
            f"dashboard/{template}",
            self.visit,
            status=status,
            scripts=True,
            frame=self,
            nav=nav,
            now=self.now,
            **values,
        )
        if compressed and "gzip" in (header_of(self.request, b"accept-encoding") or ""):
            response.body = gzip.compress(response.body, compresslevel=_GZIP_LEVEL, mtime=0)
            response.headers["Content-Encoding"] = "gzip"
            response.headers["Content-Length"] = str(len(response.body))
        response.headers["Vary"] = "Accept-Encoding"
        milliseconds = (time.perf_counter() - self._started) * 1000
        response.headers["Server-Timing"] = (
            f'total;dur={milliseconds:.1f}, db;desc="{self.statements} statements"'
        )
        return response


@asynccontextmanager
async def open_page(request: Request, visit: Visit) -> AsyncIterator[OpenPage]:
    """Open a page for reading; its `session` is closed when the block is left.

    Raises:
        TooBusy: a statement took longer than READ_SECONDS; the page says to narrow the range.

    """
    runtime = runtime_of(request)
    caller = visit.require_caller()
    if not isinstance(visit.session, FoundSession):
        raise SignInNeeded
    async with runtime.sessions() as session:
        confine(session, caller.workspace_id)
        now = runtime.clock.now()
        opened = OpenPage(
            request=request,
            visit=visit,
            runtime=runtime,
            found=visit.session,
            caller=caller,
            session=session,
            may=Abilities.of(caller, runtime.settings),
            now=now,
            span=span_of(request.query_params.get("range"), now=now),
        )
        try:
            async with time_limit(session, seconds=READ_SECONDS):
                event.listen(session.sync_session, "do_orm_execute", opened.count)
                opened.counts = await _counts_of(request).read(session, caller.workspace_id)
                yield opened
        except TooBusy:
            raise TooBusy(
                f"The database needed more than {READ_SECONDS:g} seconds for this page, so it was stopped. Go back and "
                "narrow the range: a shorter time, one application, or one endpoint."
            ) from None


@asynccontextmanager
async def read_on(opened: OpenPage) -> AsyncIterator[OpenPage]:
    """Open another read for a page that was left: a file is read in more than one.

    Raises:
        TooBusy: a statement took longer than READ_SECONDS.

    """
    async with opened.runtime.sessions() as session:
        confine(session, opened.caller.workspace_id)
        async with time_limit(session, seconds=READ_SECONDS):
            yield replace(opened, session=session)


@asynccontextmanager
async def act(request: Request, visit: Visit) -> AsyncIterator[tuple[AsyncSession, Caller]]:
    """Open the transaction of a form, committed when the block is left without an error."""
    runtime = runtime_of(request)
    caller = visit.require_caller()
    async with runtime.sessions.begin() as session:
        confine(session, caller.workspace_id)
        yield session, caller
    _counts_of(request).forget(caller.workspace_id)


def abilities_of(request: Request, visit: Visit) -> Abilities:
    """Return what who sent a form may do."""
    return Abilities.of(visit.require_caller(), runtime_of(request).settings)


def _counts_of(request: Request) -> CountsCache:
    state = request.app.state
    if not hasattr(state, "dashboard_counts"):
        state.dashboard_counts = CountsCache()
    cache: CountsCache = state.dashboard_counts
    return cache
