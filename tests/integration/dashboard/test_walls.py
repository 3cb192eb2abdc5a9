"""Every route of the dashboard with the wrong person: nothing of others is shown, and nothing is changed.

The routes come from the application itself, so a new one is walked by itself. What must be told is which object a
name in a path stands for: `NAMES`. A name that is not there is an error, so nothing new is passed over.
"""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute

from app.core import ids
from tests.integration.api.test_walk import rows_of
from tests.integration.api.walls.operations import DASHBOARD
from tests.integration.api.walls.sides import make_side
from tests.integration.people.conftest import CSRF, sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2
    from fastapi import FastAPI

    from app.core.settings import Settings
    from tests.conftest import Report
    from tests.integration.api.conftest import MakeApp
    from tests.integration.api.walls.sides import Side
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser, OpenBrowser

# Which kind of object (`walls/sides.py`) a name in a path stands for.
NAMES = {
    "application": "application",
    "attempt": "attempt",
    "delivery": "delivery",
    "endpoint": "endpoint",
    "event": "event",
    "key": "key",
    "session": "session",
    "subscription": "subscription",
    "user": "user",
    "view": "view",
}
# Names that are no object's: words of Bellwire's own.
WORDS = {"rest": "nowhere"}
# Answers that do not end while somebody reads them (tests/integration/dashboard/test_live.py).
STREAMS = re.compile(r"/dashboard/(changes|live/rows)")
# Kinds that no other party has here: an id of the right form that is nothing's stands for them.
NOBODYS = {"view": None, "session": ids.SESSION}
# What everybody may do, also where the dashboard is read only: it concerns nobody but themselves.
OWN = re.compile(r"/dashboard/(theme|views(/.*)?)")


def routes_of(app: FastAPI, method: str, *, streams: bool = False) -> list[APIRoute]:
    """All routes of the dashboard that take a method; those that do not end only if asked for."""
    return [
        route
        for route in app.routes
        if isinstance(route, APIRoute)
        and route.path_format.startswith(DASHBOARD)
        and method in (route.methods or ())
        and (streams or not STREAMS.fullmatch(route.path_format))
    ]


def names_in(route: APIRoute) -> list[str]:
    """The names in a route's path."""
    return re.findall(r"\{(\w+)\}", route.path_format)


def path_of(route: APIRoute, side: Side, **given: str) -> str:
    """A path of a route with a party's own names in it, but for those that are given."""
    values = {name: given.get(name) or name_of(side, name) for name in names_in(route)}
    return route.path_format.format(**values)


def name_of(side: Side, name: str) -> str:
    """What stands for a name of a path."""
    kind = name.removesuffix("_id")
    if kind in WORDS:
        return WORDS[kind]
    assert kind in NAMES, (
        f"nobody has said what {name!r} names in a path of the dashboard: add it to NAMES or WORDS"
    )
    if NAMES[kind] in NOBODYS:
        prefix, made = NOBODYS[NAMES[kind]], ids.uuid7(1_800_000_000_000)
        return ids.to_text(prefix, made) if prefix else str(made)
    return side.names[NAMES[kind]]


def foreign_paths(route: APIRoute, *, own: Side, other: Side) -> Iterator[str]:
    """Paths of a route in which at least one name is another party's, of whatever kind."""
    places = [name for name in names_in(route) if name.removesuffix("_id") not in WORDS]
    choices = [[None, *(each for each in other.names.values() if "_" in each)] for _ in places]
    for chosen in product(*choices):
        if any(chosen):
            yield path_of(
                route, own, **{name: value for name, value in zip(places, chosen, strict=True) if value}
            )


async def token_of(browser: Browser) -> str:
    """The token that the forms of a browser carry."""
    found = CSRF.search((await browser.get("/dashboard/")).text)
    assert found is not None
    return found[1]


@pytest.fixture
async def sides(
    app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str], other_admin: dict[str, str]
) -> tuple[Side, Side]:
    """The objects of the first workspace, and those of another."""
    own = await make_side(app, client, mark="ours", owner=admin)
    return own, await make_side(app, client, mark="theirs", owner=other_admin)


async def test_who_is_not_signed_in_sees_and_does_nothing(
    app: FastAPI, sides: tuple[Side, Side], open_browser: OpenBrowser, settings: Settings
) -> None:
    """Every page leads to the door, and to the page afterwards; every form leads to the door."""
    own, _ = sides
    stranger = await open_browser()
    before = rows_of(settings, own)
    for route in routes_of(app, "GET", streams=True):
        path = path_of(route, own)
        answer = await stranger.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={path}"), path
        assert own.leaks_in(answer.text) == []
    for route in routes_of(app, "POST"):
        answer = await stranger.post(path_of(route, own), data={})
        assert (answer.status_code, answer.headers["location"]) == (303, "/login"), route.path_format
    assert rows_of(settings, own) == before


