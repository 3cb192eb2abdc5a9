"""Keys, roles, workspaces and the audit log."""

from __future__ import annotations

import binascii
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.access.authenticate import KeyCache
from app.core.clock import rfc3339
from app.core.crypto import new_api_key
from app.core.errors import Unauthenticated


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "bw_x", "Bearer bw_unknown", "Bearer " + "x" * 600],
)
async def test_what_is_no_valid_key_is_401(client, header):
    """Missing, mistyped, of another scheme, unknown, endless: all the same status."""
    answer = await client.get("/v1/applications", headers={"Authorization": header})
    assert answer.status_code == 401


async def test_scheme_is_not_case_sensitive(client, admin_key):
    """RFC 9110: `bearer` is `Bearer`."""
    answer = await client.get("/v1/applications", headers={"Authorization": f"bearer {admin_key}"})
    assert answer.status_code == 200


async def test_key_is_shown_once_and_never_stored(app, client, admin):
    """The create answer holds the key; lists, the table and the audit log do not."""
    made = (await client.post("/v1/api-keys", json={"name": "CI", "role": "viewer"}, headers=admin)).json()
    listed = await client.get("/v1/api-keys", headers=admin)
    audited = await client.get("/v1/audit-log", headers=admin)
    async with app.state.runtime.sessions() as session:
        rows = (await session.execute(text("SELECT api_keys::text FROM api_keys"))).scalars().all()
    secret = made["key"].rpartition("_")[2]
    assert made["key"].startswith(f"bw_{made['key_id']}_")
    for place in (listed.text, audited.text, *rows):
        assert secret not in place


async def test_revoked_key_is_refused_at_once(client, admin, make_key, headers):
    """The next request after DELETE gets 401; the key is gone from the list, and deleting it again is 404."""
    key = await make_key("viewer")
    listed = (await client.get("/v1/api-keys", headers=admin)).json()["data"]
    path = f"/v1/api-keys/{listed[0]['id']}"
    before = await client.get("/v1/applications", headers=headers(key))
    deleted = await client.delete(path, headers=admin)
    after = await client.get("/v1/applications", headers=headers(key))
    assert [before.status_code, deleted.status_code, after.status_code] == [200, 204, 401]
    assert "revoked" in after.json()["detail"]
    assert (await client.delete(path, headers=admin)).status_code == 404
    assert len((await client.get("/v1/api-keys", headers=admin)).json()["data"]) == 1


async def test_mistyped_key_is_told_apart_from_an_unknown_one(client, make_key, headers):
    """The checksum says that a letter is wrong or the end is missing; a key that is whole but unknown is not known."""
    key = await make_key("viewer")
    wrong_letter = key[:-10] + ("0" if key[-10] != "0" else "1") + key[-9:]
    for given in (wrong_letter, key[:-1]):
        answer = await client.get("/v1/applications", headers=headers(given))
        assert (answer.status_code, "mistyped" in answer.json()["detail"]) == (401, True)
    whole = await client.get("/v1/applications", headers=headers(new_api_key().text))
    assert (whole.status_code, "not known" in whole.json()["detail"]) == (401, True)


async def test_a_made_up_secret_behind_a_real_key_id_opens_nothing(client, make_key, headers):
    """The id finds the row and the checksum fits; the digest of the whole decides."""
    key = await make_key("admin")
    body = f"bw_{key.split('_')[1]}_{'0' * 48}"
    forged = body + f"{binascii.crc32(body.encode()):08x}"[:6]
    answer = await client.get("/v1/applications", headers=headers(forged))
    assert (answer.status_code, "not known" in answer.json()["detail"]) == (401, True)


async def test_rolled_key_that_ends_at_once_publishes_nothing(client, admin, make_key, headers):
    """Without an overlap the old key is over for publishing too, whose look-up is remembered for ten seconds."""
    old = await make_key("admin")
    event = {"type": "order.placed", "data": {}}
    before = await client.post("/v1/events", json=event, headers=headers(old))
    listed = (await client.get("/v1/api-keys", headers=admin)).json()["data"]
    rolled = await client.post(
        f"/v1/api-keys/{listed[0]['id']}/roll", json={"overlap_seconds": 0}, headers=headers(old)
    )
    after = await client.post("/v1/events", json=event, headers=headers(old))
    new = await client.post("/v1/events", json=event, headers=headers(rolled.json()["key"]))
    assert [before.status_code, rolled.status_code, after.status_code, new.status_code] == [
        202,
        201,
        401,
        202,
    ]


async def test_key_of_a_deleted_application_is_refused(client, admin, make_key, headers):
    """A key that is bound to one application ends with it."""
    await client.post("/v1/applications", json={"name": "1", "uid": "one"}, headers=admin)
    key = headers(await make_key("viewer", application="one"))
    before = await client.get("/v1/applications/one", headers=key)
    deleted = await client.delete("/v1/applications/one", headers=admin)
    after = await client.get("/v1/applications/one", headers=key)
    assert [before.status_code, deleted.status_code, after.status_code] == [200, 204, 401]


