"""Secrets of endpoints: shown, rotated with a grace, revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

import bellwire
from tests.integration.api.traffic import Traffic, uuid_of
from workers.endpoint_settings import EndpointCache

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.conftest import MakeKey


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def signs_with(traffic: Traffic, endpoint: dict[str, Any]) -> list[str]:
    """Return the secrets with which a worker signs now."""
    runtime = traffic.app.state.runtime
    cache = EndpointCache(keyring=runtime.keyring, default_schedule=[1])
    async with runtime.engine.connect() as connection:
        found = await cache.get_many(connection, [(uuid_of(endpoint), 1)])
    now = runtime.clock.unix()
    return [secret for secret, until in found[uuid_of(endpoint)].secrets if until is None or until > now]


async def test_secret_is_shown_to_admins(traffic: Traffic) -> None:
    """The secret of the create answer can be asked for again."""
    made = await traffic.endpoint()
    shown = await traffic.get(f"/v1/endpoints/{made['id']}/secret")
    assert shown == {"secret": made["secret"], "previous": []}


@pytest.mark.parametrize("role", ["viewer", "operator", "publisher"])
async def test_secret_is_shown_to_nobody_else(traffic: Traffic, make_key: MakeKey, role: str) -> None:
    """Who may read, repair or publish may not see a secret: 403, no secret in the answer, and nothing on record."""
    made = await traffic.endpoint()
    key = {"Authorization": f"Bearer {await make_key(role)}"}
    answer = await traffic.client.get(f"/v1/endpoints/{made['id']}/secret", headers=key)
    assert answer.status_code == 403
    assert made["secret"] not in answer.text
    assert (await traffic.get("/v1/audit-log?action=endpoint.secret_revealed"))["data"] == []


async def test_showing_a_secret_is_on_record(traffic: Traffic) -> None:
    """Each time: who, which endpoint, from where; never the secret."""
    made = await traffic.endpoint()
    for _ in range(2):
        await traffic.get(f"/v1/endpoints/{made['id']}/secret")
    entries = (await traffic.get("/v1/audit-log?action=endpoint.secret_revealed"))["data"]
    assert [entry["object"] for entry in entries] == [{"kind": "endpoint", "id": made["id"]}] * 2
    assert {entry["address"] for entry in entries} == {"192.0.2.7"}
    assert {entry["actor"]["kind"] for entry in entries} == {"api_key"}
    assert made["secret"] not in str(entries)


async def test_rotation_signs_with_both_until_the_grace_ends(traffic: Traffic) -> None:
    """After a rotation a worker signs with the new secret first and the one before it."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    rotated = await traffic.post(f"{path}/secret/rotate", {"grace_seconds": 60}, status=200)
    shown = await traffic.get(f"{path}/secret")
    assert rotated["secret"] != made["secret"]
    assert shown["secret"] == rotated["secret"]
    assert len(shown["previous"]) == 1
    assert await signs_with(traffic, made) == [rotated["secret"], made["secret"]]


async def test_rotation_without_grace_ends_the_old_secret(traffic: Traffic) -> None:
    """With a grace of zero only the new secret signs."""
    made = await traffic.endpoint()
    rotated = await traffic.post(
        f"/v1/endpoints/{made['id']}/secret/rotate", {"grace_seconds": 0}, status=200
    )
    assert await signs_with(traffic, made) == [rotated["secret"]]


async def test_rotation_takes_a_given_secret(traffic: Traffic) -> None:
    """A secret of the caller's own becomes the current one; one of the wrong kind is refused."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}/secret/rotate"
    own = bellwire.generate_secret()
    assert await traffic.post(path, {"secret": own}, status=200) == {"secret": own}
    refused = await traffic.post(path, {"secret": bellwire.generate_keypair()[0]}, status=422)
    assert refused["errors"][0]["pointer"] == "/secret"


@pytest.mark.parametrize("grace", [-1, 604_801, "60", 1.5])
async def test_grace_is_bounded(traffic: Traffic, grace: object) -> None:
    """A grace is whole seconds, at most a week."""
    made = await traffic.endpoint()
    answer = await traffic.post(
        f"/v1/endpoints/{made['id']}/secret/rotate", {"grace_seconds": grace}, status=422
    )
    assert answer["errors"][0]["pointer"] == "/grace_seconds"


async def test_revoking_ends_all_graces_at_once(traffic: Traffic) -> None:
    """After revoke-previous only the current secret signs; doing it again changes nothing."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    await traffic.post(f"{path}/secret/rotate", status=200)
    current = await traffic.post(f"{path}/secret/rotate", status=200)
    await traffic.post(f"{path}/secret/revoke-previous", status=200)
    await traffic.post(f"{path}/secret/revoke-previous", status=200)
    assert await signs_with(traffic, made) == [current["secret"]]
    assert (await traffic.get(f"{path}/secret"))["previous"] == []


async def test_retired_secrets_are_kept(traffic: Traffic) -> None:
    """The rows of ended secrets stay, so that old attempts can be shown to verify."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    await traffic.post(f"{path}/secret/rotate", {"grace_seconds": 0}, status=200)
    async with traffic.app.state.runtime.engine.connect() as connection:
        count = await connection.scalar(text("SELECT count(*) FROM endpoint_secrets"))
    assert count == 2


async def test_too_many_signing_secrets_are_refused(traffic: Traffic) -> None:
    """The signature header cannot grow without end; revoking makes room."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    for _ in range(4):
        await traffic.post(f"{path}/secret/rotate", status=200)
    refused = await traffic.post(f"{path}/secret/rotate", status=409)
    assert "revoke-previous" in refused["detail"]
    await traffic.post(f"{path}/secret/revoke-previous", status=200)
    await traffic.post(f"{path}/secret/rotate", status=200)


async def test_workers_see_a_rotation(traffic: Traffic) -> None:
    """A rotation raises the version by which workers cache secrets."""
    made = await traffic.endpoint()
    await traffic.post(f"/v1/endpoints/{made['id']}/secret/rotate", status=200)
    async with traffic.app.state.runtime.engine.connect() as connection:
        versions = (
            await connection.execute(
                text(
                    "SELECT e.settings_version, r.settings_version FROM endpoints e"
                    " JOIN endpoint_runtime r ON r.endpoint_id = e.id"
                )
            )
        ).one()
    assert tuple(versions) == (2, 2)
