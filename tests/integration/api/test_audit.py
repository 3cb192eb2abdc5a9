"""The audit log: every change and reveal is in it, no secret is, nobody can change it, and it can be taken away."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
import uuid
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

import bellwire
from app.access import export
from app.api.openapi import describe
from app.core import ids
from app.core.settings import Settings
from app.main import create_app
from tests.integration.api.audited import CALLS, EXEMPT, REVEALING
from tests.integration.api.conftest import INSTANCE_KEY
from tests.integration.api.traffic import Traffic
from tests.unit.docs.conftest import read_page
from workers.upkeep.forgetting import forget_audit_entries

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.conftest import MakeDatabase
    from tests.integration.api.conftest import MakeKey

OPERATIONS = {
    operation["operationId"]: method
    for operations in describe(create_app(Settings.model_construct()))["paths"].values()
    for method, operation in operations.items()
}
MARKER = "MARKERsecret0123456789"


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def rows(app: FastAPI, where: str = "true", **values: Any) -> list[Any]:
    """Return rows of the table, oldest first."""
    async with app.state.runtime.engine.connect() as connection:
        found = await connection.execute(text(f"SELECT * FROM audit_log WHERE {where} ORDER BY id"), values)  # noqa: S608
        return list(found.all())


async def add_entries(app: FastAPI, count: int, *, action: str = "made.up", actor: str = "somebody") -> None:
    """Write entries of the first workspace straight into the table."""
    async with app.state.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO audit_log (id, workspace_id, actor_kind, actor_id, action, object_kind, object_id, after)"
                " SELECT gen_random_uuid(), w.id, 'api_key', :actor, :action, 'thing', n::text,"
                " jsonb_build_object('n', n, 'filler', repeat('x', 200))"
                " FROM (SELECT id FROM workspaces ORDER BY id LIMIT 1) w, generate_series(1, :count) n"
            ),
            {"count": count, "action": action, "actor": actor},
        )


def test_every_route_that_changes_or_reveals_is_walked() -> None:
    """A new route is either in the table of requests, or exempt with a reason in words."""
    changing = {name for name, method in OPERATIONS.items() if method != "get"}

    assert changing | REVEALING == CALLS.keys() | EXEMPT.keys()
    assert not CALLS.keys() & EXEMPT.keys()
    assert all(len(reason.split()) > 1 for reason in EXEMPT.values())


@pytest.mark.parametrize("operation", CALLS)
async def test_it_leaves_an_entry(traffic: Traffic, operation: str) -> None:
    """Who, what, on what, before or after, from where (as the proxy in front says), and by which request."""
    call = await CALLS[operation](traffic)
    state = traffic.app.state
    state.settings = state.settings.model_copy(update={"trusted_proxies": (ip_network("192.0.2.7"),)})
    key = f"Bearer {INSTANCE_KEY}" if call.by_instance else traffic.headers["Authorization"]

    answer = await traffic.client.request(
        call.method,
        call.path,
        json=call.body,
        headers={
            "Authorization": key,
            "X-Request-Id": f"walk-{operation}",
            "X-Forwarded-For": "198.51.100.9",
        },
    )

    assert answer.is_success, answer.text
    entries = await rows(traffic.app, "request_id = :id", id=f"walk-{operation}")
    assert call.action in {entry.action for entry in entries}
    entry = next(entry for entry in entries if entry.action == call.action)
    assert entry.address == "198.51.100.9"
    assert entry.actor_kind == ("instance" if call.by_instance else "api_key")
    assert entry.actor_id
    assert re.fullmatch(r"[a-z]+_[0-9a-z]{26}|order\.\w+", entry.object_id)
    if operation not in {"get_secret", "export_audit_log"}:
        assert entry.before or entry.after


@pytest.mark.parametrize(
    "operation", sorted(set(CALLS) - REVEALING - {"create_workspace", "update_workspace"})
)
async def test_what_is_refused_leaves_none(traffic: Traffic, make_key: MakeKey, operation: str) -> None:
    """A viewer gets 403, and nothing is said to have been done."""
    call = await CALLS[operation](traffic)
    viewer = {"Authorization": f"Bearer {await make_key('viewer')}", "X-Request-Id": "refused"}

    answer = await traffic.client.request(call.method, call.path, json=call.body, headers=viewer)

    assert answer.status_code == 403
    assert await rows(traffic.app, "request_id = 'refused'") == []


async def test_what_is_rolled_back_leaves_none(traffic: Traffic) -> None:
    """An entry is written in the transaction that it tells of: a taken uid is 409 and not on record."""
    body = {"name": "Shop", "uid": "shop"}
    await traffic.post("/v1/applications", body, status=201)
    before = len(await rows(traffic.app))
    await traffic.post("/v1/applications", body, status=409)
    assert len(await rows(traffic.app)) == before


async def test_repeat_with_an_idempotency_key_is_one_entry(traffic: Traffic) -> None:
    """The second answer is the first one's; nothing was done again."""
    headers = traffic.headers | {"Idempotency-Key": "once"}
    for _ in range(2):
        await traffic.client.post("/v1/applications", json={"name": "Shop"}, headers=headers)
    assert len(await rows(traffic.app, "action = 'application.created'")) == 1


