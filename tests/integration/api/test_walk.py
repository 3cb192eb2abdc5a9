"""Every route with another party's ids: nothing of the other is shown, changed, or even told to be there.

The routes, their parameters and their bodies come from the application itself (`walls/operations.py`), so a new route
is walked by itself. Each name of the other party is sent beside one of the same form that is nothing's, and the two
answers must be the same, byte for byte, but for the name itself, the id of the request and what was made anew.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from fastapi import APIRouter
from psycopg import sql
from sqlalchemy import text

from app.api.dependencies import Session, Viewer  # noqa: TC001 - FastAPI reads them at run time
from app.api.routing import TransactionalRoute
from app.core import ids
from app.models import Base
from tests.integration.api.walls.operations import PAGES, NotTold, operations_of
from tests.integration.api.walls.sides import ghost_of, make_side

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx2
    from fastapi import FastAPI

    from app.core.settings import Settings
    from tests.conftest import Report
    from tests.integration.api.conftest import MakeKey
    from tests.integration.api.walls.operations import Operation, Place
    from tests.integration.api.walls.sides import Side
    from tests.integration.api.walls.watch import Watch


# Names that are looked up: one that is not the caller's is refused. Others are texts of the caller's own choice, which
# two parties may both choose.
LOOKED_UP = {"application", "attempt", "delivery", "endpoint", "event", "key", "subscription"}
# A cursor only says where in the caller's own list to go on, so any id does: what it answers is looked at for leaks.
POSITIONS = {"cursor", "circuit_cursor"}
# What a key that is bound to one application shares with the others of its workspace, and why.
SHARED_BY_APPLICATIONS = {
    "event_type": "the catalogue is the whole workspace's: every application's events are written against it",
    "application_uid": "uids are unique in a workspace, so whoever may choose one learns which are taken",
    "correlation_id": "a text of the publisher's own choice; lists show the key's own application only",
    "workspace": "it is the key's own",
}
# A batch answers 202, with a problem for each event that it refuses.
BATCHES = {"/v1/events/batch"}
HEADERS_OF_ONE_ANSWER = {"x-request-id", "traceparent", "content-length", "date"}

_NEW_ID = re.compile(r"\b[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+|bw_[0-9a-f]+_\w+|\"key_id\":\"\w+\"")


class Walk:
    """Sends requests of one party with names of the other, and remembers what it has looked at."""

    def __init__(
        self, app: FastAPI, client: httpx2.AsyncClient, *, own: Side, other: Side, shared: bool
    ) -> None:
        self.app = app
        self.shared = shared
        self.client = client
        self.own = own
        self.other = other
        self.operations = operations_of(app)
        self.routes: Counter[str] = Counter()
        self.pairs: set[tuple[str, str, str]] = set()
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []

    async def compare(
        self, operation: Operation, named: dict[Place, str], *, refused: set[int] | None
    ) -> None:
        """Send a request that names the other's objects in some places, and one that names nothing's in the same.

        `refused` are the statuses with which it must be refused; None: it may be answered.
        """
        ghosts = {
            place: await ghost_of(self.app, kind, self.other.names[kind]) for place, kind in named.items()
        }
        values = {place: self.other.names[kind] for place, kind in named.items()}
        answer = await self.send(operation, values)
        ghostly = await self.send(operation, ghosts)
        where = f"{operation} with the other's {' and '.join(f'{kind} as {place}' for place, kind in named.items())}"
        self.routes[str(operation)] += 1
        self.pairs |= {(str(operation), str(place), kind) for place, kind in named.items()}
        self.statuses[answer.status_code] += 1
        if leaks := self.other.leaks_in(answer.text, sent=_forms(values.values())):
            self.faults.append(f"{where}: {answer.status_code} shows {leaks}: {answer.text[:300]}")
        if refused is not None and answer.status_code not in refused:
            self.faults.append(f"{where}: {answer.status_code} instead of 404: {answer.text[:300]}")
        if answer.status_code >= 500:
            self.faults.append(f"{where}: {answer.status_code}: {answer.text[:300]}")
        if not POSITIONS.isdisjoint(named.values()):
            return
        seen, expected = _comparable(answer, values.values()), _comparable(ghostly, ghosts.values())
        if seen != expected:
            self.faults.append(f"{where} is told apart from what does not exist:\n  {seen}\n  {expected}")

    def kinds(self) -> set[str]:
        """Return the kinds of the other's objects that are none of the caller's."""
        return set(self.other.names) - (set(SHARED_BY_APPLICATIONS) if self.shared else set())

    async def send(
        self, operation: Operation, named: dict[Place, str], *, headers: dict[str, str] | None = None
    ) -> Any:
        """Send an operation as the caller would for its own objects, but for the places that are given."""
        values = {
            place: named.get(place, self.own.names[place.kind])
            for place in operation.places
            if place.where == "path" or place in named
        }
        path = operation.path
        for place, value in values.items():
            if place.where == "path":
                path = path.replace("{" + place.name + "}", quote(value, safe=""))
        body = {place: value for place, value in values.items() if place.where == "body"}
        return await self.client.request(
            operation.method,
            path,
            params={place.name: value for place, value in values.items() if place.where == "query"},
            headers=headers or self.own.headers,
            **({"json": operation.body_with(body)} if operation.body is not None else {}),
        )


@pytest.fixture(params=["workspaces", "applications"])
async def walk(
    request: pytest.FixtureRequest,
    app: FastAPI,
    client: httpx2.AsyncClient,
    admin: dict[str, str],
    other_admin: dict[str, str],
    make_key: MakeKey,
) -> Walk:
    """A key of one workspace and the objects of another; or a key that is bound to one application of a workspace,
    and the objects of another application.
    """  # noqa: D205
    own = await make_side(app, client, mark="ours", owner=admin)
    if request.param == "workspaces":
        other = await make_side(app, client, mark="theirs", owner=other_admin)
    else:
        other = await make_side(app, client, mark="theirs", owner=admin, catalogue=False)
        key = await make_key("admin", application=own.names["application"])
        own.headers = {"Authorization": f"Bearer {key}"}
    return Walk(app, client, own=own, other=other, shared=request.param == "applications")


async def test_what_a_path_names_is_not_there_for_another(walk: Walk, settings: Settings, report: Report):
    """404 for every kind of the other's ids in every place of every path, and the same as for ids of nothing."""
    # What concerns the whole workspace is 403 for a bound key, whatever it names.
    refused = {403, 404} if walk.shared else {404}
    before = rows_of(settings, walk.other)
    for operation in walk.operations:
        places = operation.places_in("path")
        for count in range(1, len(places) + 1):
            for chosen in combinations(places, count):
                await walk.compare(operation, {place: place.kind for place in chosen}, refused=refused)
        for place in places:
            for kind in sorted(walk.kinds() - {place.kind}):
                await walk.compare(operation, {place: kind}, refused=refused)
    check(walk, report, where="paths", routes=[op for op in walk.operations if op.places_in("path")])
    assert rows_of(settings, walk.other) == before


