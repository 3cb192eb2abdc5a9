"""`/v1/applications`."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import text

from app.core import ids


async def make(client, admin, **fields):
    """Make an application and return it."""
    made = await client.post("/v1/applications", json={"name": "Shop"} | fields, headers=admin)
    assert made.status_code == 201, made.text
    return made.json()


async def test_makes_and_shows_an_application(client, admin):
    """What was posted comes back with an id and times, and is found by id and by uid."""
    body = await make(client, admin, uid="shop", metadata={"plan": "pro"})
    for reference in (body["id"], "shop"):
        shown = await client.get(f"/v1/applications/{reference}", headers=admin)
        assert shown.json() == body
    assert body["metadata"] == {"plan": "pro"}
    assert body["created_at"].endswith("Z")


async def test_every_workspace_has_default_and_operations(client, admin, other_admin):
    """Both reserved applications exist from the start, in each workspace its own."""
    lists = [
        (await client.get("/v1/applications", headers=key)).json()["data"] for key in (admin, other_admin)
    ]
    assert [{item["uid"] for item in found} for found in lists] == [{"default", "operations"}] * 2
    assert {item["id"] for item in lists[0]}.isdisjoint(item["id"] for item in lists[1])


async def test_taken_uid_is_a_conflict(client, admin):
    """The second application with a uid is refused, and nothing of it is stored."""
    await make(client, admin, uid="shop")
    answer = await client.post("/v1/applications", json={"uid": "shop", "name": "Copy"}, headers=admin)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/uid-taken")
    assert len((await client.get("/v1/applications", headers=admin)).json()["data"]) == 3


async def test_uid_of_another_workspace_is_free_here(client, admin, other_admin):
    """Workspaces do not see each other's uids."""
    await make(client, admin, uid="shop")
    assert (await make(client, other_admin, uid="shop"))["uid"] == "shop"


async def test_patch_changes_what_is_given_only(client, admin):
    """Fields that are left out stay; null takes a uid away; updated_at moves."""
    before = await make(client, admin, uid="shop", metadata={"plan": "pro"})
    answer = await client.patch(f"/v1/applications/{before['id']}", json={"uid": None}, headers=admin)
    after = answer.json()
    assert after == before | {"uid": None, "updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]


async def test_patch_to_a_taken_uid_is_a_conflict(client, admin):
    """A uid cannot be taken over."""
    await make(client, admin, uid="one")
    await make(client, admin, uid="two")
    answer = await client.patch("/v1/applications/two", json={"uid": "one"}, headers=admin)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/uid-taken")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": None}, "/name"),
        ({"name": "x", "uid": "a b"}, "/uid"),
        ({"name": "x", "uid": "x" * 129}, "/uid"),
        ({"name": "x", "uid": ids.to_text("app", uuid.UUID(int=1))}, "/uid"),
        ({"name": "x", "metadata": {"a": 1}}, "/metadata/a"),
        ({"name": "x", "metadata": {str(n): "" for n in range(51)}}, "/metadata"),
        ({"name": "x", "extra": 1}, "/extra"),
        ({"name": "x\x00"}, "/name"),
    ],
)
async def test_bad_input_is_named_by_its_pointer(client, admin, body, pointer):
    """Each fault is 422 with the place."""
    answer = await client.post("/v1/applications", json=body, headers=admin)
    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


@pytest.mark.parametrize("uid", ["default", "operations"])
async def test_reserved_applications_can_be_renamed_but_not_removed(client, admin, uid):
    """Name and metadata are the workspace's business; the uid and the existence are not."""
    path = f"/v1/applications/{uid}"
    renamed = await client.patch(path, json={"name": "Main"}, headers=admin)
    moved = await client.patch(path, json={"uid": "other"}, headers=admin)
    deleted = await client.delete(path, headers=admin)
    assert [answer.status_code for answer in (renamed, moved, deleted)] == [200, 409, 409]
    assert moved.json()["type"] == deleted.json()["type"] == "/problems/reserved-application"


async def test_deleted_application_is_gone_and_its_uid_is_free(client, admin):
    """204, then 404 for everything; the uid can be used again."""
    gone = await make(client, admin, uid="shop")
    first = await client.delete("/v1/applications/shop", headers=admin)
    again = await client.delete("/v1/applications/shop", headers=admin)
    shown = await client.get(f"/v1/applications/{gone['id']}", headers=admin)
    assert [first.status_code, again.status_code, shown.status_code] == [204, 404, 404]
    assert first.content == b""
    assert (await make(client, admin, uid="shop"))["id"] != gone["id"]


