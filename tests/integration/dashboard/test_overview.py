"""Overview: a newcomer's first steps, the figures of a workspace, its incidents, and who may send a sample event."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from app.deliveries.record import Settle
from app.stats.keeping import count_minutes, sample_backlog
from app.stats.spans import floor_to

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

EVIL = "<script>alert(1)</script>"


async def count(app: FastAPI) -> None:
    """Let upkeep count what has happened."""
    runtime = app.state.runtime
    async with runtime.engine.begin() as connection:
        now = floor_to((await connection.execute(text("SELECT now()"))).scalar_one(), 1)
        await count_minutes(connection, [now - timedelta(minutes=1), now])
        await sample_backlog(connection)


async def beat(app: FastAPI, *, seconds_ago: int = 0) -> None:
    """Let a worker give a sign of life."""
    async with app.state.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO worker_heartbeats (id, name, version, beat_at, in_flight, skew_seconds) VALUES"
                " (gen_random_uuid(), 'worker-1', '1', now() - make_interval(secs => :ago), 3, 0.002)"
            ),
            {"ago": seconds_ago},
        )


def statements_of(answer: httpx2.Response) -> int:
    """How many statements the page says that it took."""
    found = re.search(r"(\d+) statements", answer.headers["server-timing"])
    assert found is not None
    return int(found[1])


async def test_a_newcomer_is_led_through_three_steps(owner: Browser, traffic: Traffic) -> None:
    """Each is ticked off by what has really happened, and the command has this server's address."""
    first = (await owner.get("/dashboard/")).text
    assert "Send your first event" in first
    assert "curl http://" in first
    assert "Bearer YOUR_API_KEY" in first
    assert first.count('class="done"') == 0

    endpoint = await traffic.endpoint()
    with_endpoint = (await owner.get("/dashboard/")).text
    assert with_endpoint.count('class="done"') == 1
    assert f'href="/dashboard/endpoints/{endpoint["id"]}"' in with_endpoint

    await traffic.publish()
    await traffic.attempt(endpoint, Settle.SUCCEEDED)
    arrived = (await owner.get("/dashboard/")).text
    assert arrived.count('class="done"') == 3
    assert "Your first event has arrived" in arrived


async def test_a_sample_event_goes_the_way_of_every_event(owner: Browser, traffic: Traffic) -> None:
    """It is stored, matched with endpoints, and the page says how many."""
    await traffic.endpoint(event_types=["order.*"])

    answer = await owner.submit("/dashboard/sample", at="/dashboard/")

    assert answer.status_code == 303
    (event,) = (await traffic.get("/v1/events"))["data"]
    assert (event["type"], event["deliveries"]) == ("order.placed", 1)
    shown = (await owner.get(answer.headers["location"])).text
    assert f"The event {event['id']} is accepted and goes to 1 endpoint." in shown


async def test_a_sample_event_that_nobody_wants_says_so(owner: Browser, traffic: Traffic) -> None:
    """And what to do."""
    await traffic.endpoint(event_types=["invoice.*"])
    answer = await owner.submit("/dashboard/sample", at="/dashboard/")
    assert "No endpoint wants its type" in (await owner.get(answer.headers["location"])).text


async def test_a_sample_event_with_an_impossible_type_is_refused(owner: Browser, traffic: Traffic) -> None:
    """With the words of the API, and nothing is stored."""
    answer = await owner.submit("/dashboard/sample", at="/dashboard/", type=EVIL)
    assert answer.status_code == 422
    assert EVIL not in answer.text
    assert (await traffic.get("/v1/events"))["data"] == []


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 303), ("admin", 303)])
async def test_who_may_send_a_sample_event(browse_as: BrowseAs, role: str, status: int) -> None:
    """Who may not does not see the button either."""
    browser = await browse_as(role)
    assert ("Send a sample event" in (await browser.get("/dashboard/")).text) is (status == 303)
    answer = await browser.submit("/dashboard/sample", at="/dashboard/")
    assert answer.status_code == status


async def test_a_notice_is_no_place_for_texts_of_others(owner: Browser) -> None:
    """An address that somebody was sent cannot put words into the page."""
    shown = (await owner.get("/dashboard/", params={"done": "sample", "event": EVIL, "endpoints": EVIL})).text
    assert "The event" not in shown
    assert EVIL not in shown


