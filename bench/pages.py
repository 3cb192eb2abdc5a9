"""The dashboard's pages, asked for in this process: how long each takes on the server, and how many statements it runs.

`python -m bench.pages` measures those of the database at BELLWIRE_DATABASE_URL, as it is; the scenario `dashboard` fills
one first. The list of pages comes from the routes: one without parameters is asked for as it is, one with parameters
with an id that there really is.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx2
from rich.table import Table
from sqlalchemy import event, select, text

from app.access.sessions import Browser, begin_session
from app.access.users import add_user
from app.api.browser import SESSION_COOKIE
from app.api.theme import cookie_name
from app.core import ids
from app.core.pagination import Keyset, Page, PageRequest
from app.core.roles import PersonRole
from app.core.settings import Settings, load_settings
from app.dashboard.router import routers
from app.main import create_app
from app.models import Event, User, Workspace
from bench.report import wide_console

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fastapi import FastAPI

ROUNDS = 30
EMAIL = "bench@bellwire.localhost"
# Streams do not end, and assets and answers for the script are no pages.
NO_PAGES = ("/dashboard/changes", "/dashboard/live/rows", "/dashboard/{rest:path}", "/dashboard/assets/")
# How a parameter's kind is told from the path before it, and where an id of its kind is found: one that has a history.
_IDS: dict[str, tuple[str, str]] = {
    "events": (
        ids.EVENT,
        "SELECT event_id FROM deliveries WHERE workspace_id = :workspace ORDER BY id DESC LIMIT 1",
    ),
    "deliveries": (
        ids.DELIVERY,
        "SELECT delivery_id FROM undelivered WHERE workspace_id = :workspace ORDER BY attempt_count DESC LIMIT 1",
    ),
    "endpoints": (
        ids.ENDPOINT,
        "SELECT endpoint_id FROM attempt_rollups WHERE workspace_id = :workspace AND endpoint_id IS NOT NULL"
        " GROUP BY 1 ORDER BY sum(failed) DESC LIMIT 1",
    ),
    "applications": (
        ids.APPLICATION,
        "SELECT application_id FROM attempt_rollups WHERE workspace_id = :workspace AND application_id IS NOT NULL"
        " GROUP BY 1 ORDER BY sum(succeeded) DESC LIMIT 1",
    ),
}
# What people ask lists for, beside all that there is: each qualifier with a value that is common, and one that is rare or nowhere.
_QUERIES = (
    "status:dead", "status:pending", "status:succeeded", "status:dead type:stock.low", "code:5xx", "code:401", "code:timeout",
    "code:protocol", "type:order.*", "type:refund.issued", "type:none", "application:tidewater-books",
    "application:quarry-labs", "endpoint:tidewater", "endpoint:quarry", "attempt:1", "attempt:>8", "duration:>100ms",
    "duration:>1m", "data.order.currency:EUR", "data.order.id:ord_nowhere", "header.server:nginx", "header.server:apache",
    "orders", "evt_0", "-status:succeeded",
)  # fmt: skip
SEARCHES = (
    "/dashboard/?range=1h", "/dashboard/?range=4h", "/dashboard/?range=24h", "/dashboard/?range=7d",
    "/dashboard/dead?flat=1", "/dashboard/dead?q=type:stock.low", "/dashboard/dead?q=code:timeout", "/dashboard/live?q=code:5xx",
    *(f"/dashboard/deliveries?range=7d&{urlencode({'q': query})}" for query in _QUERIES),
    *(f"/dashboard/events?range=7d&{urlencode({'q': query})}" for query in _QUERIES),
)  # fmt: skip
# So long ago is near the end of what a list can show.
_LAST_PAGE = "SELECT id FROM deliveries WHERE workspace_id = :workspace AND id >= :lowest ORDER BY id LIMIT 1"

_PARAMETER = re.compile(r"\{[^}]+\}")


@dataclass(frozen=True, slots=True)
class Measured:
    """One page: its status, milliseconds of each request, and the most statements that one ran."""

    path: str
    status: int
    milliseconds: Sequence[float]
    statements: int
    kilobytes: float

    def percentile(self, share: float) -> float:
        """Return the milliseconds within which this share of the requests was answered."""
        ordered = sorted(self.milliseconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def templates() -> list[str]:
    """Return the paths of all pages, with their parameters."""
    found = {
        str(getattr(route, "path", ""))
        for router in routers()
        for route in router.routes
        if "GET" in getattr(route, "methods", ())
    }
    return sorted(path for path in found if path.startswith("/dashboard") and not path.startswith(NO_PAGES))


async def measure_pages(settings: Settings, *, rounds: int = ROUNDS) -> list[Measured]:
    """Ask for every page so many times, after one time that is not counted, as an owner who is signed in."""
    app = create_app(settings)
    async with app.router.lifespan_context(app), signed_in(app) as client:
        return [await _measure(app, client, path, rounds=rounds) for path in await addresses(app)]


async def addresses(app: FastAPI) -> list[str]:
    """Return the addresses of all pages, with ids that there are, and of what people ask for on them."""
    found = [path for template in templates() for path in await _real(app, template)]
    return [*found, *SEARCHES, *await _last_page(app)]


def table_of(measured: Sequence[Measured]) -> Table:
    """Return the figures for people."""
    table = Table(title="The dashboard's pages, on the server")
    for name in ("page", "status", "p50 ms", "p95 ms", "statements", "kB"):
        table.add_column(name, justify="left" if name == "page" else "right", no_wrap=name != "page")
    for page in measured:
        table.add_row(
            page.path, str(page.status), f"{page.percentile(0.5):.1f}", f"{page.percentile(0.95):.1f}",
            str(page.statements), f"{page.kilobytes:.1f}",
        )  # fmt: skip
    return table


async def _measure(app: FastAPI, client: httpx2.AsyncClient, path: str, *, rounds: int) -> Measured:
    counts: list[int] = []
    took: list[float] = []
    status, size = 0, 0
    for _ in range(rounds + 1):
        with _counting(app) as statements:
            began = time.perf_counter()
            answer = await client.get(path)
            took.append((time.perf_counter() - began) * 1000)
        counts.append(len(statements))
        status, size = answer.status_code, len(answer.content)
    return Measured(path, status, took[1:], max(counts[1:]), size / 1000)


class _counting:  # noqa: N801 - used as a function
    """Collects the statements that the application's engine runs, but for transactions."""

    def __init__(self, app: FastAPI) -> None:
        self._engine = app.state.runtime.engine.sync_engine
        self._found: list[str] = []

    def __enter__(self) -> list[str]:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self._found

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("SET "):
            self._found.append(statement)


