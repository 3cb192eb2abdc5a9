"""`POST /v1/events`: what is accepted, what is refused, and where."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from tests.integration.api.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.conftest import MakeKey

EVENTS = "/v1/events"
JSON = {"Content-Type": "application/json"}
BOUND_SECONDS = 60.0
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def send(traffic: Traffic, body: bytes, **headers: str) -> httpx2.Response:
    """Publish these very bytes."""
    return await traffic.client.post(EVENTS, content=body, headers=traffic.headers | JSON | headers)


async def scalar(traffic: Traffic, query: str) -> Any:
    """Read one value from the database."""
    async with traffic.app.state.runtime.publish_engine.connect() as connection:
        return await connection.scalar(text(query))


async def test_answer_is_what_was_posted_and_more(traffic: Traffic) -> None:
    """202 with the event without its data; the same again in GET, with the data."""
    await traffic.endpoint()
    body = {
        "type": "order.placed",
        "uid": "order-1",
        "occurred_at": "2026-01-31T12:00:00+02:00",
        "correlation_id": "c 1",
        "metadata": {"tenant": "ä"},
        "priority": "high",
        "data": {"n": 1},
    }
    answer = await traffic.client.post(EVENTS, json=body, headers=traffic.headers)
    made = answer.json()
    got = await traffic.get(f"{EVENTS}/{made['id']}")
    given = {key: value for key, value in body.items() if key != "data"}
    assert answer.status_code == 202
    assert "Idempotent-Replayed" not in answer.headers
    assert given | {"occurred_at": "2026-01-31T10:00:00.000000Z"} == {key: made[key] for key in given}
    assert made["id"].startswith("evt_")
    assert (made["application_uid"], made["deliveries"], made["data_erased_at"]) == ("default", 1, None)
    assert made["application"].startswith("app_")
    assert got == made | {"data": {"n": 1}}


async def test_what_is_left_out_has_its_default(traffic: Traffic) -> None:
    """It happened when it was accepted, with normal priority; without an endpoint there is no delivery."""
    made = await traffic.publish()
    assert made["occurred_at"] == made["created_at"]
    assert made["created_at"].endswith("Z")
    assert [made[name] for name in ("uid", "correlation_id", "metadata")] == [None] * 3
    assert (made["priority"], made["deliveries"]) == ("normal", 0)
    assert await traffic.get(f"{EVENTS}/{made['id']}") == made | {"data": {"n": 1}}


@pytest.mark.parametrize(
    "data",
    [
        b'{"n": 9007199254740993, "m":1.10,"e":1E400}',
        b"123456789012345678901234567890123456789012345678901234567890",
        b"-0.0",
        '{ "name" :\t"Zo\u00eb \U0001f600",\n "\u4e2d": [ ] }'.encode(),
        rb'"\u00e9\ud83d\ude00\/\u0000"',
        b'{"a":1,"a":2}',
        b"null",
        b'""',
        b'"' + b"x" * 300_000 + b'"',
        b"[" * 100 + b"]" * 100,
        b'{"data":{"data":1},"type":"x"}',
    ],
    ids=lambda data: data[:24].decode("utf-8", "ignore"),
)
async def test_data_is_kept_byte_for_byte(traffic: Traffic, data: bytes) -> None:
    """Numbers, escapes, order, repeated keys and white space come back as they went in."""
    answer = await send(traffic, b'{"type": "a.b", "data": ' + data + b' , "uid":"u"}')
    assert answer.status_code == 202, answer.text
    got = await traffic.client.get(f"{EVENTS}/{answer.json()['id']}", headers=traffic.headers)
    assert got.content.endswith(b',"data":' + data + b"}")


def body_with(**fields: Any) -> bytes:
    """A good event, with some fields changed."""
    return json.dumps({"type": "order.placed", "data": {}} | fields).encode()


DEEP = 10_000
BAD = [
    (b"", 400, None),
    (b"{", 400, None),
    (b'{"type":"a","data":NaN}', 400, None),
    (b'{"type":"a","data":01}', 400, None),
    (b'{"type":"a","data":"\xff"}', 400, None),
    (b'{"type":"a","data":"\xed\xa0\x80"}', 400, None),
    (b'{"type":"a","data":"a\x00b"}', 400, None),
    (b'\xef\xbb\xbf{"type":"a","data":1}', 400, None),
    (b'{"type":"a","data":1} x', 400, None),
    (b"[]", 422, ""),
    (b"null", 422, ""),
    (b"{}", 422, "/type"),
    (b'{"type":"a"}', 422, "/data"),
    (b'{"data":1}', 422, "/type"),
    (b'{"type":"a","data":' + b"[" * DEEP + b"]" * DEEP + b"}", 422, "/data"),
    (b'{"type":"a","data":' + b"[" * 200 + b"]" * 200 + b"}", 422, "/data"),
    (b'{"type":"a","type":"b","data":1}', 422, "/type"),
    (b'{"type":"a","data":1,"data":2}', 422, "/data"),
    (b'{"type":"a","data":1,"metadata":{"k":"v","k":"w"}}', 422, "/metadata/k"),
    (body_with(type=1), 422, "/type"),
    (body_with(type=""), 422, "/type"),
    (body_with(type="a..b"), 422, "/type"),
    (body_with(type="a.*"), 422, "/type"),
    (body_with(type="a b"), 422, "/type"),
    (body_with(type="a\n"), 422, "/type"),
    (body_with(type="a" * 129), 422, "/type"),
    (body_with(uid=""), 422, "/uid"),
    (body_with(uid="a.b"), 422, "/uid"),
    (body_with(uid="a\n"), 422, "/uid"),
    (body_with(uid="u" * 129), 422, "/uid"),
    (body_with(uid=7), 422, "/uid"),
    (body_with(occurred_at="yesterday"), 422, "/occurred_at"),
    (body_with(occurred_at="2026-01-31T12:00:00"), 422, "/occurred_at"),
    (body_with(occurred_at="2026-02-31T12:00:00Z"), 422, "/occurred_at"),
    (body_with(occurred_at=1769860800), 422, "/occurred_at"),
    (body_with(correlation_id=""), 422, "/correlation_id"),
    (body_with(correlation_id="c" * 257), 422, "/correlation_id"),
    (body_with(correlation_id="a\0b"), 422, "/correlation_id"),
    (body_with(correlation_id="\ud800"), 400, None),
    (body_with(metadata={"a": 1}), 422, "/metadata"),
    (body_with(data="\ud800"), 400, None),
    (body_with(metadata=[]), 422, "/metadata"),
    (body_with(metadata={"a": "x\0"}), 422, "/metadata/a"),
    (body_with(metadata={"a/b~": "x\0"}), 422, "/metadata/a~1b~0"),
    (body_with(metadata={"a": "\ud800"}), 400, None),
    (body_with(metadata={"a": "x" * 501}), 422, "/metadata/a"),
    (body_with(metadata={str(n): "" for n in range(51)}), 422, "/metadata"),
    (body_with(priority="urgent"), 422, "/priority"),
    (body_with(priority=None), 422, "/priority"),
    (body_with(application=""), 422, "/application"),
    (body_with(application="a\0"), 422, "/application"),
    (body_with(application=None), 422, "/application"),
    (body_with(typ="a"), 422, "/typ"),
    (body_with(id="evt_1"), 422, "/id"),
]


@pytest.mark.parametrize(("body", "status", "pointer"), BAD, ids=[str(n) for n in range(len(BAD))])
async def test_bad_event_is_refused(traffic: Traffic, body: bytes, status: int, pointer: str | None) -> None:
    """Broken JSON is 400, a broken rule 422 with its place; nothing is stored, alone or in a batch."""
    answer = await send(traffic, body)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (problem.get("errors") or [{}])[0].get("pointer") == pointer
    assert await scalar(traffic, "SELECT count(*) FROM events") == 0


async def test_body_over_the_limit_is_413(traffic: Traffic) -> None:
    """1 MiB is taken, one byte more is not; so too where its length is not announced."""
    frame = b'{"type":"a","data":""}'
    fits = frame[:-2] + b"x" * (1_048_576 - len(frame)) + b'"}'

    async def parts() -> Any:
        for at in range(0, len(fits), 65_536):
            yield fits[at : at + 65_536]
        yield b" "

    taken = await send(traffic, fits)
    announced = await send(traffic, fits + b" ")
    streamed = await traffic.client.post(EVENTS, content=parts(), headers=traffic.headers | JSON)
    assert [answer.status_code for answer in (taken, announced, streamed)] == [202, 413, 413]


async def test_body_must_be_json_by_its_type(traffic: Traffic) -> None:
    """Another Content-Type, or a compressed body, is 415."""
    form = await send(traffic, body_with(), **{"Content-Type": "application/x-www-form-urlencoded"})
    packed = await send(traffic, body_with(), **{"Content-Encoding": "gzip"})
    assert (form.status_code, packed.status_code) == (415, 415)


async def test_application_by_id_or_uid(traffic: Traffic) -> None:
    """Both are taken; one that is not there, or was deleted a moment ago, is 404; `operations` is reserved."""
    made = await traffic.post("/v1/applications", {"name": "Shop", "uid": "shop"}, status=201)
    by_id = await traffic.publish(application=made["id"])
    by_uid = await traffic.publish(application="shop")
    await traffic.client.delete("/v1/applications/shop", headers=traffic.headers)
    statuses = [
        (await send(traffic, body_with(application=name))).status_code
        for name in ("shop", made["id"], "nobody", "app_x", "operations")
    ]
    assert by_id["application"] == by_uid["application"] == made["id"]
    assert by_id["application_uid"] == "shop"
    assert statuses == [404, 404, 404, 404, 409]


async def test_uid_that_changes_hands_is_followed_at_once(
    traffic: Traffic, make_key: MakeKey, headers: Callable[[str], dict[str, str]]
) -> None:
    """After a rename or a deletion the uid means its new owner, or nobody; a key bound to the new owner works."""
    await traffic.post("/v1/applications", {"name": "First", "uid": "shop"}, status=201)
    await traffic.publish(application="shop")
    await traffic.client.patch("/v1/applications/shop", json={"uid": "old"}, headers=traffic.headers)
    nobody = await send(traffic, body_with(application="shop"))
    second = await traffic.post("/v1/applications", {"name": "Second", "uid": "shop"}, status=201)
    to_second = await traffic.publish(application="shop")
    await traffic.client.delete("/v1/applications/shop", headers=traffic.headers)
    third = await traffic.post("/v1/applications", {"name": "Third", "uid": "shop"}, status=201)
    keyed = await send(traffic, body_with(application="shop"), **{"Idempotency-Key": "k"})
    await traffic.client.patch("/v1/applications/shop", json={"uid": "older"}, headers=traffic.headers)
    fourth = await traffic.post("/v1/applications", {"name": "Fourth", "uid": "shop"}, status=201)
    bound = await traffic.client.post(
        EVENTS,
        json={"type": "a", "data": 1, "application": "shop"},
        headers=headers(await make_key("publisher", application=fourth["id"])),
    )
    assert nobody.status_code == 404
    assert to_second["application"] == second["id"]
    assert (keyed.status_code, keyed.json().get("application")) == (202, third["id"])
    assert (bound.status_code, bound.json().get("application")) == (202, fourth["id"])


async def test_who_may_publish(
    traffic: Traffic,
    make_key: MakeKey,
    headers: Callable[[str], dict[str, str]],
    other_admin: dict[str, str],
) -> None:
    """Publishers and admins; a bound key to its application only; nobody to another workspace's."""
    shop = await traffic.post("/v1/applications", {"name": "Shop", "uid": "shop"}, status=201)

    async def status(caller: dict[str, str], **fields: Any) -> int:
        answer = await traffic.client.post(EVENTS, json={"type": "a", "data": 1} | fields, headers=caller)
        return answer.status_code

    roles = {
        role: await status(headers(await make_key(role)))
        for role in ("admin", "operator", "publisher", "viewer")
    }
    bound = headers(await make_key("publisher", application="shop"))
    assert roles == {"admin": 202, "operator": 403, "publisher": 202, "viewer": 403}
    assert [await status(bound, application=name) for name in ("shop", shop["id"], "default")] == [
        202,
        202,
        404,
    ]
    assert await status(other_admin, application=shop["id"]) == 404
    assert await status({}) == 401