async def test_what_a_query_names_is_not_there_for_another(walk: Walk, settings: Settings, report: Report):
    """A filter by the other's ids finds nothing, in the words that are said of ids of nothing."""
    before = rows_of(settings, walk.other)
    for operation in walk.operations:
        for place in operation.places_in("query"):
            for kind in sorted(
                {place.kind} | (walk.kinds() if place.kind in LOOKED_UP | POSITIONS else set())
            ):
                await walk.compare(operation, {place: kind}, refused=None)
    check(walk, report, where="queries", routes=[op for op in walk.operations if op.places_in("query")])
    assert rows_of(settings, walk.other) == before


async def test_what_a_body_names_is_not_there_for_another(walk: Walk, settings: Settings, report: Report):
    """The other's ids in bodies are 404 or 422; texts of its choice may be chosen here too, and nothing is told of it."""
    chosen = [
        (operation, place)
        for operation in walk.operations
        for place in operation.places_in("body")
        if not (walk.shared and place.kind in SHARED_BY_APPLICATIONS)
    ]
    # A name that the caller has chosen for itself once would be found the next time: each place gets its own.
    fresh = {
        (operation, place): await walk.other.choose(walk.app, walk.client, place.kind)
        for operation, place in chosen
        if place.kind not in LOOKED_UP
    }
    before = rows_of(settings, walk.other)
    for operation, place in chosen:
        if place.kind in LOOKED_UP:
            for kind in sorted({place.kind} | walk.kinds()):
                await walk.compare(
                    operation, {place: kind}, refused=None if operation.path in BATCHES else {404, 422}
                )
        else:
            walk.other.names[place.kind] = fresh[operation, place]
            await walk.compare(operation, {place: place.kind}, refused=None)
    check(walk, report, where="bodies", routes=[op for op in walk.operations if op.places_in("body")])
    assert rows_of(settings, walk.other) == before


