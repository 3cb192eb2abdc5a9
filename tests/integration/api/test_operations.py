"""Events of Bellwire's own, as a workspace's operators meet them: through the API, by the how-to's own commands."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.deliveries.record import Settle
from app.endpoints.disabling import disable_gone
from app.endpoints.failing import settle_failing
from app.operations.catalogue import CATALOGUE
from app.operations.outbox import Outbox
from tests.integration.api.traffic import Traffic, uuid_of
from tests.unit.docs.conftest import read_page

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

HOW_TO = read_page("docs/howto/hear-from-bellwire.md")


class Operators(Traffic):
    """The application, with a worker's publisher of notices."""

    async def patch(self, path: str, body: Any) -> None:
        """PATCH, and check that it was taken."""
        answer = await self.client.patch(path, json=body, headers=self.headers)
        assert answer.status_code == 200, answer.text

    async def publish_notices(self) -> int:
        """Publish what waits, as a worker does; return how many events that made."""
        runtime = self.app.state.runtime
        outbox = Outbox(engine=runtime.engine, clock=runtime.clock, settings=runtime.settings)
        try:
            return (await outbox.publish_oldest()).published
        finally:
            outbox.close()

    async def told(self) -> list[dict[str, Any]]:
        """Return the events of `operations`, oldest first."""
        await self.publish_notices()
        events = (await self.get("/v1/events?application=operations"))["data"]
        return [await self.get(f"/v1/events/{event['id']}") for event in reversed(events)]

    async def fails_since(self, endpoint: dict[str, Any], *, hours: int) -> None:
        """Let an endpoint have failed for so long."""
        async with self.app.state.runtime.engine.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE endpoint_runtime SET consecutive_failures = 30,"
                    " failing_since = now() - make_interval(hours => :hours) WHERE endpoint_id = :id"
                ),
                {"hours": hours, "id": uuid_of(endpoint)},
            )

    async def attend_to_failing(self) -> tuple[int, int]:
        """Warn and disable, as upkeep does."""
        async with self.app.state.runtime.engine.begin() as connection:
            return await settle_failing(connection)


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Operators:
    """The application, seen by an admin."""
    return Operators(app=app, client=client, headers=admin)


def commands() -> list[tuple[str, Any]]:
    """Return what each curl of the how-to asks for: its path, and its body (None: a GET)."""
    found = []
    for block in HOW_TO.blocks("sh"):
        words = shlex.split(block.replace("\\\n", " "))
        (url,) = (word for word in words if word.startswith("http://127.0.0.1:8400"))
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
        found.append((url.removeprefix("http://127.0.0.1:8400"), body))
    return found


async def test_the_how_to_s_commands_bring_the_events(traffic: Operators) -> None:
    """Registered as the page says, an endpoint on `operations` gets a delivery when a secret is rotated."""
    register, rotate, filtered, read = commands()
    shop = await traffic.endpoint()
    receiver = await traffic.post(*register, status=201)
    # Its filter asks for more than one attempt.
    await traffic.post(*filtered, status=201)

    path = rotate[0].replace(rotate[0].split("/")[3], shop["id"])
    await traffic.post(path, rotate[1], status=200)
    await traffic.publish()
    await traffic.attempt(shop, Settle.DEAD)
    published = await traffic.publish_notices()

    listed = (await traffic.get("/v1/deliveries?application=operations"))["data"]
    fed = await traffic.get(read[0])
    assert published == 2
    assert [
        (found["event"]["type"], found["endpoint"]["id"], found["state"]) for found in reversed(listed)
    ] == [
        ("secret.rotated", receiver["id"], "pending"),
        ("delivery.dead", receiver["id"], "pending"),
    ]
    assert [event["type"] for event in fed["data"]] == ["delivery.dead"]
    assert (await traffic.claim(receiver))[0].endpoint_id == uuid_of(receiver)


async def test_every_event_has_the_documented_members(traffic: Operators) -> None:
    """What is published is what the catalogue says, member by member, with ids that the API knows."""
    dying, gone, failing, closed = [
        await traffic.endpoint(url=f"https://shop.example.com/{name}?key=secret", event_types=[f"{name}.a"])
        for name in ("dying", "gone", "failing", "closed")
    ]
    await traffic.publish("dying.a")
    await traffic.attempt(dying, Settle.DEAD)
    async with traffic.app.state.runtime.engine.begin() as connection:
        await disable_gone(connection, endpoint_id=uuid_of(gone))
    for hours in (30, 130):
        await traffic.fails_since(failing, hours=hours)
        await traffic.attend_to_failing()
    await traffic.post(f"/v1/endpoints/{closed['id']}/disable", status=200)
    await traffic.post(f"/v1/endpoints/{dying['id']}/secret/rotate", {}, status=200)

    events = await traffic.told()

    documented = {told.type: set(told.members) for told in CATALOGUE}
    assert [(event["type"], event["data"].get("by"), event["data"]["endpoint"]) for event in events] == [
        ("delivery.dead", None, dying["id"]),
        ("endpoint.disabled", "gone", gone["id"]),
        ("endpoint.failing", None, failing["id"]),
        ("endpoint.disabled", "failing", failing["id"]),
        ("endpoint.disabled", "person", closed["id"]),
        ("secret.rotated", None, dying["id"]),
    ]
    for event in events:
        assert set(event["data"]) == documented[event["type"]], event["type"]
        assert event["data"]["application"] == dying["application"]
        assert event["data"]["application_uid"] == "default"
        assert "secret" not in event["data"].get("url", "")


