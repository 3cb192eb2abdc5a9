"""Quotas of workspaces and failed keys, over the API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.conftest import MakeApp

EVENT = {"type": "order.placed", "data": {}}
ENDPOINT = {"url": "https://hooks.example.com/"}
WRONG = {"Authorization": "Bearer bw_not_a_key_of_anybody_0123456789"}


async def workspace_of(client: httpx2.AsyncClient, instance: dict[str, str]) -> str:
    """The id of the first workspace."""
    answer = await client.get("/v1/workspaces", headers=instance)
    return str(answer.json()["data"][-1]["id"])


@pytest.fixture(params=["/v1/applications", "/v1/events"])
def guarded(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An ordinary route, and that of publishing, which goes its own way."""
    return ("GET" if request.param == "/v1/applications" else "POST", request.param)


async def test_failing_keys_get_429_and_a_valid_one_at_the_same_address_never(
    make_app: MakeApp,
    open_client: Callable[[FastAPI], Any],
    admin: dict[str, str],
    guarded: tuple[str, str],
) -> None:
    """Nobody behind a NAT locks out the others."""
    method, path = guarded
    app = await make_app(auth_failures_per_minute=5)
    async with open_client(app) as client:
        wrong = [await client.request(method, path, json=EVENT, headers=WRONG) for _ in range(7)]
        without = await client.request(method, path, json=EVENT)
        valid = await client.request(method, path, json=EVENT, headers=admin)

    assert [answer.status_code for answer in wrong] == [401] * 5 + [429] * 2
    assert int(wrong[-1].headers["Retry-After"]) >= 1
    assert wrong[-1].json()["type"] == "/problems/rate-limited"
    assert without.status_code == 401
    assert valid.is_success, valid.text


async def test_events_above_the_quota_are_refused_and_nothing_of_them_is_stored(
    make_app: MakeApp, open_client: Callable[[FastAPI], Any], admin: dict[str, str]
) -> None:
    """429 with `Retry-After` and a problem of its own; a batch counts by its events; all keys of a workspace share."""
    app = await make_app(workspace_events_per_second=0.01)
    async with open_client(app) as client:
        first = await client.post("/v1/events/batch", json={"events": [EVENT] * 3}, headers=admin)
        key = await client.post("/v1/api-keys", json={"name": "p", "role": "publisher"}, headers=admin)
        publisher = {"Authorization": f"Bearer {key.json()['key']}"}
        refused = [
            await client.post("/v1/events", json=EVENT, headers=admin),
            await client.post("/v1/events", json=EVENT, headers=publisher),
            await client.post("/v1/events", json=EVENT, headers=admin | {"Idempotency-Key": "one"}),
            await client.post("/v1/events/batch", json={"events": [EVENT]}, headers=admin),
        ]
        stored = await client.get("/v1/events", headers=admin)

    assert first.json()["accepted"] == 3
    assert [answer.status_code for answer in refused] == [429] * 4
    assert {answer.json()["type"] for answer in refused} == {"/problems/quota-exceeded"}
    assert int(refused[0].headers["Retry-After"]) > 100
    assert len(stored.json()["data"]) == 3


async def test_bytes_above_the_quota_are_refused(
    make_app: MakeApp, open_client: Callable[[FastAPI], Any], admin: dict[str, str]
) -> None:
    """The body as it was sent counts."""
    app = await make_app(workspace_payload_bytes_per_second=10)
    large = EVENT | {"data": {"text": "x" * 10_000}}
    async with open_client(app) as client:
        answers = [await client.post("/v1/events", json=large, headers=admin) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 429]
    assert "10 bytes per second" in answers[1].json()["detail"]