async def test_what_names_nothing_shows_nothing_of_another(walk: Walk, report: Report):
    """Lists, figures, the feed and every other answer hold nothing of the other, nor do the pages that are open to all."""
    shown = 0
    for operation in walk.operations:
        if operation.method != "GET":
            continue
        answer = await walk.send(operation, {})
        assert answer.status_code in {200, 403}, f"{operation}: {answer.text}"
        assert walk.other.leaks_in(answer.text) == [], f"{operation}: {answer.text}"
        shown += bool(walk.own.leaks_in(answer.text))
    for page in sorted(PAGES):
        answer = await walk.client.get(
            page.replace("{slug}", "not-found").replace("{name}", "dashboard.css"), headers=walk.own.headers
        )
        assert walk.other.leaks_in(answer.text) == [], page
    # The answers hold something: an empty server would pass otherwise.
    assert shown >= 15
    report(f"lists: {shown} routes show the caller's own objects, and none of the other's")


async def test_keys_of_repeats_are_each_workspace_s_own(walk: Walk, report: Report):
    """An Idempotency-Key that the other has used, on its very paths with its very bodies, gets nothing of its answers."""
    # Two keys of one workspace share its Idempotency-Keys: what one was answered is refused to the other (422).
    expected = {403, 404, 422} if walk.shared else {201, 202, 403, 404, 409, 422}
    theirs = Walk(walk.app, walk.client, own=walk.other, other=walk.own, shared=walk.shared)
    sent = 0
    for number, operation in enumerate(op for op in walk.operations if op.method == "POST"):
        name = {"Idempotency-Key": f"repeat-{number}"}
        named = {place: walk.other.names[place.kind] for place in operation.places_in("path")}
        first = await theirs.send(operation, {}, headers=walk.other.headers | name)
        second = await walk.send(operation, named, headers=walk.own.headers | name)
        assert first.status_code < 500, first.text
        assert second.status_code in expected, f"{operation}: {second.text}"
        assert "Idempotent-Replayed" not in second.headers, f"{operation}: {second.text}"
        assert walk.other.leaks_in(second.text, sent=_forms(named.values())) == [], (
            f"{operation}: {second.text}"
        )
        sent += first.is_success
    assert sent >= 10
    report(f"repeats: {sent} kept answers of the other, none of them given to the caller")


