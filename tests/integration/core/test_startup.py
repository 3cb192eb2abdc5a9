"""What stops a start says what is the matter and what to do, in one sentence each."""

from __future__ import annotations

import base64

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from app.core.errors import StartupError
from app.core.runtime import Runtime
from app.core.settings import Settings
from app.core.startup import open_database
from app.main import create_app

KEY = base64.b64encode(bytes(32)).decode()


def settings_for(url, **changes):
    """Settings with a database address."""
    text_url = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    return Settings(
        environment="development",
        database_url=text_url,
        encryption_keys=KEY,
        database_connect_timeout_seconds=2,
    ).model_copy(update=changes)


async def refusal_of(url):
    """Start an API on this address and return the sentence that stops it."""
    app = create_app(settings_for(url))
    with pytest.raises(StartupError) as caught:
        async with app.router.lifespan_context(app):
            pass
    return str(caught.value)


async def test_database_away(postgres_url):
    """Nobody listens there: the place is named, the password is not."""
    url = make_url(postgres_url).set(port=9)
    sentence = await refusal_of(url)
    assert "127.0.0.1:9" in sentence
    assert "Start Postgres" in sentence
    assert url.password not in sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong"}, ("password authentication failed", "Correct the user or the password")),
        ({"database": "nowhere"}, ('database "nowhere" does not exist', "bellwire migrate")),
    ],
)
async def test_address_that_postgres_refuses(postgres_url, changes, words):
    """A wrong password and a missing database are told apart."""
    sentence = await refusal_of(make_url(postgres_url).set(**changes))
    assert all(word in sentence for word in words), sentence


async def test_schema_behind(make_database):
    """A database that was never migrated leads to `bellwire migrate`."""
    assert "bellwire migrate" in await refusal_of(make_database(migrated=False))


async def test_schema_of_a_newer_version(make_database):
    """A revision that this version does not know is not written over."""
    url = make_database()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'future'")
    assert "newer version was here" in await refusal_of(url)


async def test_missing_key(postgres_url):
    """Without an encryption key nothing starts."""
    app = create_app(settings_for(postgres_url, encryption_keys=()))
    with pytest.raises(StartupError, match="openssl rand -base64 32"):
        async with app.router.lifespan_context(app):
            pass


async def test_start_makes_partitions_and_takes_the_databases_time(make_database):
    """After a week switched off there are partitions for today before the first request."""
    url = make_database()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        names = connection.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = 'events' AND c.relkind = 'r'"
        ).fetchall()
        for (name,) in names:
            connection.execute(f"DROP TABLE {name}")
    runtime = Runtime.open(settings_for(url), name="test")
    try:
        await open_database(runtime)
        async with runtime.engine.connect() as connection:
            made = (
                await connection.execute(
                    text("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")
                )
            ).scalar_one()
    finally:
        await runtime.close()
    assert made == len(names)
    assert runtime.clock.adjusted


async def test_text_of_a_database_error_holds_no_values(postgres_url):
    """What a statement carried does not get into a log by way of its error."""
    runtime = Runtime.open(settings_for(postgres_url), name="test")
    try:
        with pytest.raises(DBAPIError) as caught:
            async with runtime.engine.connect() as connection:
                await connection.execute(
                    text("SELECT 1 / :zero, :secret"), {"zero": 0, "secret": "whsec_abc"}
                )
    finally:
        await runtime.close()
    assert "whsec_abc" not in str(caught.value)