async def test_figures_and_incidents_are_those_of_the_workspace(
    app: FastAPI, owner: Browser, traffic: Traffic
) -> None:
    """Attempts, failures by endpoint and class, and how to look closer or to pause."""
    endpoint = await traffic.endpoint(description=EVIL)
    for outcome in (Settle.SUCCEEDED, Settle.RETRY, Settle.RETRY):
        await traffic.publish()
        await traffic.attempt(endpoint, outcome)
    await count(app)

    answer = await owner.get("/dashboard/")

    assert "1 succeeded, 2 failed" in answer.text
    assert f'href="/dashboard/endpoints/{endpoint["id"]}"' in answer.text
    assert f"endpoint={endpoint['id']}&amp;code=" in answer.text
    assert f'action="/dashboard/endpoints/{endpoint["id"]}/pause"' in answer.text
    assert EVIL not in answer.text
    assert "&lt;script&gt;" in answer.text


async def test_overview_is_made_with_few_statements(app: FastAPI, owner: Browser, traffic: Traffic) -> None:
    """Five with the one that looks the session up, whatever is on the page."""
    endpoint = await traffic.endpoint()
    await traffic.publish()
    await traffic.attempt(endpoint, Settle.RETRY)
    await count(app)
    for path in ("/dashboard/", "/dashboard/?range=7d", "/dashboard/system", "/dashboard/audit"):
        assert statements_of(await owner.get(path)) <= 4, path


async def test_a_viewer_has_no_buttons(app: FastAPI, browse_as: BrowseAs, traffic: Traffic) -> None:
    """They are absent, and credentials in an endpoint's address are hidden."""
    endpoint = await traffic.endpoint(url="https://shop.example.com/hooks?token=planted")
    await traffic.publish()
    await traffic.attempt(endpoint, Settle.RETRY)
    await count(app)

    shown = (await (await browse_as("viewer")).get("/dashboard/")).text

    assert "shop.example.com/hooks" in shown
    assert "planted" not in shown
    assert "/pause" not in shown


async def test_one_application_is_shown_by_id_or_by_its_own_name(
    app: FastAPI, owner: Browser, traffic: Traffic
) -> None:
    """Its own name leads to its id; the figures are its own; one that is not there is 404."""
    acme = await traffic.post("/v1/applications", {"name": "Acme", "uid": "acme"}, status=201)
    endpoint = await traffic.endpoint()
    await traffic.publish()
    await traffic.attempt(endpoint, Settle.SUCCEEDED)
    await count(app)

    named = await owner.get("/dashboard/?range=1h&application=acme")

    assert named.status_code == 303
    assert named.headers["location"] == f"/dashboard/?range=1h&application={acme['id']}"
    shown = (await owner.get(named.headers["location"])).text
    assert "No attempts over the last hour." in shown
    assert "1 succeeded" in (await owner.get("/dashboard/?range=1h")).text
    assert (await owner.get("/dashboard/?application=nobody")).status_code == 404


async def test_a_red_banner_when_no_worker_lives(app: FastAPI, owner: Browser) -> None:
    """Half a minute without a sign of life; it goes when one comes back."""
    await beat(app, seconds_ago=31)
    assert "No worker has given a sign of life for 31 s" in (await owner.get("/dashboard/")).text
    await beat(app)
    shown = (await owner.get("/dashboard/")).text
    assert "No worker has given" not in shown
    assert "1 alive" in shown


async def test_system_shows_settings_to_admins_and_secrets_to_nobody(
    app: FastAPI, browse_as: BrowseAs
) -> None:
    """Viewers see whether all is well."""
    await beat(app)
    admins, viewers = await browse_as("admin"), await browse_as("viewer")

    for_admins = (await admins.get("/dashboard/system")).text
    for_viewers = (await viewers.get("/dashboard/system")).text

    secrets = [
        app.state.settings.bootstrap_key.get_secret_value(),
        app.state.settings.instance_key.get_secret_value(),
        app.state.settings.encryption_keys[0].get_secret_value(),
        app.state.settings.database_url.get_secret_value(),
    ]
    assert all(len(secret) > 8 and secret not in for_admins for secret in secrets)
    assert "BELLWIRE_RETENTION_DAYS" in for_admins
    assert "BELLWIRE_RETENTION_DAYS" not in for_viewers
    for shown in (for_admins, for_viewers):
        assert "worker-1" in shown
        assert "The schema is up to date" in shown
