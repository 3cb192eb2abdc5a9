"""`bellwire doctor` on real services."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest

from app.core.crypto import Keyring
from tests.integration.cli.conftest import ENCRYPTION_KEY, libpq

if TYPE_CHECKING:
    from tests.conftest import MakeDatabase
    from tests.integration.cli.conftest import Run

OTHER_KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def services(clean_database: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database and a broker that the environment names; no API runs."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", libpq(clean_database))
    monkeypatch.setenv("BELLWIRE_BROKER_URL", broker_url)
    monkeypatch.setenv("BELLWIRE_ENCRYPTION_KEYS", ENCRYPTION_KEY)
    monkeypatch.setenv("BELLWIRE_URL", "http://127.0.0.1:1")
    return clean_database


def execute(url: str, statement: str, *values: Any) -> None:
    """Run one statement."""
    with psycopg.connect(libpq(url)) as connection:
        connection.execute(statement, values)  # type: ignore[arg-type]


def findings(run: Run) -> dict[str, dict[str, Any]]:
    """Return what doctor found, by name."""
    return {check["name"]: check for check in json.loads(run("doctor").stdout)["checks"]}


def test_healthy_services_are_found_healthy(run: Run, services: str) -> None:
    """Everything but what does not run here is well; no address shows a password."""
    execute(
        services,
        "INSERT INTO worker_heartbeats (id, name, version, in_flight, skew_seconds)"
        " VALUES (gen_random_uuid(), 'w', '1', 0, 0)",
    )

    found = findings(run)

    assert {name for name, check in found.items() if check["ok"] is not True} == {"api"}
    assert "Postgres" in found["database"]["detail"]
    password = psycopg.conninfo.conninfo_to_dict(libpq(services))["password"]
    assert str(password) not in json.dumps(found)


def test_silent_workers_are_missed(run: Run, services: str) -> None:
    """A heartbeat of ten minutes ago is no worker, and doctor says when it was."""
    execute(
        services,
        "INSERT INTO worker_heartbeats (id, name, version, in_flight, skew_seconds, beat_at)"
        " VALUES (gen_random_uuid(), 'w', '1', 0, 0, now() - interval '10 minutes')",
    )

    workers = findings(run)["workers"]

    assert workers["ok"] is False
    assert re.search(r"was seen 6\d\d s ago", workers["detail"])
    assert "bellwire worker" in workers["advice"]


def test_workers_with_wrong_clocks_are_named(run: Run, services: str) -> None:
    """Workers that claim and whose clocks are off by more than seconds are named, the worst one first."""
    for name, skew in (("good", 1), ("behind", -7), ("ahead", 600)):
        execute(
            services,
            "INSERT INTO worker_heartbeats (id, name, version, in_flight, skew_seconds)"
            " VALUES (gen_random_uuid(), %s, '1', 0, %s)",
            name,
            skew,
        )
    execute(
        services,
        "INSERT INTO worker_heartbeats (id, name, version, in_flight, skew_seconds, beat_at)"
        " VALUES (gen_random_uuid(), 'gone', '1', 0, 900, now() - interval '10 minutes')",
    )

    workers = findings(run)["workers"]

    assert workers["ok"] is False
    assert workers["detail"] == (
        "3 processes claim, but the clocks of 2 differ from the database's: ahead by +600 s, behind by -7 s"
    )
    assert "NTP" in workers["advice"]


def test_a_missing_encryption_key_is_found_before_a_delivery_fails(
    run: Run, services: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets that were sealed with another key are noticed; with both keys all is well."""
    seal_secret(services, key=OTHER_KEY)

    missing = findings(run)["secrets"]
    monkeypatch.setenv("BELLWIRE_ENCRYPTION_KEYS", f"{ENCRYPTION_KEY},{OTHER_KEY}")
    both = findings(run)["secrets"]

    assert (missing["ok"], both["ok"]) == (False, True)
    assert "Add the earlier key" in missing["advice"]


@pytest.mark.parametrize(
    ("public", "trusted", "well", "words"),
    [
        ("https://hooks.example.com", "", False, "names none"),
        ("https://hooks.example.com", "10.0.0.0/8,fd00::/8", True, "10.0.0.0/8, fd00::/8"),
        ("https://hooks.example.com", "10.0.0.0/8,0.0.0.0/0", False, "every address"),
        ("https://hooks.example.com", "::/0", False, "every address"),
        ("http://hooks.example.com", "", False, "not https"),
        ("http://10.0.0.7:8400", "10.0.0.0/8", False, "not https"),
        ("http://127.0.0.1:8400", "", True, "this machine"),
        ("http://localhost:8400", "", True, "this machine"),
        ("", "", True, "this machine"),
    ],
)
def test_a_proxy_that_nobody_named_is_noticed(
    run: Run,
    services: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    public: str,
    trusted: str,
    well: bool,
    words: str,
) -> None:
    """Behind a proxy that is not trusted all callers look the same; and nobody reaches a server in clear unwarned."""
    monkeypatch.setenv("BELLWIRE_BASE_URL", public)
    monkeypatch.setenv("BELLWIRE_TRUSTED_PROXIES", trusted)

    found = findings(run)["addresses"]

    assert (found["ok"], words in found["detail"]) == (well, True)
    assert bool(found["advice"]) is not well


def test_partitions_that_run_out_are_noticed(
    run: Run, make_database: MakeDatabase, services: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the partition of tomorrow, doctor says what makes it."""
    url = make_database()
    with psycopg.connect(libpq(url)) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE 'events_p%' ORDER BY tablename DESC LIMIT 7"
        ).fetchall()
        for (name,) in rows:
            connection.execute(f"DROP TABLE {name}")  # type: ignore[arg-type]
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", libpq(url))

    partitions = findings(run)["partitions"]

    assert partitions["ok"] is False
    assert "0 days ahead" in partitions["detail"]
    assert "bellwire migrate" in partitions["advice"]


def test_a_schema_that_is_missing_is_told(
    run: Run, make_database: MakeDatabase, services: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an empty database doctor names the command, and does not look at tables that are not there."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", libpq(make_database(migrated=False)))

    found = findings(run)

    assert found["migrations"]["ok"] is False
    assert "bellwire migrate" in found["migrations"]["advice"]
    assert [found[name]["ok"] for name in ("partitions", "secrets", "workers")] == [None, None, None]


def seal_secret(url: str, *, key: str) -> None:
    """Store an endpoint with a secret that is sealed with `key`."""
    workspace, application, endpoint, secret = (uuid4() for _ in range(4))
    sealed = Keyring([key]).seal(b"whsec", row=UUID(int=secret.int), column="sealed_secret")
    execute(url, "INSERT INTO workspaces (id, name) VALUES (%s, 'W')", workspace)
    execute(
        url,
        "INSERT INTO applications (id, workspace_id, uid, name) VALUES (%s, %s, 'a', 'A')",
        application,
        workspace,
    )
    execute(
        url,
        "INSERT INTO endpoints (id, workspace_id, application_id, url) VALUES (%s, %s, %s, 'https://a.example')",
        endpoint,
        workspace,
        application,
    )
    execute(
        url,
        "INSERT INTO endpoint_secrets (id, endpoint_id, sealed_secret) VALUES (%s, %s, %s)",
        secret,
        endpoint,
        sealed,
    )
