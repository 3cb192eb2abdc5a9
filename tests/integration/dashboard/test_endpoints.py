"""The pages of endpoints: what they show to whom, and what their buttons do."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.deliveries.circuit_changes import settle_circuits
from app.deliveries.record import Settle
from app.stats.keeping import count_minutes
from app.stats.spans import floor_to
from tests.integration.api.traffic import uuid_of

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

TABS = ("", "/deliveries", "/settings", "/secret", "/test")
# What an operator may press: the address below the endpoint's, and the word that the page says it with afterwards.
SWITCHES = {
    "pause": "paused",
    "resume": "resumed",
    "disable": "disabled",
    "enable": "enabled",
    "circuit/open": "held",
    "circuit/probe": "probed",
    "circuit/close": "closed",
}


async def press(browser: Browser, endpoint: dict[str, Any], what: str, **fields: str) -> httpx2.Response:
    """Press a button of an endpoint, with the token of the browser's forms."""
    path = f"/dashboard/endpoints/{endpoint['id']}"
    return await browser.submit(f"{path}/{what}", at="/dashboard/endpoints", **fields)


@pytest.mark.parametrize("tab", TABS)
async def test_an_endpoint_of_another_workspace_is_not_there(
    tab: str, owner: Browser, client: httpx2.AsyncClient, other_admin: dict[str, str]
) -> None:
    """As if it did not exist."""
    made = await client.post(
        "/v1/endpoints", json={"url": "https://other.example.com/hooks"}, headers=other_admin
    )

    answer = await owner.get(f"/dashboard/endpoints/{made.json()['id']}{tab}")

    assert answer.status_code == 404
    assert "other.example.com" not in answer.text
    assert "other.example.com" not in (await owner.get("/dashboard/endpoints")).text


@pytest.mark.parametrize("tab", TABS)
async def test_an_id_that_is_none_is_a_page_that_says_so(tab: str, owner: Browser) -> None:
    """Whatever stands where an id belongs."""
    for reference in ("ep_00000000000000000000000000", "nonsense", "ep_'; DROP TABLE endpoints"):
        assert (await owner.get(f"/dashboard/endpoints/{reference}{tab}")).status_code == 404


async def test_a_viewer_sees_no_buttons_and_no_secrets(browse_as: BrowseAs, traffic: Traffic) -> None:
    """On no tab: no form but those of the frame, no query string, no header's value, no key."""
    made = await traffic.endpoint(
        url="https://shop.example.com/hooks?token=hush", headers={"Authorization": "Bearer quiet-zephyr"}
    )
    viewer = await browse_as("viewer")

    for path in ("/dashboard/endpoints", *(f"/dashboard/endpoints/{made['id']}{tab}" for tab in TABS)):
        page = (await viewer.get(path)).text
        assert 'action="/dashboard/endpoints' not in page, path
        for hidden in ("hush", "quiet-zephyr", made["secret"], "New endpoint"):
            assert hidden not in page, (path, hidden)


async def test_a_search_does_not_tell_what_is_hidden(browse_as: BrowseAs, traffic: Traffic) -> None:
    """The query string of a URL is no part of what is searched, for it may be a secret."""
    await traffic.endpoint(url="https://shop.example.com/hooks?token=hush")
    viewer = await browse_as("viewer")

    assert "shop.example.com" in (await viewer.get("/dashboard/endpoints?q=shop.example")).text
    assert "No endpoint matches" in (await viewer.get("/dashboard/endpoints?q=hush")).text


async def test_the_list_shows_how_endpoints_stand(owner: Browser, traffic: Traffic) -> None:
    """State with its reason, breadth, and what waits; a description full of markup stays text."""
    broad = await traffic.endpoint(
        url="https://broad.example.com/hooks", description="Everything <b>bold</b>"
    )
    narrow = await traffic.endpoint(url="https://narrow.example.com/hooks", event_types=["order.*"])
    await traffic.publish("order.placed")
    await traffic.attempt(broad, Settle.RETRY)
    await traffic.post(f"/v1/endpoints/{narrow['id']}/pause", status=200)

    page = (await owner.get("/dashboard/endpoints")).text

    assert f'href="/dashboard/endpoints/{broad["id"]}"' in page
    assert '<span class="loud">all event types</span>' in page
    assert "<code>order.*</code>" in page
    assert "Everything &lt;b&gt;bold&lt;/b&gt;" in page
    assert '<span class="pill warn">paused</span>' in page
    assert "by a person; events keep collecting" in page


