"""Made-up data is such as the service writes: nothing contradicts anything, ids have their times, signatures verify."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import orjson
import psycopg
import pytest
from typer.testing import CliRunner

import bellwire
from app.access.workspaces import ensure_first_workspace
from app.cli import cli
from app.core import ids
from app.core.crypto import Keyring
from app.core.runtime import Runtime
from app.core.settings import Settings
from app.seeding.seed import CannotSeed, Order, seed
from tests.integration.bench.test_seed_database import CONTRADICTIONS

if TYPE_CHECKING:
    from tests.conftest import MakeDatabase

KEY = base64.b64encode(bytes(32)).decode()
DELIVERIES = 3_000
# Every count must be 0.
MORE_CONTRADICTIONS = {
    **{
        what: query
        for what, query in CONTRADICTIONS.items()
        if what
        not in {"an id of another time", "something that waits", "a state that its last attempt does not have",
                "a delivery with another number of attempts"}
    },
    "a delivery with another number of attempts": "SELECT count(*) FROM deliveries d LEFT JOIN"
    " (SELECT delivery_id, count(*) n, max(number) highest FROM attempts GROUP BY 1) a ON a.delivery_id = d.id"
    " WHERE d.attempt_count <> coalesce(a.n, 0) OR a.n <> a.highest",
    "a success whose last attempt failed": "SELECT count(*) FROM deliveries d JOIN attempts a"
    " ON a.delivery_id = d.id AND a.number = d.attempt_count"
    " WHERE (d.state = 'succeeded') <> (a.outcome = 'succeeded')",
    "an attempt whose id is not of its end": "SELECT count(*) FROM attempts"
    " WHERE abs(('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint"
    " - extract(epoch FROM started_at) * 1000 - duration_ms) > 1.5",
    "an attempt before the one before it": "SELECT count(*) FROM attempts a JOIN attempts b"
    " ON b.delivery_id = a.delivery_id AND b.number = a.number + 1 WHERE b.started_at < a.started_at",
    "a waiting delivery without its place": "SELECT count(*) FROM deliveries d FULL JOIN delivery_queue q USING (id)"
    " WHERE (d.state = 'pending') IS DISTINCT FROM (q.id IS NOT NULL)",
    "an undelivered one that is not noted": "SELECT count(*) FROM deliveries d FULL JOIN undelivered u ON u.delivery_id = d.id"
    " WHERE (d.state IN ('dead', 'cancelled')) IS DISTINCT FROM (u.delivery_id IS NOT NULL)",
    "an event with another number of deliveries": "SELECT count(*) FROM events e WHERE e.deliveries <>"
    " (SELECT count(*) FROM deliveries d WHERE d.event_id = e.id)",
    "phases longer than the whole": "SELECT count(*) FROM attempts WHERE duration_ms * 1.01 + 1 <"
    " coalesce(dns_ms, 0) + coalesce(connect_ms, 0) + coalesce(tls_ms, 0) + coalesce(send_ms, 0) + coalesce(wait_ms, 0)"
    " + coalesce(receive_ms, 0)",
    "a roll-up that differs": "SELECT count(*) FROM (SELECT count(*) FROM attempts) a(n), (SELECT sum(succeeded + failed + unknown)"
    " FROM attempt_rollups WHERE step_minutes = 120 AND application_id IS NULL) r(n) WHERE a.n <> r.n",
}  # fmt: skip


@pytest.fixture
async def settings(make_database: MakeDatabase) -> Settings:
    """Settings of a database of this test's own, with the first workspace."""
    made = Settings(environment="development", database_url=make_database(), encryption_keys=KEY)
    runtime = Runtime.open(made, name="test")
    await ensure_first_workspace(runtime)
    await runtime.close()
    return made


def rows(settings: Settings, query: str, *values: object) -> list[tuple]:
    """Run a query; return its rows."""
    address = settings.sqlalchemy_url.replace("postgresql+psycopg", "postgresql", 1)
    with psycopg.connect(address) as connection:
        return connection.execute(query, values or None).fetchall()


