"""The dashboard as a browser meets it: real processes with deliveries of every kind, a person, and the list of pages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute

from app.core import ids
from app.dashboard.router import routers
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page, Request

    from tests.faults.harness.scene import Scene

BOUND_SECONDS = 60.0
# Of `fill`, before the circuit opens: three for the event with the markup and one that dies; /failing has one retry.
DELIVERIES, RETRIES = 4, 2
# As Playwright counts, in ms: bounds, not expectations.
BOUND_MS = 15_000
MARKUP = "<img src=x onerror=alert(1)><b>bold</b><script>alert(2)</script>"

# GET routes that are no page: streams, and files of ours.
NO_PAGES = frozenset(
    {
        "/dashboard/changes",
        "/dashboard/live/rows",
        "/dashboard/{rest:path}",
        "/static/{name}",
        "/static/script/{version}/{name}",
    }
)
_PARAMETER = re.compile(r"/(?P<before>[a-z-]+)/\{(?P<name>[a-z_]+)(:[a-z]+)?\}")


def templates_of_pages() -> list[str]:
    """Return the path of every page, as its route says it: a page that is new is in the gate by itself."""
    return sorted(
        {
            route.path
            for router in routers()
            for route in router.routes
            if isinstance(route, APIRoute) and "GET" in route.methods and route.path not in NO_PAGES
        }
    )


@dataclass(slots=True)
class Site:
    """A running dashboard. `objects` has one of each kind that pages are about, by the folder of its page."""

    scene: Scene
    browser: Browser
    state: dict[str, object]
    objects: dict[str, str] = field(default_factory=dict)
    dead: str = ""

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.scene.stack.base_url

    def path_of(self, template: str) -> str:
        """Return the address of a page: ids stand where its route has parameters."""

        def fill(found: re.Match[str]) -> str:
            before = found["before"]
            assert before in self.objects, (
                f"Say in `fill` of site.py which id {template} takes after /{before}/."
            )
            return f"/{before}/{self.objects[before]}"

        return _PARAMETER.sub(fill, template)

    async def open_context(self, **options: Any) -> BrowserContext:
        """Open a browser in which the admin is signed in, unless another state is given."""
        context = await self.browser.new_context(
            **{"base_url": self.url, "storage_state": self.state, **options}
        )
        context.set_default_timeout(BOUND_MS)
        return context


@dataclass
class Witness:
    """Notes what a page does that it must not do. Without slots: Playwright writes into who listens."""

    host: str
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _finished: list[Request] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Watch a page from now on."""
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((self.host, "data:")) else self.foreign.append(request.url)
            ),
        )
        page.on(
            "console",
            lambda said: (
                self.errors.append(f"{said.text} ({said.location})") if said.type == "error" else None
            ),
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfinished", self._note)

    def forget(self) -> None:
        """Begin anew, with another page."""
        self.foreign.clear()
        self.errors.clear()
        self._finished.clear()

    def _note(self, request: Request) -> None:
        self._finished.append(request)

    async def bytes_received(self) -> int:
        """Return how many bytes came over the line so far, heads included; what a page reads again does not count."""
        first = [each for each in self._finished if each.resource_type not in {"fetch", "eventsource"}]
        sizes = [await request.sizes() for request in first]
        return sum(each["responseBodySize"] + each["responseHeadersSize"] for each in sizes)


async def fill(scene: Scene) -> tuple[dict[str, str], str]:
    """Make deliveries in every state; return an object of each kind, and a dead delivery."""
    stack, publish = scene.stack, scene.publisher.publish
    client = stack.client
    await stack.create_endpoint(
        f"/ok?token={MARKUP}",
        event_types=["order.*"],
        description=MARKUP,
        metadata={"team": MARKUP},
        headers={"x-markup": MARKUP},
    )
    failing = await stack.create_endpoint("/failing", event_types=["order.*", "dead.*"], retry_schedule=[0])
    await stack.create_endpoint("/waiting", event_types=["order.*"], retry_schedule=[86_400])
    await scene.receiver.behave("/failing", statuses=[503], headers={"x-answer": MARKUP})
    await scene.receiver.behave("/waiting", statuses=[500])
    await stack.create_endpoint("/late", event_types=["late.*"])
    dead = await publish("dead.one")
    assert dead is not None
    marked = await client.post(
        "/v1/events",
        json={
            "type": "order.placed",
            "data": {"name": MARKUP, "large": 9007199254740993},
            "metadata": {"note": MARKUP},
        },
    )
    event = marked.json()["id"]
    await wait_until(
        lambda: stack.number("SELECT count(*) FROM attempts") == DELIVERIES + RETRIES,
        seconds=BOUND_SECONDS,
        what="every delivery is tried, and those of /failing are dead",
    )
    # No publisher can write such a type: the page must show what is stored all the same.
    event_id = ids.from_text(ids.EVENT, event)
    for table, column, event_column in (
        ("events", "type", "id"),
        ("deliveries", "event_type", "event_id"),
        ("attempts", "event_type", "event_id"),
    ):
        stack.sql(f"UPDATE {table} SET {column} = %s WHERE {event_column} = %s", (MARKUP, event_id))  # noqa: S608 - names of ours
    # The circuit of /failing opens, and what comes for it waits. No more rows than that: each of them is looked at.
    for _ in range(12):
        assert await publish("dead.more") is not None
    for _ in range(2):
        assert await publish("order.placed") is not None
    await wait_until(
        lambda: stack.number("SELECT count(*) FROM endpoint_runtime WHERE circuit_state = 'open'") > 0,
        seconds=BOUND_SECONDS,
        what="the circuit of /failing opens",
    )
    of_event = (await client.get(f"/v1/events/{event}/deliveries")).json()["data"]
    keys = (await client.post("/v1/api-keys", json={"name": MARKUP, "role": "viewer"})).json()
    invited = await client.post(
        "/v1/users", json={"email": "bea@example.com", "role": "viewer", "name": MARKUP}
    )
    applications = (await client.get("/v1/applications")).json()["data"]
    delivery = next(each["id"] for each in of_event if each["endpoint"]["id"] == failing.id)
    objects = {
        # Its first one, by number.
        "attempts": "1",
        "events": event,
        "deliveries": delivery,
        "endpoints": failing.id,
        "applications": applications[0]["id"],
        "keys": keys["id"],
        "people": invited.json()["id"],
    }
    found = await stack.list_all("/v1/deliveries", endpoint=failing.id, state="dead")
    return objects, next(each["id"] for each in found if each["event"]["id"] == dead.id)


async def sign_in(scene: Scene, browser: Browser, *, email: str = "admin@example.com") -> dict[str, object]:
    """Sign an admin in, as people do it the first time: with a login link."""
    invited = await scene.stack.client.post("/v1/users", json={"email": email, "role": "admin"})
    link = invited.json()["login_link"]["url"]
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(scene.stack.base_url + link[link.index("/login/") :])
    await page.get_by_role("button", name="Sign in as").click()
    await page.wait_for_url("**/dashboard/")
    state = await context.storage_state()
    await context.close()
    return dict(state)