async def test_key_revoked_a_moment_ago_publishes_nothing(
    traffic: Traffic, make_key: MakeKey, headers: Callable[[str], dict[str, str]]
) -> None:
    """The process still remembers the key as good; the statement that writes refuses it."""
    caller = headers(await make_key("publisher"))
    first = await traffic.client.post(EVENTS, json={"type": "a", "data": 1}, headers=caller)
    (key,) = [key for key in (await traffic.get("/v1/api-keys"))["data"] if key["role"] == "publisher"]
    await traffic.client.delete(f"/v1/api-keys/{key['id']}", headers=traffic.headers)
    alone = await traffic.client.post(EVENTS, json={"type": "a", "data": 1}, headers=caller)
    keyed = await traffic.client.post(
        EVENTS, json={"type": "a", "data": 1}, headers=caller | {"Idempotency-Key": "k"}
    )
    batch = await traffic.client.post(
        f"{EVENTS}/batch", json={"events": [{"type": "a", "data": 1}]}, headers=caller
    )
    assert [answer.status_code for answer in (first, alone, keyed)] == [202, 401, 401]
    assert [result["error"]["status"] for result in batch.json()["results"]] == [401]
    assert await scalar(traffic, "SELECT count(*) FROM events") == 1


async def test_routing_follows_each_change_at_once(traffic: Traffic) -> None:
    """An endpoint made, paused, disabled or deleted just before a publish counts, although tables are cached."""
    counts = [(await traffic.publish())["deliveries"]]
    endpoint = await traffic.endpoint()
    counts.append((await traffic.publish())["deliveries"])
    for change in ("pause", "resume", "disable", "enable"):
        await traffic.post(f"/v1/endpoints/{endpoint['id']}/{change}", status=200)
        counts.append((await traffic.publish())["deliveries"])
    await traffic.client.delete(f"/v1/endpoints/{endpoint['id']}", headers=traffic.headers)
    counts.append((await traffic.publish())["deliveries"])
    assert counts == [0, 1, 1, 1, 0, 1, 0]