async def test_expired_key_is_refused(app, client, make_key, headers):
    """A key works until its time, by the database's clock, and then says that it has expired."""
    key = await make_key("viewer", expires_at=rfc3339(datetime.now(UTC) + timedelta(hours=1)))
    before = await client.get("/v1/applications", headers=headers(key))
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(
            text("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE role = 'viewer'")
        )
    after = await client.get("/v1/applications", headers=headers(key))
    assert [before.status_code, after.status_code] == [200, 401]
    assert "expired" in after.json()["detail"]


async def test_key_that_would_expire_in_the_past_is_refused(client, admin):
    """A mistake of a year is noticed when the key is made."""
    body = {"name": "x", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}
    answer = await client.post("/v1/api-keys", json=body, headers=admin)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/expires_at")


async def test_unknown_role_is_refused(client, admin):
    """`owner` is no role of keys."""
    answer = await client.post("/v1/api-keys", json={"name": "x", "role": "owner"}, headers=admin)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/role")


@pytest.mark.parametrize("overlap", [0, 3600])
async def test_rolled_key_ends_after_its_overlap(client, admin, make_key, headers, overlap):
    """The new key has the old one's role; the old one works during the overlap, and with 0 not at all."""
    old = await make_key("operator", name="Robot")
    listed = (await client.get("/v1/api-keys", headers=admin)).json()["data"]
    answer = await client.post(
        f"/v1/api-keys/{listed[0]['id']}/roll", json={"overlap_seconds": overlap}, headers=admin
    )
    new = answer.json()
    statuses = [
        (await client.get("/v1/applications", headers=headers(key))).status_code for key in (old, new["key"])
    ]
    assert answer.status_code == 201, answer.text
    assert (new["name"], new["role"], new["replaces"]["id"]) == ("Robot", "operator", listed[0]["id"])
    assert statuses == [200 if overlap else 401, 200]


async def test_bound_key_sees_its_application_only(client, admin, make_key, headers):
    """All others do not exist for it: 404, and not in the list."""
    for uid in ("one", "two"):
        await client.post("/v1/applications", json={"name": uid, "uid": uid}, headers=admin)
    key = headers(await make_key("admin", application="one"))
    listed = (await client.get("/v1/applications", headers=key)).json()["data"]
    statuses = {
        path: (await client.request(method, path, json=body, headers=key)).status_code
        for method, path, body in (
            ("GET", "/v1/applications/one", None),
            ("GET", "/v1/applications/two", None),
            ("PATCH", "/v1/applications/default", {"name": "Mine"}),
            ("POST", "/v1/applications", {"name": "New"}),
            ("POST", "/v1/event-types", {"name": "a.b"}),
            ("GET", "/v1/audit-log", None),
        )
    }
    assert [item["uid"] for item in listed] == ["one"]
    assert statuses == {
        "/v1/applications/one": 200,
        "/v1/applications/two": 404,
        "/v1/applications/default": 404,
        "/v1/applications": 403,
        "/v1/event-types": 403,
        "/v1/audit-log": 403,
    }


async def test_bound_admin_makes_bound_keys_only(client, admin, make_key, headers):
    """Its keys are bound to its own application, whatever is left out, and it sees those only."""
    one = (await client.post("/v1/applications", json={"name": "1", "uid": "one"}, headers=admin)).json()
    bound = headers(await make_key("admin", application="one"))
    made = await client.post("/v1/api-keys", json={"name": "x", "role": "admin"}, headers=bound)
    elsewhere = await client.post(
        "/v1/api-keys", json={"name": "x", "role": "admin", "application": "default"}, headers=bound
    )
    listed = (await client.get("/v1/api-keys", headers=bound)).json()["data"]
    assert made.json()["application"] == one["id"]
    assert elsewhere.status_code == 404
    assert {item["application"] for item in listed} == {one["id"]}


async def test_workspaces_are_made_with_the_instance_key(client, instance):
    """The answer holds the first admin key, which opens the new workspace."""
    made = await client.post("/v1/workspaces", json={"name": "Acme"}, headers=instance)
    key = {"Authorization": f"Bearer {made.json()['api_key']}"}
    applications = (await client.get("/v1/applications", headers=key)).json()["data"]
    listed = (await client.get("/v1/workspaces", headers=instance)).json()["data"]
    assert made.status_code == 201, made.text
    assert {item["uid"] for item in applications} == {"default", "operations"}
    assert [item["name"] for item in listed] == ["Acme", "Default"]
    assert all("api_key" not in item for item in listed)


async def test_instance_key_opens_nothing_else(client, instance):
    """Who may make workspaces sees nothing inside them."""
    assert (await client.get("/v1/applications", headers=instance)).status_code == 401


async def test_without_an_instance_key_nobody_manages_workspaces(make_app, open_client, admin):
    """An admin key is not enough, and no empty key opens the door."""
    async with open_client(await make_app(instance_key=SecretStr(""))) as client:
        refused = await client.get("/v1/workspaces", headers=admin)
        empty = await client.get("/v1/workspaces", headers={"Authorization": "Bearer "})
    assert (refused.status_code, empty.status_code) == (403, 401)
    assert "BELLWIRE_INSTANCE_KEY" in refused.json()["detail"]


