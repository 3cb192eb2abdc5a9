"""Old rows in a real database: exact numbers that agree with each other, where the service looks for them."""

from __future__ import annotations

import base64

import psycopg
import pytest
from sqlalchemy import create_engine, pool

from app.access.workspaces import ensure_first_workspace
from app.core import partitions
from app.core.runtime import Runtime
from app.core.settings import Settings
from bench.backlog import write_backlog
from bench.endpoints import write_endpoints
from bench.seed import seed

KEY = base64.b64encode(bytes(32)).decode()
DELIVERIES, ATTEMPTS = 10_000, 17_000
# Every count must be 0.
CONTRADICTIONS = {
    "a delivery without its event": "SELECT count(*) FROM deliveries d LEFT JOIN events e ON e.id = d.event_id"
    " WHERE e.id IS NULL",
    "an attempt that differs from its delivery": "SELECT count(*) FROM attempts a LEFT JOIN deliveries d"
    " ON d.id = a.delivery_id AND d.endpoint_id = a.endpoint_id AND d.event_id = a.event_id WHERE d.id IS NULL",
    "a delivery with another number of attempts": "SELECT count(*) FROM deliveries d LEFT JOIN"
    " (SELECT delivery_id, count(*) n, max(number) highest FROM attempts GROUP BY 1) a ON a.delivery_id = d.id"
    " WHERE d.attempt_count IS DISTINCT FROM a.n OR a.n <> a.highest",
    "a state that its last attempt does not have": "SELECT count(*) FROM deliveries d JOIN attempts a"
    " ON a.delivery_id = d.id AND a.number = d.attempt_count"
    " WHERE (d.state = 'succeeded') <> (a.outcome = 'succeeded')",
    "a success before the end": "SELECT count(*) FROM deliveries d JOIN attempts a ON a.delivery_id = d.id"
    " WHERE a.number < d.attempt_count AND a.outcome <> 'failed'",
    "a failure without a class": "SELECT count(*) FROM attempts WHERE (outcome = 'failed') <> (error_class IS NOT NULL)",
    "an id of another time": "SELECT count(*) FROM attempts"
    " WHERE ('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint"
    " <> round(extract(epoch FROM started_at) * 1000)",
    "an id that is no UUIDv7": "SELECT count(*) FROM deliveries WHERE substr(id::text, 15, 1) <> '7'",
    "something in the future": "SELECT count(*) FROM attempts WHERE started_at > now()",
    "something that waits": "SELECT count(*) FROM delivery_queue",
}


@pytest.fixture
async def database(make_database):
    """A database of this test's own, with the first workspace."""
    url = make_database()
    settings = Settings(environment="development", database_url=url, encryption_keys=KEY)
    runtime = Runtime.open(settings, name="test")
    await ensure_first_workspace(runtime)
    await runtime.close()
    return url


@pytest.fixture
def query(database):
    """Runs a query and returns its rows."""
    with psycopg.connect(
        database.replace("postgresql+psycopg", "postgresql", 1), autocommit=True
    ) as connection:
        yield lambda text: connection.execute(text).fetchall()


@pytest.fixture
def seeded(database):
    """The URL of a database with old rows."""
    seed(database, keys=[KEY], deliveries=DELIVERIES, attempts=ATTEMPTS)
    return database


def test_the_numbers_are_exact_and_agree(seeded, query):
    """As many rows as were asked for, and no row contradicts another."""
    assert query("SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM attempts)") == [
        (DELIVERIES, ATTEMPTS)
    ]
    assert {what: query(text)[0][0] for what, text in CONTRADICTIONS.items()} == dict.fromkeys(
        CONTRADICTIONS, 0
    )


def test_the_history_is_plausible(seeded, query):
    """Every final state and most error classes occur; success is the rule; all of the last seven days have rows."""
    states = dict(query("SELECT state, count(*) FROM deliveries GROUP BY 1"))
    assert set(states) == {"succeeded", "dead", "cancelled"}
    assert states["succeeded"] > 0.95 * DELIVERIES
    assert len(query("SELECT DISTINCT error_class FROM attempts WHERE error_class IS NOT NULL")) >= 5
    assert len(query("SELECT DISTINCT endpoint_id FROM deliveries")) == 40
    assert len(query("SELECT DISTINCT started_at::date FROM attempts")) >= 7


def test_the_partitions_are_those_that_the_service_makes(seeded, query):
    """Each has the indexes of its table, and a look for missing ones finds none."""
    engine = create_engine(seeded, poolclass=pool.NullPool)
    with engine.begin() as connection:
        assert partitions.ensure(connection) == []
    engine.dispose()
    lacking = query(
        "SELECT i.inhrelid::regclass FROM pg_inherits i JOIN pg_partitioned_table p ON p.partrelid = i.inhparent"
        " WHERE (SELECT count(*) FROM pg_index WHERE indrelid = i.inhrelid)"
        " <> (SELECT count(*) FROM pg_index WHERE indrelid = i.inhparent)"
    )
    assert lacking == []


def test_a_second_run_adds_to_the_first(seeded, query):
    """What is there stays, also in partitions that have rows already."""
    seed(seeded, keys=[KEY], deliveries=400, attempts=400)
    assert query("SELECT count(*) FROM deliveries") == [(DELIVERIES + 400,)]


def test_a_backlog_is_what_publishing_writes(database, query):
    """Each waiting delivery has its event, its record and its queue row, in order, ready to be claimed."""
    address = database.replace("postgresql+psycopg", "postgresql", 1)
    (endpoint,) = write_endpoints(
        database, keys=[KEY], secret="whsec_" + KEY, targets=[("http://127.0.0.1:8999/", ["x"])]
    )
    write_backlog(address, endpoint_id=endpoint, rows=10_500)
    assert query(
        "SELECT count(*), count(DISTINCT q.event_id), bool_and(q.state = 0 AND q.due_at <= now()),"
        " bool_and(d.state = 'pending' AND d.endpoint_id = q.endpoint_id), bool_and(e.deliveries = 1)"
        " FROM delivery_queue q JOIN deliveries d USING (id) JOIN events e ON e.id = q.event_id"
    ) == [(10_500, 10_500, True, True, True)]


def test_a_database_that_was_never_used_is_refused(make_database):
    """Without a workspace there is no application: the sentence says what makes one."""
    with pytest.raises(ValueError, match="Start the API once"):
        seed(make_database(), keys=[KEY], deliveries=10, attempts=10)
