"""Publishing the same thing again: by `uid`, by `Idempotency-Key`, in batches, and at the same moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from tests.integration.api.traffic import Traffic

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

EVENTS = "/v1/events"
BATCH = "/v1/events/batch"
REPLAYED = "Idempotent-Replayed"
EVENT = {"type": "order.placed", "data": {"n": 1}, "uid": "u"}


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def post(traffic: Traffic, body: Any, *, path: str = EVENTS, key: str | None = None) -> httpx2.Response:
    """POST, with an idempotency key or without."""
    extra = {"Idempotency-Key": key} if key is not None else {}
    return await traffic.client.post(path, json=body, headers=traffic.headers | extra)


async def events_stored(traffic: Traffic) -> int:
    """How many events there are."""
    async with traffic.app.state.runtime.publish_engine.connect() as connection:
        found = await connection.scalar(text("SELECT count(*) FROM events"))
    return int(found)


@pytest.mark.parametrize("key", [None, "k"])
async def test_same_uid_and_content_is_the_first_event(traffic: Traffic, key: str | None) -> None:
    """200, marked as replayed, with the first event as it is; with an idempotency key too."""
    await traffic.endpoint()
    first = await post(traffic, EVENT)
    again = await post(traffic, EVENT, key=key)
    assert (first.status_code, again.status_code, again.headers[REPLAYED]) == (202, 200, "true")
    assert again.json() == first.json()
    assert await events_stored(traffic) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"type": "order.changed"},
        {"data": {"n": 2}},
        {"metadata": {"k": "v"}},
        {"priority": "high"},
        {"correlation_id": "c"},
        {"occurred_at": "2026-01-31T12:00:00Z"},
    ],
)
async def test_same_uid_and_other_content_is_409(traffic: Traffic, other: dict[str, Any]) -> None:
    """Whatever differs; the first event stays as it was."""
    await post(traffic, EVENT)
    alone = await post(traffic, EVENT | other)
    keyed = await post(traffic, EVENT | other, key="k")
    batch = await post(traffic, {"events": [EVENT | other]}, path=BATCH)
    assert (alone.status_code, keyed.status_code) == (409, 409)
    assert alone.json()["type"] == "/problems/uid-conflict"
    assert batch.json()["results"][0]["error"]["status"] == 409
    assert await events_stored(traffic) == 1


async def test_uid_is_one_applications_own(traffic: Traffic) -> None:
    """The same uid in another application is another event."""
    await traffic.post("/v1/applications", {"name": "Shop", "uid": "shop"}, status=201)
    answers = [await post(traffic, EVENT), await post(traffic, EVENT | {"application": "shop"})]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] != answers[1].json()["id"]


@pytest.mark.parametrize("key", [None, "k"])
async def test_fifty_at_once_make_one_event(traffic: Traffic, key: str | None) -> None:
    """Fifty publishes of one uid, or under one key, at the same moment: one event, and all are told its id."""
    await traffic.endpoint()
    answers = await asyncio.gather(*(post(traffic, EVENT, key=key) for _ in range(50)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == ({202: 50} if key else {202: 1, 200: 49})
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(REPLAYED in answer.headers for answer in answers) == 49
    assert await events_stored(traffic) == 1


async def test_fifty_different_contents_with_one_uid_make_one_event(traffic: Traffic) -> None:
    """One wins, and the others are told so."""
    answers = await asyncio.gather(*(post(traffic, EVENT | {"data": n}) for n in range(50)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 49}
    assert await events_stored(traffic) == 1


@pytest.mark.parametrize("key", [None, "k"])
async def test_same_uid_twice_in_a_batch(traffic: Traffic, key: str | None) -> None:
    """The first wins; an equal one is accepted as replayed, another one is refused for itself."""
    events = [EVENT, EVENT, EVENT | {"data": 2}, {"type": "a", "data": 1}]
    answer = await post(traffic, {"events": events}, path=BATCH, key=key)
    body = answer.json()
    first, equal, other, alone = body["results"]
    assert (answer.status_code, body["accepted"], body["rejected"]) == (202, 3, 1)
    assert "replayed" not in first
    assert (equal["id"], equal["replayed"]) == (first["id"], True)
    assert other["error"]["status"] == 409
    assert alone["id"] != first["id"]
    assert await events_stored(traffic) == 2


@pytest.mark.parametrize("key", [None, "k"])
async def test_bad_event_does_not_sink_its_batch(traffic: Traffic, key: str | None) -> None:
    """Each has its own result, in order; the good ones are stored and delivered."""
    await traffic.endpoint()
    events = [
        {"type": "a", "data": 1},
        {"type": "a..b", "data": 1},
        {"data": 1},
        "text",
        {"type": "a", "data": 1, "application": "nobody"},
        {"type": "a", "data": 1, "application": "operations"},
        {"type": "a", "data": 2},
    ]
    answer = await post(traffic, {"events": events}, path=BATCH, key=key)
    body = answer.json()
    statuses = [result.get("error", {}).get("status") for result in body["results"]]
    pointers = [result.get("error", {}).get("errors", [{}])[0].get("pointer") for result in body["results"]]
    assert (answer.status_code, body["accepted"], body["rejected"]) == (202, 2, 5)
    assert statuses == [None, 422, 422, 422, 404, 409, None]
    assert pointers == [None, "/type", "/type", "", None, None, None]
    assert [result["deliveries"] for result in body["results"] if "id" in result] == [1, 1]
    assert await events_stored(traffic) == 2


async def test_batch_of_bad_events_only_is_202(traffic: Traffic) -> None:
    """The batch was read; none of it was accepted."""
    answer = await post(traffic, {"events": [{}, {}]}, path=BATCH)
    assert (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]) == (202, 0, 2)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"events": []}, "/events"),
        ({"events": [{"type": "a", "data": 1}] * 1_001}, "/events"),
        ({"events": {}}, "/events"),
        ({}, "/events"),
        ([], ""),
        ({"events": [{"type": "a", "data": 1}], "more": 1}, "/more"),
    ],
    ids=["empty", "too many", "no list", "missing", "no object", "unknown field"],
)
async def test_batch_that_is_none_is_422(traffic: Traffic, body: Any, pointer: str) -> None:
    """Nothing of it is stored."""
    answer = await post(traffic, body, path=BATCH)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert await events_stored(traffic) == 0


async def test_full_batch_is_taken(traffic: Traffic) -> None:
    """A thousand events, in their order, all committed."""
    events = [{"type": "a", "data": n, "uid": f"u{n}"} for n in range(1_000)]
    answer = await post(traffic, {"events": events}, path=BATCH)
    results = answer.json()["results"]
    last = await traffic.get(f"{EVENTS}/{results[999]['id']}")
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1_000)
    assert (last["uid"], last["data"]) == ("u999", 999)
    assert await events_stored(traffic) == 1_000


@pytest.mark.parametrize("path", [EVENTS, BATCH])
async def test_same_key_is_the_first_answer(traffic: Traffic, path: str) -> None:
    """202 again, the same bytes, replayed; another body under the key is 422."""
    event = {"type": "a", "data": 1}
    body = event if path == EVENTS else {"events": [event, {}]}
    other = event | {"data": 2} if path == EVENTS else {"events": [event]}
    first = await post(traffic, body, path=path, key="k")
    again = await post(traffic, body, path=path, key="k")
    refused = await post(traffic, other, path=path, key="k")
    assert (first.status_code, again.status_code, refused.status_code) == (202, 202, 422)
    assert first.content == again.content
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    assert refused.json()["type"] == "/problems/idempotency-key-reused"
    assert await events_stored(traffic) == 1


async def test_refused_publish_leaves_its_key_free(traffic: Traffic) -> None:
    """Only successes are kept: corrected, the request goes through under the same key."""
    statuses = [
        (await post(traffic, body, key="k")).status_code
        for body in (
            {"type": "a..b", "data": 1},
            {"type": "a", "data": 1, "application": "x"},
            {"type": "a", "data": 1},
        )
    ]
    assert statuses == [422, 404, 202]


async def test_uid_and_key_together(traffic: Traffic) -> None:
    """The key answers a repeat of the request, the uid a repeat of the event under another key."""
    first = await post(traffic, EVENT, key="one")
    same_key = await post(traffic, EVENT, key="one")
    other_key = await post(traffic, EVENT, key="two")
    other_key_again = await post(traffic, EVENT, key="two")
    answers = (first, same_key, other_key, other_key_again)
    assert [answer.status_code for answer in answers] == [202, 202, 200, 200]
    assert [answer.headers.get(REPLAYED) for answer in answers] == [None, "true", "true", "true"]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await events_stored(traffic) == 1


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        (EVENTS, EVENT, None),
        (EVENTS, EVENT, "k"),
        (BATCH, {"events": [EVENT, EVENT | {"uid": "v"}]}, None),
        (BATCH, {"events": [EVENT, EVENT | {"uid": "v"}]}, "k"),
    ],
    ids=["single", "single, keyed", "batch", "batch, keyed"],
)
async def test_database_away_is_503_and_it_recovers(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch, path: str, body: Any, key: str | None
) -> None:
    """Never a false 202: nothing is stored, and the same request works once the database is back."""
    await post(traffic, {"type": "warm", "data": 1})
    runtime = traffic.app.state.runtime
    with monkeypatch.context() as away:
        for engine in (runtime.engine, runtime.publish_engine):
            await engine.dispose()
            away.setattr(engine.sync_engine.dialect, "connect", _refuse)
        refused = await post(traffic, body, path=path, key=key)
    stored_meanwhile = await events_stored(traffic)
    again = await post(traffic, body, path=path, key=key)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/database-unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert stored_meanwhile == 1
    assert again.status_code == 202
    assert REPLAYED not in again.headers


def _refuse(*_: Any, **__: Any) -> None:
    raise psycopg.OperationalError("connection refused")