async def test_filters_narrow_the_list(owner: Browser, traffic: Traffic) -> None:
    """Each by itself; a value that is none narrows nothing."""
    broad = await traffic.endpoint(url="https://broad.example.com/hooks")
    narrow = await traffic.endpoint(url="https://narrow.example.com/hooks", event_types=["order.*"])
    await traffic.post(f"/v1/endpoints/{narrow['id']}/pause", status=200)
    await traffic.post(f"/v1/endpoints/{broad['id']}/circuit/open", status=200)
    both = {"broad", "narrow"}

    for query, shown in (
        ("q=BROAD", {"broad"}),
        ("q=100%25_", set()),
        (f"q={narrow['id']}", {"narrow"}),
        ("state=paused", {"narrow"}),
        ("state=active", {"broad"}),
        ("state=disabled", set()),
        ("circuit=open", {"broad"}),
        ("types=all", {"broad"}),
        ("application=default", both),
        (f"application={broad['application']}", both),
        ("application=nobody", set()),
        ("state=nonsense&circuit=x&types=y", both),
    ):
        page = (await owner.get(f"/dashboard/endpoints?{query}")).text
        found = {name for name in both if f"{name}.example.com/hooks" in page}
        assert found == shown, query
    assert (await owner.get("/dashboard/endpoints?cursor=nonsense")).status_code == 422


async def test_an_operator_moves_what_a_viewer_may_not(browse_as: BrowseAs, traffic: Traffic) -> None:
    """Every switch and every move of the circuit: refused to a viewer with nothing changed, done for an operator."""
    made = await traffic.endpoint()
    viewer, operator = await browse_as("viewer"), await browse_as("operator")

    for what, done in SWITCHES.items():
        before = await traffic.get(f"/v1/endpoints/{made['id']}")
        refused = await press(viewer, made, what)
        assert refused.status_code == 403, what
        assert await traffic.get(f"/v1/endpoints/{made['id']}") == before, what

        answer = await press(operator, made, what)

        assert answer.status_code == 303, answer.text
        assert answer.headers["location"] == f"/dashboard/endpoints/{made['id']}?done={done}"
        assert 'class="notice ok"' in (await operator.get(answer.headers["location"])).text
    state = await traffic.get(f"/v1/endpoints/{made['id']}")
    assert (state["paused"], state["enabled"], state["health"]["state"]) == (False, True, "closed")


async def test_a_closed_circuit_is_not_probed(owner: Browser, traffic: Traffic) -> None:
    """Who presses a button of a page that is out of date is told why nothing was done."""
    made = await traffic.endpoint()

    answer = await press(owner, made, "circuit/probe")

    assert answer.status_code == 409
    assert "closed" in answer.text


async def test_the_overview_says_why_the_circuit_is_open(
    app: FastAPI, owner: Browser, traffic: Traffic
) -> None:
    """State, reason, next probe, the outcomes as dots with words, the history, and what the backlog waits for."""
    made = await traffic.endpoint()
    for _ in range(12):
        await traffic.publish()
    for _ in range(10):
        await traffic.attempt(made, Settle.RETRY)
    async with app.state.runtime.engine.begin() as connection:
        await settle_circuits(connection, [uuid_of(made)])

    page = (await owner.get(f"/dashboard/endpoints/{made['id']}")).text

    assert '<span class="pill bad">open</span>' in page
    assert "10 requests in a row failed." in page
    assert page.count('class="mark bad"') == 10
    assert '<span class="vh">failed, 503' in page
    assert "Opens after 10 failures in a row" in page
    assert "It waits until the circuit closes" in page
    assert f'action="/dashboard/endpoints/{made["id"]}/circuit/probe"' in page


async def test_deleting_needs_the_host_and_an_admin(browse_as: BrowseAs, traffic: Traffic) -> None:
    """An operator may not, a wrong word does not, and then it is gone."""
    made = await traffic.endpoint(url="https://shop.example.com/hooks")
    operator, admin = await browse_as("operator"), await browse_as("admin")

    assert (await press(operator, made, "delete", typed="shop.example.com")).status_code == 403
    wrong = await press(admin, made, "delete", typed="shop")
    assert wrong.status_code == 422
    assert "type its host, shop.example.com" in wrong.text
    await traffic.get(f"/v1/endpoints/{made['id']}")

    answer = await press(admin, made, "delete", typed=" Shop.example.com ")

    assert answer.headers["location"] == "/dashboard/endpoints?done=deleted"
    await traffic.get(f"/v1/endpoints/{made['id']}", status=404)


async def test_newest_deliveries_stand_on_a_tab_of_their_own(owner: Browser, traffic: Traffic) -> None:
    """With their state, and a link to the list that has all of them."""
    made = await traffic.endpoint()
    event = await traffic.publish()
    await traffic.attempt(made, Settle.RETRY)

    page = (await owner.get(f"/dashboard/endpoints/{made['id']}/deliveries")).text

    assert (await traffic.delivery_of(event))["id"] in page
    assert "<code>http_5xx</code>" in page
    assert f"q=endpoint%3A{made['id']}" in page


