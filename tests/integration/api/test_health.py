"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import base64

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import event, text

HEARTBEAT = text(
    "INSERT INTO worker_heartbeats (id, name, version, beat_at, in_flight, skew_seconds)"
    " VALUES (gen_random_uuid(), 'host:1', '0', now() - make_interval(secs => :age), 0, 0)"
)
# Port 9 of loopback: nothing listens there.
DEAD_BROKERS = ["redis://127.0.0.1:9/0", "amqp://guest:guest@127.0.0.1:9//", "redis://no-such-host.invalid/0"]


async def states(client):
    """Ask, and return the status code, the whole state, and the state of each check."""
    answer = await client.get("/readyz")
    body = answer.json()
    return (
        answer.status_code,
        body["status"],
        {name: found["status"] for name, found in body["checks"].items()},
    )


async def test_alive(client):
    """No key is needed."""
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready_when_everything_is_there(app, client):
    """Database, schema, broker and a worker that gave a sign of life lately."""
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(HEARTBEAT, {"age": 5})
    checks = dict.fromkeys(("database", "migrations", "broker", "workers", "secrets"), "ok")
    assert await states(client) == (200, "ok", checks)


async def test_without_workers_requests_still_come(app, client):
    """A worker silent for more than 30 s counts as none; events are accepted and wait."""
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(HEARTBEAT, {"age": 31})
    status, whole, checks = await states(client)
    assert (status, whole, checks["workers"]) == (200, "degraded", "degraded")


@pytest.mark.parametrize("url", ["", *DEAD_BROKERS])
async def test_broker_away_only_degrades(make_app, open_client, url):
    """Publishing goes on without a broker, so requests should come."""
    async with open_client(await make_app(broker_url=SecretStr(url))) as client:
        status, whole, checks = await states(client)
    assert (status, whole, checks["broker"], checks["database"]) == (200, "degraded", "degraded", "ok")


async def test_database_away_fails(app, client):
    """503, while the process still lives and says so."""
    await app.state.runtime.engine.dispose()
    app.state.runtime.engine.sync_engine.dialect.connect = _refuse
    status, whole, checks = await states(client)
    assert (status, whole, checks["database"], checks["migrations"]) == (503, "failed", "failed", "failed")
    assert (await client.get("/healthz")).status_code == 200


async def test_secrets_of_a_key_that_is_missing_degrade(make_app, open_client, admin):
    """An API that was started without an earlier key says so; requests that need no secret are answered."""
    other = base64.b64encode(bytes([9]) * 32).decode()
    async with open_client(await make_app()) as client:
        made = await client.post(
            "/v1/endpoints", json={"url": "https://a.example.com", "headers": {"x": "y"}}, headers=admin
        )
        assert made.status_code == 201
    async with open_client(await make_app(encryption_keys=(SecretStr(other),))) as client:
        answer = await client.get("/readyz")
    found = answer.json()["checks"]["secrets"]
    assert (answer.status_code, found["status"]) == (200, "degraded")
    assert found["detail"].startswith("2 stored secrets need a key that is not in BELLWIRE_ENCRYPTION_KEYS")


async def test_secrets_are_not_looked_through_on_each_probe(app, client):
    """What was found is remembered: a probe every second does not read the tables every second."""
    seen = []
    event.listen(
        app.state.runtime.engine.sync_engine, "before_cursor_execute", lambda *call: seen.append(call[2])
    )
    for _ in range(3):
        await client.get("/readyz")
    assert sum("endpoint_secrets" in statement for statement in seen) == 1


async def test_schema_behind_fails(app, client):
    """A database that another version migrated is not served."""
    version = text("UPDATE alembic_version SET version_num = :version")
    async with app.state.runtime.sessions.begin() as session:
        before = (await session.execute(text("SELECT version_num FROM alembic_version"))).scalar_one()
        await session.execute(version, {"version": "0000"})
    try:
        answer = await client.get("/readyz")
    finally:
        async with app.state.runtime.sessions.begin() as session:
            await session.execute(version, {"version": before})
    assert (answer.status_code, answer.json()["checks"]["migrations"]["status"]) == (503, "failed")
    assert "0000" in answer.json()["checks"]["migrations"]["detail"]


async def test_readiness_tells_no_secrets(app, client):
    """Neither the database's nor the broker's address is in the answer."""
    await app.state.runtime.engine.dispose()
    app.state.runtime.engine.sync_engine.dialect.connect = _refuse
    answer = (await client.get("/readyz")).text
    url = app.state.runtime.engine.url
    assert url.password not in answer
    assert str(url.port) not in answer


async def test_metrics_count_requests_by_route(client, admin):
    """Routes are templates: ids make no series of their own."""
    await client.get("/v1/applications/default", headers=admin)
    await client.get("/nonsense/with/an/id")
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    wanted = 'bellwire_http_requests_total{method="GET",route="/v1/applications/{application}",status="200"}'
    assert wanted in answer.text
    assert "with/an/id" not in answer.text


def _refuse(*_args, **_kwargs):
    raise psycopg.OperationalError("connection refused")