@asynccontextmanager
async def signed_in(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """Open a browser in which an owner is signed in."""
    runtime = app.state.runtime
    async with runtime.sessions.begin() as session:
        workspace = await session.scalar(select(Workspace.id).order_by(Workspace.id).limit(1))
        user = await session.scalar(select(User).where(User.email == EMAIL))
        if user is None:
            user = await add_user(
                session, runtime.clock, workspace_id=workspace, email=EMAIL, role=PersonRole.OWNER
            )
        token = await begin_session(
            session, user, method="link", browser=Browser(), settings=runtime.settings, clock=runtime.clock
        )
    secure = runtime.settings.public_url.startswith("https://")
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app, client=("127.0.0.1", 1)),
        base_url=runtime.settings.public_url,
        cookies={cookie_name(SESSION_COOKIE, secure=secure): token},
        timeout=60.0,
    ) as client:
        yield client


async def _real(app: FastAPI, template: str) -> list[str]:
    """Return the path with an id in place of its parameter; none where there is nothing of the kind."""
    found = _PARAMETER.search(template)
    if found is None:
        return [template]
    kind = template[: found.start()].rstrip("/").rpartition("/")[2]
    if kind not in _IDS:
        return []
    prefix, query = _IDS[kind]
    async with app.state.runtime.sessions() as session:
        workspace = await session.scalar(select(Workspace.id).order_by(Workspace.id).limit(1))
        value = (await session.execute(text(query), {"workspace": workspace})).scalar_one_or_none()
    if value is None:
        return []
    return await _real(app, template[: found.start()] + ids.to_text(prefix, value) + template[found.end() :])


async def _last_page(app: FastAPI) -> list[str]:
    """Return the address of the list's last page, behind all others of its range."""
    runtime = app.state.runtime
    lowest = ids.lowest_uuid_at(runtime.clock.unix_ms() - int(6.9 * 86_400_000))
    async with runtime.sessions() as session:
        workspace = await session.scalar(select(Workspace.id).order_by(Workspace.id).limit(1))
        parameters = {"workspace": workspace, "lowest": lowest}
        oldest = (await session.execute(text(_LAST_PAGE), parameters)).scalar_one_or_none()
    nothing: Page[Event] = Page(rows=[], next_cursor=None, prev_cursor=None)
    cursor = Keyset.of(PageRequest()).go_on(nothing, edge=oldest).next_cursor
    return [f"/dashboard/deliveries?range=7d&cursor={cursor}"] if cursor is not None else []


if __name__ == "__main__":
    wide_console().print(table_of(asyncio.run(measure_pages(load_settings()))))