async def test_deleting_an_application_stops_all_that_belongs_to_it(app, client, admin, make_key, headers):
    """Its endpoints close, what waits is cancelled, what is being sent is marked, its keys are refused."""
    made = await make(client, admin, uid="shop")
    key = await make_key("viewer", application="shop")
    application_id = ids.from_text("app", made["id"])
    async with app.state.runtime.sessions.begin() as session:
        names = await _add_endpoint_with_deliveries(session, application_id, app.state.runtime.clock)
    await client.delete("/v1/applications/shop", headers=admin)
    async with app.state.runtime.sessions() as session:
        states = {
            row.id: row.state for row in await session.execute(text("SELECT id, state FROM deliveries"))
        }
        queue = (await session.execute(text("SELECT id, cancel_requested FROM delivery_queue"))).one()
        runtime = (await session.execute(text("SELECT open, settings_version FROM endpoint_runtime"))).one()
        endpoint = (await session.execute(text("SELECT deleted_at, enabled FROM endpoints"))).one()
    assert states == {names["waiting"]: "cancelled", names["sending"]: "pending", names["done"]: "succeeded"}
    assert tuple(queue) == (names["sending"], True)
    assert tuple(runtime) == (False, 2)
    assert (endpoint.deleted_at is not None, endpoint.enabled) == (True, False)
    assert (await client.get("/v1/applications", headers=headers(key))).status_code == 401


async def test_lists_are_pages_newest_first(client, admin):
    """Walking by next_cursor sees each application once, and prev_cursor leads back."""
    made = [(await make(client, admin, name=str(n)))["name"] for n in range(5)]
    pages, cursor = [], None
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/applications", params=query, headers=admin)).json()
        pages.append(page)
        cursor = page["next_cursor"]
        if cursor is None:
            break
    names = [item["name"] for page in pages for item in page["data"]]
    assert names == [*reversed(made), "Operations", "Default"]
    back = await client.get(
        "/v1/applications", params={"limit": "3", "cursor": pages[1]["prev_cursor"]}, headers=admin
    )
    assert back.json()["data"] == pages[0]["data"]
    assert pages[0]["prev_cursor"] is None


async def test_changes_are_on_the_audit_log(client, admin):
    """Who made, changed and deleted it, with what was before and after, from where."""
    made = await make(client, admin, uid="shop")
    await client.patch("/v1/applications/shop", json={"name": "New"}, headers=admin)
    await client.delete("/v1/applications/shop", headers=admin)
    entries = (await client.get("/v1/audit-log", params={"object": made["id"]}, headers=admin)).json()["data"]
    assert [entry["action"] for entry in entries] == [
        "application.deleted",
        "application.updated",
        "application.created",
    ]
    assert (entries[1]["before"], entries[1]["after"]) == ({"name": "Shop"}, {"name": "New"})
    assert {entry["actor"]["kind"] for entry in entries} == {"api_key"}
    assert {entry["address"] for entry in entries} == {"192.0.2.7"}


async def _add_endpoint_with_deliveries(session, application_id, clock):
    """One endpoint with a waiting, a leased and a finished delivery."""
    workspace_id = (await session.execute(text("SELECT workspace_id FROM applications LIMIT 1"))).scalar_one()
    endpoint_id, event_id = ids.uuid7(clock.unix_ms()), ids.uuid7(clock.unix_ms())
    common = {"w": workspace_id, "a": application_id, "e": endpoint_id, "v": event_id}
    await session.execute(
        text("INSERT INTO endpoints (id, workspace_id, application_id, url) VALUES (:e, :w, :a, 'http://x')"),
        common,
    )
    await session.execute(
        text("INSERT INTO endpoint_runtime (endpoint_id, workspace_id, application_id) VALUES (:e, :w, :a)"),
        common,
    )
    names = {}
    for name, state in (("waiting", "pending"), ("sending", "pending"), ("done", "succeeded")):
        names[name] = ids.uuid7(clock.unix_ms())
        row = common | {"id": names[name], "state": state}
        await session.execute(
            text(
                "INSERT INTO deliveries (id, workspace_id, application_id, event_id, event_type, endpoint_id, state,"
                " deadline_at) VALUES (:id, :w, :a, :v, 'x', :e, :state, now() + interval '1 day')"
            ),
            row,
        )
        if name != "done":
            token = 1 if name == "sending" else None
            await session.execute(
                text(
                    "INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, state,"
                    " lease_token, deadline_at) VALUES (:id, :w, :a, :e, :v, :q, :t, now() + interval '1 day')"
                ),
                row | {"q": 1 if token else 0, "t": token},
            )
    return names