async def test_a_change_shows_before_and_after(traffic: Traffic) -> None:
    """Settings, patterns, names of headers, and which header's value was set; what did not change is not there."""
    made = await traffic.endpoint(headers={"X-Old": "1", "X-Kept": "1"}, description="old")
    change = {
        "description": "new",
        "event_types": ["order.*"],
        "headers": {"X-Kept": "***", "X-New": "2"},
        "rate_limit": {"per_second": 5, "burst": 10},
    }
    answer = await traffic.client.patch(f"/v1/endpoints/{made['id']}", json=change, headers=traffic.headers)
    assert answer.status_code == 200
    (entry,) = await rows(traffic.app, "action = 'endpoint.updated'")
    assert entry.before == {
        "description": "old",
        "event_types": ["*"],
        "headers": ["X-Kept", "X-Old"],
        "rate_limit": {"per_second": None, "burst": None},
    }
    assert entry.after == {
        "description": "new",
        "event_types": ["order.*"],
        "headers": ["X-Kept", "X-New"],
        "header_values_set": ["X-New"],
        "rate_limit": {"per_second": 5.0, "burst": 10},
    }


@pytest.mark.parametrize(
    ("first", "then", "before", "after"),
    [
        ("disable", "enable", {"enabled": False}, {"enabled": True}),
        ("pause", "resume", {"paused": True}, {"paused": False}),
    ],
)
async def test_switches_show_before_and_after(
    traffic: Traffic, first: str, then: str, before: dict[str, bool], after: dict[str, bool]
) -> None:
    """The switch's position, both ways."""
    made = await traffic.endpoint()
    for verb in (first, then):
        await traffic.post(f"/v1/endpoints/{made['id']}/{verb}", status=200)
    there, back = await rows(
        traffic.app, "action IN (:one, :two)", one=f"endpoint.{first}d", two=f"endpoint.{then}d"
    )
    assert (there.before, there.after) == (after, before)
    assert (back.before, back.after) == (before, after)