async def test_walk_finds_a_route_that_leaks(walk: Walk, watch: Watch):
    """A handler that looks up by id alone is found, whatever it answers with."""
    router = APIRouter(route_class=TransactionalRoute)

    @router.get("/v1/leaks/{endpoint}")
    async def leak(endpoint: str, _: Viewer, session: Session) -> dict[str, str]:
        """Show an endpoint of anybody."""
        found = await session.connection()
        row = await found.execute(
            text("SELECT url FROM endpoints WHERE id = :id"), {"id": ids.from_text("ep", endpoint)}
        )
        return {"url": row.scalar_one_or_none() or "none"}

    walk.app.router.routes.extend(router.routes)
    (operation,) = [op for op in operations_of(walk.app) if op.path == "/v1/leaks/{endpoint}"]
    (place,) = operation.places
    await walk.compare(operation, {place: "endpoint"}, refused={404})
    watch.faults.clear()
    assert [fault.split(":")[0].partition(" with ")[0] for fault in walk.faults] == [
        "GET /v1/leaks/{endpoint}"
    ] * 3
    assert "shows ['theirs']" in walk.faults[0]
    assert "200 instead of 404" in walk.faults[1]
    assert "told apart" in walk.faults[2]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/new/{thing}", "path.thing, which the walk does not know"),
        ("/v1/hidden", "in no OpenAPI document"),
    ],
)
async def test_walk_refuses_what_it_was_not_told_of(app: FastAPI, path: str, message: str):
    """A new route whose names nobody has explained makes the walk fail, and the message says what to add."""
    router = APIRouter(route_class=TransactionalRoute)

    async def handler(_: Viewer) -> None:
        """Do nothing."""

    async def handler_of_thing(_: Viewer, thing: str) -> None:
        """Do nothing."""

    router.add_api_route(
        path, handler_of_thing if "{" in path else handler, include_in_schema=path != "/v1/hidden"
    )
    app.router.routes.extend(router.routes)
    with pytest.raises(NotTold, match=message):
        operations_of(app)


def check(walk: Walk, report: Report, *, where: str, routes: list[Operation]) -> None:
    """Check what a walk has found, that it was everywhere, and say how far it went."""
    assert walk.faults == [], "\n".join([f"{len(walk.faults)} faults", *walk.faults[:8]])
    assert set(walk.routes) >= {str(op) for op in routes if not _all_shared(walk, op, where)}
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(walk.statuses.items()))
    report(
        f"{where}: {len(walk.routes)} routes, {len(walk.pairs)} pairs of a place and another's id, none told apart "
        f"from an id of nothing ({statuses})"
    )


def rows_of(settings: Settings, side: Side) -> dict[str, list[str]]:
    """Return every row that holds one of a party's ids, but for when its keys were last used."""
    uuids = {
        str(found)
        for name in side.names.values()
        if _NEW_ID.fullmatch(name) and (found := ids.from_text(name.partition("_")[0], name)) is not None
    }
    rows = {}
    with psycopg.connect(settings.sqlalchemy_url.replace("+psycopg", ""), autocommit=True) as connection:
        for table in Base.metadata.sorted_tables:
            shown = (
                sql.SQL("to_jsonb(t) - 'last_used_at'")
                if table.name == "api_keys"
                else sql.SQL("to_jsonb(t)")
            )
            found = connection.execute(
                sql.SQL("SELECT {}::text FROM {} t WHERE t::text ~ %s ORDER BY 1").format(
                    shown, sql.Identifier(table.name)
                ),
                ["|".join(sorted(uuids))],
            ).fetchall()
            rows[table.name] = [row[0] for row in found]
    return rows


def _all_shared(walk: Walk, operation: Operation, where: str) -> bool:
    return (
        walk.shared
        and where == "bodies"
        and all(place.kind in SHARED_BY_APPLICATIONS for place in operation.places_in("body"))
    )


def _forms(values: Iterable[str]) -> set[str]:
    """Return names as an answer may repeat them: whole, in a URL, cut at 64 characters."""
    return {form for value in values for form in (value, quote(value, safe=""), value[:64])}


def _comparable(answer: Any, names: Iterable[str]) -> tuple[Any, ...]:
    """Return an answer without what differs between any two: the names sent, the request's id, what was made."""
    shown = answer.text.replace(answer.headers["X-Request-Id"], "<request>")
    for form in sorted(_forms(names), key=len, reverse=True):
        shown = shown.replace(form, "<name>")
    if answer.is_success:
        for pattern in (_SECRET, _NEW_ID, _TIME):
            shown = pattern.sub("<new>", shown)
    headers = {name: value for name, value in answer.headers.items() if name not in HEADERS_OF_ONE_ANSWER}
    return answer.status_code, shown, headers
