"""`Idempotency-Key`: one effect, one answer, however often it is sent."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from app.api import idempotency

KEY = {"Idempotency-Key": "0b9f8a52-6f0e"}


async def count(client, admin):
    """How many applications there are besides the two reserved ones."""
    return len((await client.get("/v1/applications", headers=admin)).json()["data"]) - 2


async def test_repeat_gets_the_first_answer(client, admin):
    """Same status, same body, marked as replayed; nothing happens twice."""
    first = await client.post("/v1/applications", json={"name": "x"}, headers=admin | KEY)
    second = await client.post("/v1/applications", json={"name": "x"}, headers=admin | KEY)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert ("Idempotent-Replayed" in first.headers, second.headers["Idempotent-Replayed"]) == (False, "true")
    assert second.headers["Content-Type"] == "application/json"
    assert await count(client, admin) == 1


async def test_fifty_at_once_make_one(make_app, open_client, admin):
    """Fifty identical requests at the same moment, to two processes: one object, fifty equal answers."""
    apps = [await make_app(api_pool_size=4) for _ in range(2)]
    async with open_client(apps[0]) as one, open_client(apps[1]) as two:
        answers = await asyncio.gather(
            *(
                client.post("/v1/applications", json={"name": "x"}, headers=admin | KEY)
                for client in [one, two] * 25
            )
        )
        made = await count(one, admin)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert made == 1


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/applications", {"name": "y"}), ("/v1/event-types", {"name": "x"})]
)
async def test_other_request_with_the_same_key_is_refused(client, admin, path, body):
    """Another body or path under the key is 422, and has no effect."""
    await client.post("/v1/applications", json={"name": "x"}, headers=admin | KEY)
    answer = await client.post(path, json=body, headers=admin | KEY)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert await count(client, admin) == 1
    assert (await client.get("/v1/event-types", headers=admin)).json()["data"] == []


async def test_refused_request_may_be_corrected_under_its_key(client, admin):
    """Only successes are kept: after a 422 and a 409 the key is free."""
    await client.post("/v1/applications", json={"name": "x", "uid": "taken"}, headers=admin)
    invalid = await client.post("/v1/applications", json={}, headers=admin | KEY)
    taken = await client.post("/v1/applications", json={"name": "x", "uid": "taken"}, headers=admin | KEY)
    made = await client.post("/v1/applications", json={"name": "x"}, headers=admin | KEY)
    assert [invalid.status_code, taken.status_code, made.status_code] == [422, 409, 201]


@pytest.mark.parametrize("processes", [1, 2])
async def test_still_running_is_409(make_app, open_client, admin, monkeypatch, processes):
    """A repeat waits for the first one, and after its patience is told to come back; so too across processes."""
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.2)
    apps = [await make_app() for _ in range(processes)]
    sent = {"json": {"name": "x", "uid": "slow"}, "headers": admin | KEY}
    async with open_client(apps[0]) as one, open_client(apps[-1]) as two:
        async with apps[0].state.runtime.sessions() as holder:
            # Whoever inserts this uid waits for this transaction.
            await holder.execute(
                text(
                    "INSERT INTO applications (id, workspace_id, uid, name)"
                    " SELECT gen_random_uuid(), id, 'slow', 'x' FROM workspaces"
                )
            )
            first = asyncio.create_task(one.post("/v1/applications", **sent))
            await _wait_until_blocked(holder)
            early = await two.post("/v1/applications", **sent)
            await holder.rollback()
        answer = await first
        late = await two.post("/v1/applications", **sent)
    assert (early.status_code, early.json()["type"]) == (409, "/problems/idempotency-in-progress")
    assert early.headers["Retry-After"] == "1"
    assert (answer.status_code, late.status_code) == (201, 201)
    assert late.headers["Idempotent-Replayed"] == "true"


async def test_keys_are_the_workspaces_own(client, admin, other_admin):
    """The same key in another workspace is another key."""
    await client.post("/v1/applications", json={"name": "x"}, headers=admin | KEY)
    other = await client.post("/v1/applications", json={"name": "x"}, headers=other_admin | KEY)
    assert (other.status_code, "Idempotent-Replayed" in other.headers) == (201, False)


async def test_bound_key_never_gets_the_whole_workspaces_answer(client, admin, make_key, headers):
    """An answer with a secret that an admin got is not given to a key that is bound to one application."""
    bound = headers(await make_key("admin", application="default"))
    body = {"name": "x", "role": "admin"}
    await client.post("/v1/api-keys", json=body, headers=admin | KEY)
    answer = await client.post("/v1/api-keys", json=body, headers=bound | KEY)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")


async def test_role_is_checked_before_the_replay(client, admin, make_key, headers):
    """A kept answer is not given to who may not ask for it."""
    await client.post("/v1/api-keys", json={"name": "x", "role": "admin"}, headers=admin | KEY)
    viewer = headers(await make_key("viewer"))
    answer = await client.post("/v1/api-keys", json={"name": "x", "role": "admin"}, headers=viewer | KEY)
    assert answer.status_code == 403


async def test_answer_with_a_secret_is_kept_sealed(app, client, admin):
    """The replay holds the key; the table does not hold it in the clear."""
    body = {"name": "x", "role": "viewer"}
    first = await client.post("/v1/api-keys", json=body, headers=admin | KEY)
    second = await client.post("/v1/api-keys", json=body, headers=admin | KEY)
    async with app.state.runtime.sessions() as session:
        sealed = (await session.execute(text("SELECT sealed_body FROM idempotency_keys"))).scalar_one()
    secret = first.json()["key"]
    assert second.json()["key"] == secret
    assert secret.encode() not in bytes(sealed)


async def test_key_is_forgotten_after_a_day(app, client, admin):
    """After 24 hours the same key begins anew."""
    await client.post("/v1/applications", json={"name": "x"}, headers=admin | KEY)
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(text("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'"))
    again = await client.post("/v1/applications", json={"name": "other"}, headers=admin | KEY)
    assert (again.status_code, "Idempotent-Replayed" in again.headers) == (201, False)
    assert await count(client, admin) == 2


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "schlüssel"])
async def test_keys_that_cannot_be_are_refused(client, admin, key):
    """An empty or endless key is a mistake of the client."""
    answer = await client.post(
        "/v1/applications", json={"name": "x"}, headers=admin | {"Idempotency-Key": key.encode()}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/headers/idempotency-key"


async def test_key_on_other_methods_means_nothing(client, admin):
    """PATCH and DELETE are repeatable as they are."""
    await client.post("/v1/applications", json={"name": "x", "uid": "a"}, headers=admin)
    names = [
        (await client.patch("/v1/applications/a", json={"name": name}, headers=admin | KEY)).json()["name"]
        for name in ("one", "two")
    ]
    assert names == ["one", "two"]


async def test_instance_key_s_posts_can_be_repeated_too(client, instance):
    """Making a workspace twice by mistake makes one."""
    answers = [
        await client.post("/v1/workspaces", json={"name": "Acme"}, headers=instance | KEY) for _ in range(2)
    ]
    listed = (await client.get("/v1/workspaces", headers=instance)).json()["data"]
    assert answers[0].content == answers[1].content
    assert len(listed) == 2


async def _wait_until_blocked(session):
    """Return when another connection of this database waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(20):
        while not (await session.execute(waiting)).scalar_one():
            # pg_stat_activity is read once per transaction unless its snapshot is cleared.
            await session.execute(text("SELECT pg_stat_clear_snapshot()"))