async def test_a_person_s_disabling_is_told_once(traffic: Operators) -> None:
    """By its own route or by PATCH; a repeat, enabling and pausing are no news."""
    first, second = await traffic.endpoint(), await traffic.endpoint()
    for _ in range(2):
        await traffic.post(f"/v1/endpoints/{first['id']}/disable", status=200)
        await traffic.patch(f"/v1/endpoints/{second['id']}", {"enabled": False})
    for verb in ("enable", "pause", "resume"):
        await traffic.post(f"/v1/endpoints/{first['id']}/{verb}", status=200)

    events = await traffic.told()

    assert [(event["data"]["by"], event["data"]["endpoint"]) for event in events] == [
        ("person", first["id"]),
        ("person", second["id"]),
    ]
    assert all("API" in event["data"]["reason"] for event in events)


async def test_new_secret_of_another_kind_is_told(traffic: Operators) -> None:
    """A change of the signature makes a new secret; a change of something else does not."""
    made = await traffic.endpoint()
    await traffic.patch(f"/v1/endpoints/{made['id']}", {"description": "Other"})
    await traffic.patch(f"/v1/endpoints/{made['id']}", {"signature": "ed25519"})

    (event,) = await traffic.told()

    assert (event["type"], event["data"]["grace_seconds"]) == ("secret.rotated", 86_400)
    assert event["data"]["actor"]["kind"] == "api_key"
    assert event["data"]["actor"]["id"].startswith("key_")


async def test_nothing_is_told_of_operations_own_endpoints(traffic: Operators) -> None:
    """Rotating and disabling an endpoint on `operations` causes no event there."""
    made = await traffic.endpoint(application="operations")
    await traffic.post(f"/v1/endpoints/{made['id']}/secret/rotate", {}, status=200)
    await traffic.post(f"/v1/endpoints/{made['id']}/disable", status=200)

    assert await traffic.told() == []


async def test_only_the_workspace_hears_of_it(traffic: Operators, other_admin: dict[str, str]) -> None:
    """Another workspace's `operations` stays empty."""
    made = await traffic.endpoint()
    await traffic.post(f"/v1/endpoints/{made['id']}/disable", status=200)
    await traffic.publish_notices()

    answer = await traffic.client.get("/v1/events?application=operations", headers=other_admin)

    assert (answer.status_code, answer.json()["data"]) == (200, [])


@pytest.mark.parametrize(("close", "open_again"), [("disable", "enable"), ("pause", "resume")])
async def test_opening_begins_the_days_anew(traffic: Operators, close: str, open_again: str) -> None:
    """An endpoint that is opened after a week is not disabled for the days in which nothing was sent."""
    made = await traffic.endpoint()
    await traffic.fails_since(made, hours=200)
    await traffic.post(f"/v1/endpoints/{made['id']}/{close}", status=200)

    await traffic.post(f"/v1/endpoints/{made['id']}/{open_again}", status=200)

    assert await traffic.attend_to_failing() == (0, 0)
    assert (await traffic.get(f"/v1/endpoints/{made['id']}"))["enabled"] is True


async def test_change_of_settings_does_not_begin_the_days_anew(traffic: Operators) -> None:
    """Editing an endpoint that fails saves it from nothing; what it was disabled for can be read."""
    made = await traffic.endpoint()
    await traffic.fails_since(made, hours=200)
    await traffic.patch(f"/v1/endpoints/{made['id']}", {"description": "Please"})

    assert await traffic.attend_to_failing() == (0, 1)

    shown = await traffic.get(f"/v1/endpoints/{made['id']}")
    (entry,) = (await traffic.get(f"/v1/audit-log?object={made['id']}&action=endpoint.disabled"))["data"]
    assert (shown["enabled"], entry["actor"]) == (False, {"kind": "bellwire", "id": "bellwire"})
    assert "enable the endpoint" in shown["disabled_reason"]