async def test_workspaces_do_not_see_each_other(client, admin, other_admin):
    """Objects of another workspace are 404 for every method, and in no list."""
    app_id = (await client.post("/v1/applications", json={"name": "A", "uid": "a"}, headers=admin)).json()[
        "id"
    ]
    key_id = (await client.get("/v1/api-keys", headers=admin)).json()["data"][0]["id"]
    await client.post("/v1/event-types", json={"name": "order.placed"}, headers=admin)
    answers = [
        await client.request(method, path, json=body, headers=other_admin)
        for method, path, body in (
            ("GET", f"/v1/applications/{app_id}", None),
            ("GET", "/v1/applications/a", None),
            ("PATCH", f"/v1/applications/{app_id}", {"name": "B"}),
            ("DELETE", f"/v1/applications/{app_id}", None),
            ("DELETE", f"/v1/api-keys/{key_id}", None),
            ("POST", f"/v1/api-keys/{key_id}/roll", {}),
            ("POST", "/v1/api-keys", {"name": "x", "role": "viewer", "application": app_id}),
            ("GET", "/v1/event-types/order.placed", None),
            ("PATCH", "/v1/event-types/order.placed", {"description": "x"}),
            ("DELETE", "/v1/event-types/order.placed", None),
        )
    ]
    lists = [
        (await client.get(path, headers=other_admin)).text
        for path in ("/v1/applications", "/v1/api-keys", "/v1/event-types", "/v1/audit-log")
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert [text for text in lists if app_id in text or key_id in text or "order.placed" in text] == []


async def test_second_start_makes_nothing_new(make_app, open_client, admin):
    """The bootstrap key is the first start's; a later one changes nothing, whatever it is set to."""
    await make_app()
    async with open_client(await make_app(bootstrap_key=SecretStr("bw_" + "z" * 40))) as client:
        old = await client.get("/v1/api-keys", headers=admin)
        new = await client.get("/v1/api-keys", headers={"Authorization": "Bearer bw_" + "z" * 40})
    assert (old.status_code, len(old.json()["data"]), new.status_code) == (200, 1, 401)


async def test_use_of_a_key_is_noted_to_the_minute(app, client, admin):
    """The first request writes last_used_at, the next ones within the minute do not."""
    seen = set()
    for _ in range(3):
        await client.get("/v1/applications", headers=admin)
        seen.add((await client.get("/v1/api-keys", headers=admin)).json()["data"][0]["last_used_at"])
    assert len(seen) == 1
    assert None not in seen


async def test_audit_log_can_be_filtered(client, admin, make_key):
    """By action, actor, object and time; an unknown filter is 422."""
    await make_key("viewer")
    entries = (await client.get("/v1/audit-log", headers=admin)).json()["data"]
    key_made = next(entry for entry in entries if entry["action"] == "api_key.created")
    queries = (
        {"action": "api_key.created"},
        {"object": key_made["object"]["id"]},
        {"actor": key_made["actor"]["id"]},
        {"created_at[gte]": key_made["created_at"]},
    )
    for query in queries:
        found = (await client.get("/v1/audit-log", params=query, headers=admin)).json()["data"]
        assert [entry["id"] for entry in found] == [key_made["id"]], query
    none = await client.get(
        "/v1/audit-log", params={"created_at[gte]": "2999-01-01T00:00:00Z"}, headers=admin
    )
    unknown = await client.get("/v1/audit-log", params={"who": "me"}, headers=admin)
    assert none.json()["data"] == []
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/who")


async def test_key_cache_asks_once_and_forgets_after_ten_seconds(app, admin_key):
    """Publishing does not query for each request; refused keys are remembered, too."""
    now = [0.0]
    runtime = app.state.runtime
    cache = KeyCache(runtime.engine, runtime.clock, monotonic=lambda: now[0])
    first = await cache.get(admin_key)
    async with runtime.sessions.begin() as session:
        await session.execute(text("UPDATE api_keys SET revoked_at = now()"))
    remembered = await cache.get(admin_key)
    now[0] = 10.0
    with pytest.raises(Unauthenticated, match="revoked"):
        await cache.get(admin_key)
    async with runtime.sessions.begin() as session:
        await session.execute(text("UPDATE api_keys SET revoked_at = NULL"))
    with pytest.raises(Unauthenticated, match="revoked"):
        await cache.get(admin_key)
    assert remembered == first


async def test_key_cache_stays_small(app, admin_key):
    """Ten thousand made-up keys do not fill the memory."""
    cache = KeyCache(app.state.runtime.engine, app.state.runtime.clock, entries=2)
    await cache.get(admin_key)
    for number in range(3):
        with pytest.raises(Unauthenticated, match="not known"):
            await cache.get(f"bw_{number}")
    assert len(cache._known) == 2