async def test_patterns_and_filters_decide(traffic: Traffic) -> None:
    """Filters see type, data and metadata; an endpoint gets an event once, however many subscriptions match."""
    plain = await traffic.endpoint(event_types=["order.*"])
    await traffic.post(
        f"/v1/endpoints/{plain['id']}/subscriptions", {"event_types": ["order.placed"]}, status=201
    )
    await traffic.endpoint(
        event_types=["*"], filter="data.amount > 100 && metadata.tenant == 'a' && type.startsWith('order')"
    )
    counts = [
        (await traffic.publish(kind, data={"amount": amount}, metadata={"tenant": tenant}))["deliveries"]
        for kind, amount, tenant in [
            ("order.placed", 101, "a"),
            ("order.placed", 100, "a"),
            ("order.placed", 101, "b"),
            ("user.made", 101, "a"),
        ]
    ]
    assert counts == [2, 1, 1, 0]


async def test_filter_that_errs_is_no_match_and_is_shown(traffic: Traffic) -> None:
    """The event goes to the others; the endpoint's owner sees how often and why."""
    await traffic.endpoint()
    endpoint = await traffic.endpoint(filter="data.amount > 100")
    made = [await traffic.publish(data={"other": 1}) for _ in range(3)]
    async with asyncio.timeout(BOUND_SECONDS):
        while not (shown := await traffic.get(f"/v1/endpoints/{endpoint['id']}"))["filter_errors"]:
            pass
    assert [event["deliveries"] for event in made] == [1, 1, 1]
    assert shown["filter_errors"] == 3