async def test_no_secret_is_in_any_entry(traffic: Traffic) -> None:
    """Secrets, header values, query strings, keys and payloads that went through every kind of change are in no row."""
    hmac = "whsec_" + "TUFSS0VS" * 4
    other = bellwire.generate_secret()
    url = f"https://shop.example.com/hooks?token={MARKER}"
    made = await traffic.endpoint(url=url, secret=hmac, headers={"Authorization": f"Bearer {MARKER}"})
    path = f"/v1/endpoints/{made['id']}"
    await traffic.client.patch(
        path, json={"url": url + "2", "headers": {"X-Api-Key": MARKER}}, headers=traffic.headers
    )
    await traffic.get(f"{path}/secret")
    rotated = await traffic.post(f"{path}/secret/rotate", {"secret": other}, status=200)
    await traffic.client.patch(path, json={"signature": "ed25519"}, headers=traffic.headers)
    private = (await traffic.get(f"{path}/secret"))["secret"]
    await traffic.post(f"{path}/secret/revoke-previous", status=200)
    await traffic.post(f"{path}/test", {"data": {"card": MARKER}}, status=202)
    event = await traffic.publish(data={"card": MARKER}, metadata={"note": MARKER})
    await traffic.client.delete(f"/v1/events/{event['id']}/data", headers=traffic.headers)
    key = await traffic.post("/v1/api-keys", {"name": "CI", "role": "admin"}, status=201)
    rolled = await traffic.post(f"/v1/api-keys/{key['id']}/roll", status=201)
    workspace = await traffic.client.post(
        "/v1/workspaces", json={"name": "W"}, headers={"Authorization": f"Bearer {INSTANCE_KEY}"}
    )
    await traffic.client.delete(path, headers=traffic.headers)

    everything = "\n".join(str(tuple(row)) for row in await rows(traffic.app))
    hidden = [MARKER, hmac, other, private, rotated["secret"], key["key"], rolled["key"], INSTANCE_KEY]
    hidden += [workspace.json()["api_key"], traffic.headers["Authorization"].removeprefix("Bearer ")]
    for secret in hidden:
        assert secret not in everything
        assert secret.removeprefix("whsec_").removeprefix("whsk_") not in everything
    assert "shop.example.com/hooks" in everything


# --- Append-only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor_id = 'nobody'",
        "UPDATE audit_log SET created_at = now() - interval '2 years'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "TRUNCATE workspaces, audit_log CASCADE",
        "INSERT INTO audit_log SELECT * FROM audit_log ON CONFLICT (id) DO UPDATE SET action = 'x'",
        "WITH gone AS (DELETE FROM audit_log RETURNING 1) SELECT * FROM gone",
    ],
)
@pytest.mark.parametrize("says", ["off", "on"])
async def test_the_database_refuses_to_change_what_is_written(
    traffic: Traffic, statement: str, says: str
) -> None:
    """UPDATE, DELETE and TRUNCATE fail for the table's own owner, and for who says that they are upkeep."""
    await traffic.endpoint()
    before = await rows(traffic.app)
    async with traffic.app.state.runtime.engine.connect() as connection:
        await connection.execute(text(f"SET LOCAL bellwire.audit_upkeep = '{says}'"))
        with pytest.raises(DBAPIError, match="append-only") as caught:
            await connection.execute(text(statement))
    assert caught.value.orig.sqlstate == "42501"
    assert await rows(traffic.app) == before


async def add_aged(app: FastAPI, *, days: int) -> None:
    """Write an entry as it was written so many days ago."""
    runtime = app.state.runtime
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO audit_log (id, workspace_id, actor_kind, actor_id, action, object_kind, object_id,"
                " created_at) SELECT :id, id, 'api_key', 'k', :action, 'thing', 't',"
                " now() - make_interval(days => :days) FROM workspaces LIMIT 1"
            ),
            {
                "id": ids.uuid7(runtime.clock.unix_ms() - days * 86_400_000),
                "days": days,
                "action": f"aged.{days}",
            },
        )