def test_nothing_contradicts_anything(settings: Settings) -> None:
    """As many deliveries as were asked for, in every state, and each row agrees with all others."""
    made = seed(settings, Order(deliveries=DELIVERIES))

    states = dict(rows(settings, "SELECT state, count(*) FROM deliveries GROUP BY 1"))
    assert sum(states.values()) == made.deliveries == DELIVERIES
    assert set(states) == {"succeeded", "pending", "dead", "cancelled"}
    assert states["succeeded"] > 0.9 * DELIVERIES
    assert {
        what: rows(settings, query)[0][0] for what, query in MORE_CONTRADICTIONS.items()
    } == dict.fromkeys(MORE_CONTRADICTIONS, 0)


def test_attempts_are_about_as_many_as_wanted(settings: Settings) -> None:
    """Twice as many attempts as deliveries, within a tenth."""
    made = seed(settings, Order(deliveries=DELIVERIES, attempts=2 * DELIVERIES, days=3))

    assert made.attempts == pytest.approx(2 * DELIVERIES, rel=0.1)


def test_the_same_seed_tells_the_same_story(settings: Settings, make_database: MakeDatabase) -> None:
    """Two runs with one seed have the same deliveries at the same endpoints, by their order; another seed has others."""
    stories = []
    for number in (5, 5, 6):
        before = [row[0] for row in rows(settings, "SELECT id FROM endpoints")]
        seed(settings, Order(deliveries=500, days=2, seed=number))
        stories.append(
            [
                row[0]
                for row in rows(
                    settings,
                    "SELECT e.url || d.event_type FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id"
                    " WHERE e.id <> ALL(%s) ORDER BY d.id",
                    before,
                )
            ]
        )
    assert len(stories[0]) == 500
    assert sorted(stories[0]) == sorted(stories[1])
    assert sorted(stories[0]) != sorted(stories[2])


def test_signatures_verify(settings: Settings) -> None:
    """What an attempt shows as sent verifies with the endpoint's secret, over the body that a worker would send."""
    seed(settings, Order(deliveries=300, days=1))
    keyring = Keyring([KEY])

    found = rows(
        settings,
        "SELECT a.request_headers, s.id, s.sealed_secret, e.id, e.type, e.data, e.occurred_at FROM attempts a"
        " JOIN events e ON e.id = a.event_id JOIN endpoint_secrets s ON s.endpoint_id = a.endpoint_id",
    )
    assert len(found) >= 300
    for headers, row, sealed, event_id, event_type, data, occurred_at in found:
        sent = dict(orjson.loads(headers))
        secret = keyring.open(bytes(sealed), row=row, column="sealed_secret").decode()
        stamp = occurred_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = b'{"type":"%b","timestamp":"%b","data":%b}' % (event_type.encode(), stamp.encode(), data)
        assert sent["webhook-id"] == ids.to_text(ids.EVENT, event_id)
        bellwire.Webhook(secret).verify(body, sent, now=int(sent["webhook-timestamp"]))


def test_fewer_attempts_than_deliveries_are_refused(settings: Settings) -> None:
    """The sentence says what fits, before anything is written."""
    with pytest.raises(CannotSeed, match="at least as many attempts"):
        seed(settings, Order(deliveries=100, attempts=99))
    assert rows(settings, "SELECT count(*) FROM endpoints") == [(0,)]


def test_production_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """In production nothing is written, and the sentence says so."""
    for name, value in {
        "ENVIRONMENT": "production",
        "DATABASE_URL": settings.sqlalchemy_url,
        "ENCRYPTION_KEYS": KEY,
        "BASE_URL": "https://bellwire.example.com",
        "BROKER_URL": "redis://127.0.0.1:1/0",
    }.items():
        monkeypatch.setenv(f"BELLWIRE_{name}", value)

    result = CliRunner().invoke(cli, ["seed"])

    assert result.exit_code == 4
    assert "refused in production" in result.stderr
    assert rows(settings, "SELECT count(*) FROM endpoints") == [(0,)]