async def test_endpoints_above_the_quota_are_refused_however_many_come_at_once(
    make_app: MakeApp,
    open_client: Callable[[FastAPI], Any],
    admin: dict[str, str],
    instance: dict[str, str],
) -> None:
    """The number is exact; a deleted one makes room; another workspace is not concerned."""
    app = await make_app(workspace_endpoints=3)
    async with open_client(app) as client:
        made = await asyncio.gather(
            *(client.post("/v1/endpoints", json=ENDPOINT, headers=admin) for _ in range(8))
        )
        good = [answer.json() for answer in made if answer.status_code == 201]
        refused = [answer for answer in made if answer.status_code != 201]
        other = await client.post("/v1/workspaces", json={"name": "Other"}, headers=instance)
        elsewhere = await client.post(
            "/v1/endpoints",
            json=ENDPOINT,
            headers={"Authorization": f"Bearer {other.json()['api_key']}"},
        )
        await client.delete(f"/v1/endpoints/{good[0]['id']}", headers=admin)
        again = await client.post("/v1/endpoints", json=ENDPOINT, headers=admin)

    assert len(good) == 3
    assert {(answer.status_code, answer.json()["type"]) for answer in refused} == {
        (409, "/problems/quota-reached")
    }
    assert elsewhere.status_code == 201
    assert again.status_code == 201


async def test_a_workspace_may_have_quotas_of_its_own(
    make_app: MakeApp,
    open_client: Callable[[FastAPI], Any],
    admin: dict[str, str],
    instance: dict[str, str],
) -> None:
    """Set with the instance key, shown, audited; null goes back to the setting, and what is left out stays."""
    app = await make_app(workspace_endpoints=1)
    async with open_client(app) as client:
        path = f"/v1/workspaces/{await workspace_of(client, instance)}"
        statuses = [(await client.post("/v1/endpoints", json=ENDPOINT, headers=admin)).status_code]
        for quotas in ({"endpoints": 2}, {"events_per_second": 5.5}, {"endpoints": 0}, {"endpoints": None}):
            changed = await client.patch(path, json={"quotas": quotas}, headers=instance)
            assert changed.status_code == 200, changed.text
            statuses += [
                (await client.post("/v1/endpoints", json=ENDPOINT, headers=admin)).status_code for _ in "12"
            ]
        log = await client.get("/v1/audit-log", params={"action": "workspace.quotas_changed"}, headers=admin)

    assert statuses == [201, 201, 409, 409, 409, 201, 201, 409, 409]
    assert changed.json()["quotas"] == {
        "events_per_second": 5.5,
        "payload_bytes_per_second": None,
        "endpoints": None,
    }
    entries = log.json()["data"]
    assert len(entries) == 4
    assert entries[0]["actor"] == {"kind": "instance", "id": "instance"}
    assert (entries[0]["before"], entries[0]["after"]) == ({"max_endpoints": 0}, {"max_endpoints": None})


async def test_quotas_are_the_instances_to_set(
    client: httpx2.AsyncClient, admin: dict[str, str], instance: dict[str, str]
) -> None:
    """Not even the workspace's admin sets them; and what makes no sense is refused."""
    workspace = await workspace_of(client, instance)
    path = f"/v1/workspaces/{workspace}"

    by_admin = await client.patch(path, json={"quotas": {"endpoints": 9}}, headers=admin)
    wrong = [
        await client.patch(path, json={"quotas": quotas}, headers=instance)
        for quotas in ({"endpoints": -1}, {"endpoints": 10**15}, {"deliveries": 1}, {"endpoints": 1.5}, None)
    ]
    nobody = [
        await client.patch(f"/v1/workspaces/{other}", json={"quotas": {}}, headers=instance)
        for other in ("wsp_00000000000000000000000000", "nonsense", workspace.replace("wsp_", "app_"))
    ]

    assert by_admin.status_code == 403
    assert [answer.status_code for answer in wrong] == [422] * 5
    assert [answer.status_code for answer in nobody] == [404] * 3


async def test_a_quota_adds_no_statement_to_a_publish(
    make_app: MakeApp,
    open_client: Callable[[FastAPI], Any],
    admin: dict[str, str],
    instance: dict[str, str],
) -> None:
    """What a workspace may use comes with its key, which is remembered."""
    counts = []
    for rate in (0, 1_000):
        app = await make_app(workspace_events_per_second=rate)
        statements: list[str] = []
        async with open_client(app) as client:
            await client.post("/v1/events", json=EVENT, headers=admin)
            engine = app.state.runtime.publish_engine.sync_engine
            event.listen(
                engine, "before_cursor_execute", lambda *given, seen=statements: seen.append(given[2])
            )
            answers = [await client.post("/v1/events", json=EVENT, headers=admin) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [202] * 5
        counts.append(len(statements))

    assert counts[0] == counts[1] > 0