async def test_the_table_can_be_taken_from_the_role_of_bellwire(
    app: FastAPI, make_database: MakeDatabase
) -> None:
    """After the page's SQL the role still writes entries and keeps to the retention, and cannot drop the triggers."""
    page = read_page("docs/reference/audit.md")
    role = f"narrow_{uuid.uuid4().hex[:8]}"
    url = make_url(make_database())
    (block,) = page.blocks("sql")
    with psycopg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False)
    ) as connection:
        connection.execute(f"CREATE ROLE {role}")
        connection.execute(
            block.replace("TO postgres", "TO current_user").replace("TO bellwire", f"TO {role}")
        )
        connection.execute(f"SET ROLE {role}")
        connection.execute(
            "INSERT INTO audit_log (id, workspace_id, actor_kind, actor_id, action, object_kind, object_id, created_at)"
            " SELECT gen_random_uuid(), gen_random_uuid(), 'k', 'k', 'a', 'o', 'o', now() - d * interval '1 day'"
            " FROM generate_series(1, 50, 49) d"
        )
        refused = []
        for statement in (
            "UPDATE audit_log SET action = 'x'",
            "ALTER TABLE audit_log DISABLE TRIGGER USER",
            "DROP FUNCTION audit_log_append_only() CASCADE",
            "TRUNCATE audit_log",
            "DELETE FROM audit_log",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(statement)
            refused.append(statement)
        connection.execute("SET LOCAL bellwire.audit_upkeep = 'on'")
        gone = connection.execute("DELETE FROM audit_log WHERE created_at < now() - interval '40 days'")
        connection.rollback()
    assert (len(refused), gone.rowcount) == (5, 1)


@pytest.mark.parametrize(
    ("retention", "kept"), [(30, ["aged.29"]), (365, ["aged.364", "aged.60", "aged.29"])]
)
async def test_upkeep_deletes_what_is_past_its_retention(
    app: FastAPI, retention: int, kept: list[str]
) -> None:
    """Older entries go, younger ones stay; a second run finds nothing."""
    for days in (366, 364, 60, 29):
        await add_aged(app, days=days)
    settings = app.state.settings.model_copy(update={"audit_retention_days": retention})

    counts = []
    for _ in range(2):
        async with app.state.runtime.engine.begin() as connection:
            counts.append(await forget_audit_entries(connection, settings=settings))

    assert counts == [4 - len(kept), 0]
    assert [row.action for row in await rows(app, "action LIKE 'aged%'")] == kept


@pytest.mark.parametrize("days", ["0", "29", "-1"])
def test_retention_is_never_shorter_than_the_database_allows(days: str) -> None:
    """A setting that the trigger would refuse stops the start."""
    with pytest.raises(ValueError, match="greater than or equal to 30"):
        Settings(audit_retention_days=days)


# --- Export


async def exported(client: httpx2.AsyncClient, admin: dict[str, str], query: str = "") -> httpx2.Response:
    """Ask for the file."""
    answer = await client.get(f"/v1/audit-log/export{query}", headers=admin)
    assert answer.status_code == 200, answer.text
    return answer


async def test_export_has_every_entry_newest_first(app: FastAPI, traffic: Traffic) -> None:
    """More than a page of them, each once, as the list shows them; the export's own entry is the first."""
    count = 2 * export.ROWS_PER_PAGE + 7
    await add_entries(app, count)

    answer = await exported(traffic.client, traffic.headers)

    entries = [json.loads(line) for line in answer.text.splitlines()]
    listed = (await traffic.get("/v1/audit-log?limit=250"))["data"]
    assert len({entry["id"] for entry in entries}) == len(entries) == len(await rows(app))
    assert entries[:250] == listed
    assert [entry["id"] for entry in entries] == sorted((entry["id"] for entry in entries), reverse=True)
    assert "audit_log.exported" in {entry["action"] for entry in entries}


async def test_export_is_a_download(traffic: Traffic) -> None:
    """An attachment with a name, a type, and no page for a browser to show."""
    for form, kind in (
        ("ndjson", "application/x-ndjson"),
        ("csv", "text/csv; charset=utf-8; header=present"),
    ):
        answer = await exported(traffic.client, traffic.headers, f"?format={form}")
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Content-Disposition"] == f'attachment; filename="bellwire-audit-log.{form}"'
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"


async def test_csv_has_the_same_entries(app: FastAPI, traffic: Traffic) -> None:
    """One row for each, with a heading; before and after are JSON."""
    await traffic.endpoint(description='a "quoted", text\nof two lines')
    read = list(
        csv.DictReader(io.StringIO((await exported(traffic.client, traffic.headers, "?format=csv")).text))
    )
    created = next(row for row in read if row["action"] == "endpoint.created")
    assert len(read) == len(await rows(app))
    assert json.loads(created["after"])["description"] == 'a "quoted", text\nof two lines'
    assert created["before"] == ""


@pytest.mark.parametrize("formula", ["=HYPERLINK(1)", "+1", "-2+3", "@SUM(A1)", "\t=1", "  =1", "\uff1d1"])
async def test_no_cell_is_a_formula(app: FastAPI, traffic: Traffic, formula: str) -> None:
    """What somebody wrote into a name is text to a spreadsheet; NDJSON has it as it is."""
    await add_entries(app, 1, action=formula)
    read = list(
        csv.DictReader(io.StringIO((await exported(traffic.client, traffic.headers, "?format=csv")).text))
    )
    plain = [json.loads(line) for line in (await exported(traffic.client, traffic.headers)).text.splitlines()]
    assert "'" + formula in {row["action"] for row in read}
    assert formula in {entry["action"] for entry in plain}


async def test_export_takes_the_lists_filters(app: FastAPI, traffic: Traffic) -> None:
    """Action, actor, object and time narrow it, and are on record."""
    await add_entries(app, 3, action="one.done", actor="a")
    await add_entries(app, 2, action="two.done", actor="b")
    by_action = await exported(traffic.client, traffic.headers, "?action=one.done")
    by_actor = await exported(traffic.client, traffic.headers, "?actor=b&object=1")
    later = await exported(traffic.client, traffic.headers, "?created_at[gte]=2999-01-01T00:00:00Z")
    unknown = await traffic.client.get("/v1/audit-log/export?who=me", headers=traffic.headers)
    bad = await traffic.client.get("/v1/audit-log/export?format=xls", headers=traffic.headers)
    assert (len(by_action.text.splitlines()), len(by_actor.text.splitlines()), later.text) == (3, 1, "")
    assert (unknown.status_code, bad.status_code) == (422, 422)
    notes = [row.after for row in await rows(app, "action = 'audit_log.exported'")]
    assert notes == [
        {"format": "ndjson", "action": "one.done"},
        {"format": "ndjson", "actor": "b", "object": "1"},
        {"format": "ndjson", "created_at[gte]": "2999-01-01T00:00:00.000000Z"},
    ]


@pytest.mark.parametrize("role", ["viewer", "operator", "publisher"])
async def test_export_is_for_admins(traffic: Traffic, make_key: MakeKey, role: str) -> None:
    """Every other role gets 403, and so does an admin's key that is bound to one application."""
    for key in (await make_key(role), await make_key("admin", application="default")):
        answer = await traffic.client.get("/v1/audit-log/export", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 403


async def test_export_is_of_ones_own_workspace(
    app: FastAPI, traffic: Traffic, other_admin: dict[str, str]
) -> None:
    """Nothing of another workspace is in the file."""
    await add_entries(app, 3)
    answer = await exported(traffic.client, other_admin)
    actions = [json.loads(line)["action"] for line in answer.text.splitlines()]
    assert sorted(actions) == ["audit_log.exported", "workspace.created"]


async def test_export_takes_the_same_memory_whatever_its_length(app: FastAPI, traffic: Traffic) -> None:
    """Ten times the entries: the peak is that of a page, and no transaction is open between two pages."""
    workspace_id = (await rows(app))[0].workspace_id

    async def peak() -> int:
        pieces = export.export(
            app.state.runtime.sessions,
            workspace_id=workspace_id,
            form=export.Format.NDJSON,
            wanted=export.Wanted(),
        )
        tracemalloc.reset_peak()
        begun = tracemalloc.get_traced_memory()[0]
        async for _ in pieces:
            assert app.state.runtime.engine.sync_engine.pool.checkedout() == 0
        return tracemalloc.get_traced_memory()[1] - begun

    await add_entries(app, 2 * export.ROWS_PER_PAGE)
    tracemalloc.start()
    try:
        await peak()
        short = await peak()
        await add_entries(app, 18 * export.ROWS_PER_PAGE)
        long = await peak()
    finally:
        tracemalloc.stop()

    assert long < short * 2