async def test_another_workspace_s_objects_are_not_there(
    app: FastAPI, sides: tuple[Side, Side], owner: Browser, settings: Settings, report: Report
) -> None:
    """404 for every kind of the other's ids in every place of every path, for pages and for forms."""
    own, other = sides
    before = rows_of(settings, other)
    faults, walked = [], 0
    for route in routes_of(app, "GET"):
        for path in foreign_paths(route, own=own, other=other):
            answer = await owner.get(path)
            walked += 1
            if answer.status_code != 404:
                faults.append(f"GET {path}: {answer.status_code}")
            if leaks := other.leaks_in(answer.text, sent=[path, *other.names.values()]):
                faults.append(f"GET {path} shows {leaks}")
    token = await token_of(owner)
    for route in routes_of(app, "POST"):
        for path in foreign_paths(route, own=own, other=other):
            answer = await owner.post(path, data={"csrf": token})
            walked += 1
            # A view has a plain UUID, and what is none is told so (422) before anything is looked for.
            if answer.status_code not in ({404, 422} if OWN.fullmatch(path) else {404}):
                faults.append(f"POST {path}: {answer.status_code}")
    assert faults == []
    assert rows_of(settings, other) == before
    report(f"{walked} paths of the dashboard with another workspace's ids: all 404")


async def test_lists_hold_nothing_of_another_workspace(
    app: FastAPI, sides: tuple[Side, Side], owner: Browser
) -> None:
    """Nor do they when the address asks for it."""
    own, other = sides
    shown = 0
    for route in routes_of(app, "GET"):
        path = path_of(route, own)
        asked: list[dict[str, Any]] = [
            {},
            *(
                {kind: other.names[kind], "q": f"{kind}:{other.names[kind]}", "range": "7d"}
                for kind in ("application", "endpoint", "event", "delivery", "key", "user")
            ),
        ]
        for query in asked:
            answer = await owner.get(path, params=query)
            assert answer.status_code < 500, f"{path} {query}: {answer.text}"
            sent = [value for text in query.values() for value in (text, text.replace(":", "%3A"))]
            leaks = other.leaks_in(
                answer.text, sent=[*sent, *(other.names[kind] for kind in query if kind in other.names)]
            )
            assert leaks == [], f"{path} {query}"
            shown += bool(own.leaks_in(answer.text))
    # The pages hold something: an empty dashboard would pass otherwise.
    assert shown


async def test_a_form_without_its_token_does_nothing(
    app: FastAPI, sides: tuple[Side, Side], owner: Browser, settings: Settings
) -> None:
    """403, also for an owner: a page of another site has no token."""
    own, _ = sides
    await token_of(owner)
    before = rows_of(settings, own)
    for route in routes_of(app, "POST"):
        path = path_of(route, own)
        for form in ({}, {"csrf": "0" * 64}):
            assert (await owner.post(path, data=form)).status_code == 403, path
    assert rows_of(settings, own) == before


async def test_a_viewer_changes_nothing(
    app: FastAPI, sides: tuple[Side, Side], browse_as: BrowseAs, settings: Settings
) -> None:
    """403 for every form but those that are about the viewer's own browser and views."""
    own, _ = sides
    viewer = await browse_as("viewer")
    await refuse_all(app, viewer, own, settings)


async def test_a_dashboard_that_is_read_only_changes_nothing(
    sides: tuple[Side, Side],
    make_app: MakeApp,
    open_browser: OpenBrowser,
    add_person: Any,
    settings: Settings,
) -> None:
    """403 for an owner, too, and every page says so."""
    own, _ = sides
    await add_person("owner@example.com", "owner")
    app = await make_app(dashboard_read_only=True)
    browser = await open_browser(app)
    assert (await sign_in(browser, "owner@example.com")).status_code == 303
    assert "read only" in (await browser.get("/dashboard/")).text
    await refuse_all(app, browser, own, settings)


async def refuse_all(app: FastAPI, browser: Browser, own: Side, settings: Settings) -> None:
    """Send every form as somebody who may send none: each is refused, and says why, and no row has changed."""
    token = await token_of(browser)
    before = rows_of(settings, own)
    for route in routes_of(app, "POST"):
        path = path_of(route, own)
        answer = await browser.post(path, data={"csrf": token})
        if OWN.fullmatch(path):
            assert answer.status_code != 403, path
            continue
        assert answer.status_code == 403, f"{path}: {answer.status_code}"
        assert "nothing was done" in answer.text, path
    assert rows_of(settings, own) == before