@pytest.mark.parametrize("tab", TABS)
async def test_a_page_needs_few_statements(tab: str, owner: Browser, traffic: Traffic) -> None:
    """Three of its own, and the counts of the navigation."""
    made = await traffic.endpoint()
    await traffic.publish()

    answer = await owner.get(f"/dashboard/endpoints/{made['id']}{tab}")

    count = int(answer.headers["server-timing"].partition('desc="')[2].split()[0])
    assert count <= 4


async def test_admins_find_who_changed_an_endpoint(browse_as: BrowseAs, traffic: Traffic) -> None:
    """Each endpoint and application leads to its own part of the audit log; for others there is no such link."""
    made = await traffic.endpoint()
    admin, operator = await browse_as("admin"), await browse_as("operator")

    for path, reference in (
        (f"/dashboard/endpoints/{made['id']}", made["id"]),
        (f"/dashboard/applications/{made['application']}", made["application"]),
    ):
        link = f'href="/dashboard/audit?object={reference}"'
        assert link in (await admin.get(path)).text
        assert link not in (await operator.get(path)).text


async def test_who_disabled_an_endpoint_is_told_by_name(browse_as: BrowseAs, traffic: Traffic) -> None:
    """A person from the dashboard by their address, a program by its key; one that is enabled again forgets it."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    operator = await browse_as("operator")

    await press(operator, made, "disable")

    assert (await traffic.get(path))["disabled_reason"] == (
        "Disabled by operator@example.com, from the dashboard."
    )
    assert (
        "disabled: by operator@example.com, from the dashboard"
        in (await operator.get(f"/dashboard/endpoints/{made['id']}")).text
    )
    await traffic.post(f"{path}/enable", status=200)
    assert (await traffic.get(path))["disabled_reason"] is None
    answer = await traffic.client.patch(path, json={"enabled": False}, headers=traffic.headers)
    assert answer.json()["disabled_reason"].startswith("Disabled by the API key ")
    assert "by the API key" in (await operator.get("/dashboard/endpoints")).text


async def test_who_moved_the_circuit_is_told_by_name(browse_as: BrowseAs, traffic: Traffic) -> None:
    """People by their addresses, programs by their keys, and Bellwire by its own name."""
    made = await traffic.endpoint()
    operator = await browse_as("operator")

    await press(operator, made, "circuit/open")
    await traffic.post(f"/v1/endpoints/{made['id']}/circuit/close", status=200)

    history = (await operator.get(f"/dashboard/endpoints/{made['id']}")).text.partition('id="history"')[2]
    assert "operator@example.com" in history
    assert "usr_" not in history
    assert "key_" not in history


@pytest.mark.parametrize(("days", "tone"), [(3, ' class="text-warn"'), (80, "")])
async def test_the_overview_tells_when_the_certificate_ends(
    days: int, tone: str, app: FastAPI, owner: Browser, traffic: Traffic
) -> None:
    """In time to renew it; without an attempt that reached anybody nothing is said."""
    made = await traffic.endpoint()
    path = f"/dashboard/endpoints/{made['id']}"
    await traffic.publish()
    assert "<dt>Receiver</dt>" not in (await owner.get(path)).text
    ends = app.state.runtime.clock.now() + timedelta(days=days, hours=1)

    await traffic.attempt(
        made,
        ip="203.0.113.7",
        http_version="1.1",
        tls_version="TLSv1.3",
        certificate_expires_at=int(ends.timestamp()),
    )

    page = (await owner.get(path)).text
    assert "<code>203.0.113.7</code>, HTTP/1.1, TLSv1.3" in page
    assert f"<dt>Certificate</dt><dd{tone}>expires" in page


async def test_the_list_shows_latencies_step_by_step(app: FastAPI, owner: Browser, traffic: Traffic) -> None:
    """The p95 of the range beside small bars of each of its steps; a dash where nothing was sent."""
    made = await traffic.endpoint(event_types=["order.*"])
    await traffic.endpoint(event_types=["invoice.*"])
    await traffic.publish("order.placed")
    await traffic.attempt(made, duration_ms=250.0)
    now = floor_to(app.state.runtime.clock.now(), 1)
    async with app.state.runtime.engine.begin() as connection:
        await count_minutes(connection, [now - timedelta(minutes=1), now])

    page = (await owner.get("/dashboard/endpoints?range=1h")).text

    assert page.count('aria-label="p95, oldest first, at most 2') == 1