async def test_catalogue_refuses_what_breaks_its_schema(traffic: Traffic) -> None:
    """`reject` is 422 with pointers into the data, `warn` lets it through; each change holds from the next publish."""
    await traffic.publish(data={"n": "x"})
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    await traffic.post(
        "/v1/event-types", {"name": "order.placed", "schema": schema, "validation": "reject"}, status=201
    )
    refused = await send(traffic, body_with(data={"n": "x"}))
    missing = await send(traffic, body_with(data={}))
    good = await send(traffic, body_with(data={"n": 1}))
    path = "/v1/event-types/order.placed"
    warn = await traffic.client.patch(path, json={"validation": "warn"}, headers=traffic.headers)
    assert warn.status_code == 200, warn.text
    warned = await send(traffic, body_with(data={"n": "x"}))
    await traffic.client.patch(path, json={"validation": "reject", "schema": {}}, headers=traffic.headers)
    anything = await send(traffic, body_with(data={"n": "x"}))
    assert [a.status_code for a in (refused, missing, good, warned, anything)] == [422, 422, 202, 202, 202]
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/data/n"]
    assert missing.json()["errors"][0]["pointer"].startswith("/data")


async def test_data_that_cannot_be_checked_in_time_is_not_let_in(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `reject` a slow check is 503 and stores nothing; with `warn` the event goes through."""
    path = "/v1/event-types/order.placed"
    await traffic.post(
        "/v1/event-types",
        {"name": "order.placed", "schema": {"type": "object"}, "validation": "reject"},
        status=201,
    )
    monkeypatch.setattr("app.events.matching.MATCH_DEADLINE_SECONDS", 0.0)
    late = await send(traffic, body_with(data={"n": 1}))
    stored = (await traffic.get("/v1/events"))["data"]
    await traffic.client.patch(path, json={"validation": "warn"}, headers=traffic.headers)
    warned = await send(traffic, body_with(data={"n": 1}))
    assert (late.status_code, late.headers["Retry-After"], stored) == (503, "1", [])
    assert warned.status_code == 202


async def test_priority_and_trace_go_with_the_event(traffic: Traffic) -> None:
    """A high one goes ahead of what waits; the publisher's trace is passed on; a broken one is not."""
    endpoint = await traffic.endpoint()
    await send(traffic, body_with())
    await send(traffic, body_with(priority="high"), traceparent=TRACEPARENT)
    await send(traffic, body_with(), traceparent="00-zz")
    claimed = await traffic.claim(endpoint)
    assert await scalar(traffic, "SELECT array_agg(traceparent ORDER BY id) FROM events") == [
        None,
        TRACEPARENT,
        None,
    ]
    assert await scalar(traffic, "SELECT array_agg(priority ORDER BY id) FROM events") == [1, 0, 1]
    assert len(claimed) == 3


@pytest.mark.parametrize("path", [EVENTS, f"{EVENTS}/batch"])
async def test_publish_does_not_pass_through_the_framework(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A POST is answered before FastAPI's layers, refusals too; other methods go through them and are told of it."""
    wrong_method = await traffic.client.put(path, headers=traffic.headers)

    async def never(*_: object) -> None:
        pytest.fail("a publish went through the framework")

    monkeypatch.setattr(traffic.app, "middleware_stack", never)
    event = {"type": "order.placed", "data": 1}
    body = {"events": [event]} if path.endswith("batch") else event
    accepted = await traffic.client.post(path, json=body, headers=traffic.headers)
    refused = await traffic.client.post(path, json=body)
    malformed = await traffic.client.post(path, content=b"{", headers=traffic.headers | JSON)

    assert [answer.status_code for answer in (wrong_method, accepted, refused, malformed)] == [
        405,
        202,
        401,
        400,
    ]
    assert (refused.json()["instance"], malformed.json()["type"]) == (path, "/problems/malformed")
    assert all(answer.headers["x-request-id"] for answer in (accepted, refused, malformed))
