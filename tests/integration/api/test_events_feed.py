"""`GET /v1/events/feed`: the pull side, in an order in which nothing is missed and nothing comes twice."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from app.core import ids
from app.events import feed, feed_watch
from app.events.feed import Epoch, Position, decode_cursor, encode_cursor
from tests.integration.api.traffic import Traffic, uuid_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    import httpx2
    from fastapi import FastAPI
    from sqlalchemy.ext.asyncio import AsyncConnection

    from tests.integration.api.conftest import MakeApp, MakeKey

FEED = "/v1/events/feed"
BOUND_SECONDS = 60.0

INSERT = text(
    "INSERT INTO events (id, workspace_id, application_id, type, data, occurred_at)"
    " SELECT :id, workspace_id, id, 'raw.event', '{}', now() FROM applications WHERE uid = 'default'"
)


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def read(traffic: Traffic, *, status: int = 200, **params: Any) -> Any:
    """Ask for a page; it waits by default, for a transaction of a neighbouring database may hold the feed back."""
    answer = await traffic.client.get(FEED, params={"wait": 30} | params, headers=traffic.headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def read_until(traffic: Traffic, count: int, **params: Any) -> list[dict[str, Any]]:
    """Follow the feed until this many events have come."""
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(BOUND_SECONDS):
        while len(seen) < count:
            page = await read(traffic, **params)
            seen += page["data"]
            params["cursor"] = page["cursor"]
    return seen


async def insert(traffic: Traffic, connection: AsyncConnection) -> str:
    """Write an event in a transaction of our own and return its id."""
    event_id = ids.uuid7(traffic.app.state.runtime.clock.unix_ms())
    await connection.execute(INSERT, {"id": event_id})
    return ids.to_text(ids.EVENT, event_id)


async def until_waiting(traffic: Traffic, count: int) -> None:
    """Return when so many requests wait for news."""
    async with asyncio.timeout(BOUND_SECONDS):
        while traffic.app.state.feed_watch.waiting != count:
            await read(traffic, wait=0)


async def test_pages_in_order(traffic: Traffic) -> None:
    """Oldest first, page by page, each event once; then it is empty and the cursor stays."""
    published = [(await traffic.publish(uid=f"u{n}"))["id"] for n in range(5)]
    seen = await read_until(traffic, 5, limit=2)
    whole = await read(traffic, limit=5)
    empty = await read(traffic, cursor=whole["cursor"], wait=0)
    assert [event["id"] for event in seen] == published
    assert empty == {"data": [], "cursor": whole["cursor"]}


async def test_event_is_shown_as_get_shows_it(traffic: Traffic) -> None:
    """The same object, its data byte for byte."""
    body = b'{"type":"a.b","uid":"u","metadata":{"k":"v"},"priority":"high","data":{"n": 1.10,"big":9007199254740993}}'
    made = await traffic.client.post(
        "/v1/events", content=body, headers=traffic.headers | {"Content-Type": "application/json"}
    )
    answer = await traffic.client.get(FEED, params={"wait": 30}, headers=traffic.headers)
    shown = await traffic.client.get(f"/v1/events/{made.json()['id']}", headers=traffic.headers)
    assert b'"data":{"n": 1.10,"big":9007199254740993}' in shown.content
    assert answer.content.startswith(b'{"data":[' + shown.content + b'],"cursor":"')


async def test_types_select(traffic: Traffic) -> None:
    """Patterns, separated by commas; `_` is a letter like others; what is not wanted is passed by."""
    for event_type in ("order.placed", "order.a.b", "order", "user_x.made", "userax.made", "user.made"):
        await traffic.publish(event_type)
    await read_until(traffic, 6)
    page = await read(traffic, types="order.*, user_x.made,nothing")
    rest = await read(traffic, types="order", cursor=page["cursor"], wait=0)
    assert [event["type"] for event in page["data"]] == ["order.placed", "order.a.b", "user_x.made"]
    assert rest["data"] == []


async def test_rare_type_is_found_behind_many_others(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search goes on over any number of rows, a few at a time."""
    monkeypatch.setattr(feed, "SCAN_ROWS", 2)
    for _ in range(7):
        await traffic.publish("common")
    rare = await traffic.publish("rare")
    await read_until(traffic, 8)
    page = await read(traffic, types="rare", limit=1, wait=0)
    assert [event["id"] for event in page["data"]] == [rare["id"]]


async def test_search_for_a_rare_type_pauses(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is up the page is empty, and the cursor has moved on: the next request finishes."""
    monkeypatch.setattr(feed, "SCAN_ROWS", 2)
    monkeypatch.setattr(feed, "SCAN_SECONDS", 0)
    for event_type in ("common", "common", "common", "rare"):
        await traffic.publish(event_type)
    await read_until(traffic, 4)
    first = await read(traffic, types="rare", limit=1, wait=0)
    second = await read(traffic, types="rare", limit=1, wait=0, cursor=first["cursor"])
    assert (first["data"], [event["type"] for event in second["data"]]) == ([], ["rare"])


async def test_page_is_bounded_in_bytes(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large events come in smaller pages, at least one in each."""
    monkeypatch.setattr(feed, "PAGE_BYTES", 3_000)
    published = [(await traffic.publish(data="x" * 2_000))["id"] for _ in range(5)]
    seen = await read_until(traffic, 5, types="order.*")
    page = await read(traffic)
    assert [event["id"] for event in seen] == published
    assert [event["id"] for event in page["data"]] == published[:2]


async def test_tests_are_not_in_it(traffic: Traffic) -> None:
    """A test delivery's event is nobody's fact."""
    endpoint = await traffic.endpoint()
    await traffic.post(f"/v1/endpoints/{endpoint['id']}/test", {}, status=202)
    real = await traffic.publish()
    seen = await read_until(traffic, 1)
    assert [event["id"] for event in seen] == [real["id"]]


async def test_erased_data_is_null(traffic: Traffic) -> None:
    """The record stays in its place; consumers that come later see that the data is gone."""
    event = await traffic.publish()
    await read_until(traffic, 1)
    await traffic.client.delete(f"/v1/events/{event['id']}/data", headers=traffic.headers)
    (shown,) = await read_until(traffic, 1)
    assert (shown["id"], shown["data"]) == (event["id"], None)
    assert shown["data_erased_at"] is not None


async def test_feed_is_one_applications(
    traffic: Traffic, make_key: MakeKey, headers: Callable[[str], dict[str, str]]
) -> None:
    """`default` unless another is named; a bound key gets its own, and sees no other."""
    await traffic.post("/v1/applications", {"name": "Shop", "uid": "shop"}, status=201)
    other = await traffic.publish(application="shop")
    mine = await traffic.publish()
    bound = Traffic(traffic.app, traffic.client, headers(await make_key("viewer", application="shop")))
    assert [event["id"] for event in await read_until(traffic, 1)] == [mine["id"]]
    assert [event["id"] for event in await read_until(traffic, 1, application="shop")] == [other["id"]]
    assert [event["id"] for event in await read_until(bound, 1)] == [other["id"]]
    await read(bound, application="default", status=404)


async def test_who_may_read(
    traffic: Traffic,
    make_key: MakeKey,
    headers: Callable[[str], dict[str, str]],
    other_admin: dict[str, str],
) -> None:
    """Readers only, and only their workspace: another one's application is not there."""
    shop = await traffic.post("/v1/applications", {"name": "Shop"}, status=201)
    statuses = {
        role: (await traffic.client.get(FEED, headers=headers(await make_key(role)))).status_code
        for role in ("viewer", "operator", "publisher")
    }
    nobody = await traffic.client.get(FEED)
    foreign = await traffic.client.get(FEED, params={"application": shop["id"]}, headers=other_admin)
    assert statuses == {"viewer": 200, "operator": 200, "publisher": 403}
    assert (nobody.status_code, foreign.status_code) == (401, 404)


async def test_latest_begins_now(traffic: Traffic) -> None:
    """What came before is left out, and what comes after the answer is not missed."""
    await traffic.publish()
    await read_until(traffic, 1)
    start = await read(traffic, cursor="latest", wait=0)
    later = await traffic.publish()
    seen = await read_until(traffic, 1, cursor=start["cursor"])
    assert start["data"] == []
    assert [event["id"] for event in seen] == [later["id"]]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"cursor": "x"}, "/cursor"),
        ({"cursor": ""}, "/cursor"),
        ({"cursor": "ä"}, "/cursor"),
        ({"cursor": "A" * 71}, "/cursor"),
        ({"types": "order.*.a"}, "/types"),
        ({"types": "order.*,"}, "/types"),
        ({"types": "or%er"}, "/types"),
        ({"types": ",".join(f"t{n}" for n in range(101))}, "/types"),
        ({"wait": 31}, "/wait"),
        ({"wait": -1}, "/wait"),
        ({"limit": 0}, "/limit"),
        ({"limit": 251}, "/limit"),
        ({"type": "order.placed"}, "/type"),
    ],
)
async def test_bad_parameters_are_refused(traffic: Traffic, params: dict[str, Any], pointer: str) -> None:
    """422, and the parameter is named."""
    problem = await read(traffic, status=422, **({"wait": 0} | params))
    assert problem["errors"][0]["pointer"] == pointer


async def test_cursor_of_another_application_is_refused(traffic: Traffic) -> None:
    """Its place may lie before or behind what the consumer has of this one."""
    await traffic.post("/v1/applications", {"name": "Shop", "uid": "shop"}, status=201)
    page = await read(traffic, wait=0)
    problem = await read(traffic, application="shop", cursor=page["cursor"], status=422)
    assert "another application" in problem["detail"]


@pytest.mark.parametrize(("system", "timeline"), [(1, 0), (0, 1)])
async def test_cursor_from_before_a_restore_is_refused(traffic: Traffic, system: int, timeline: int) -> None:
    """Another cluster, or another timeline of this one: the answer says how to go on."""
    (application,) = [
        app for app in (await traffic.get("/v1/applications"))["data"] if app["uid"] == "default"
    ]
    async with traffic.app.state.runtime.engine.connect() as connection:
        epoch = (await feed.find_horizon(connection)).epoch
    cursor = encode_cursor(
        Position(5, ids.uuid7(1)),
        application_id=uuid_of(application),
        epoch=Epoch((epoch.system + system) % 2**64, epoch.timeline + timeline),
    )
    problem = await read(traffic, cursor=cursor, status=422)
    assert problem["errors"][0]["pointer"] == "/cursor"
    assert "restored" in problem["detail"]
    assert "cursor=latest" in problem["detail"]


def test_cursor_survives_its_text() -> None:
    """The largest numbers of its parts come back."""
    application, epoch = ids.uuid7(2), Epoch(2**64 - 1, 2**32 - 1)
    position = Position(2**64 - 1, ids.uuid7(3))
    cursor = encode_cursor(position, application_id=application, epoch=epoch)
    assert decode_cursor(cursor, application_id=application, epoch=epoch) == position


async def test_waiting_ends_when_something_comes(traffic: Traffic) -> None:
    """A request that found nothing is answered as soon as an event is there."""
    waiting = asyncio.create_task(read(traffic))
    await until_waiting(traffic, 1)
    event = await traffic.publish()
    async with asyncio.timeout(BOUND_SECONDS):
        page = await waiting
    assert [shown["id"] for shown in page["data"]] == [event["id"]]


async def test_waiting_goes_on_past_what_is_not_wanted(traffic: Traffic) -> None:
    """An event of another type wakes nobody's client."""
    waiting = asyncio.create_task(read(traffic, types="wanted"))
    await until_waiting(traffic, 1)
    await traffic.publish("other")
    await read_until(traffic, 1)
    await until_waiting(traffic, 1)
    event = await traffic.publish("wanted")
    page = await waiting
    assert [shown["id"] for shown in page["data"]] == [event["id"]]


async def test_waiting_ends_in_time(traffic: Traffic) -> None:
    """Nothing came: an empty page, and the cursor that was sent."""
    start = await read(traffic, wait=0)
    page = await read(traffic, wait=1, cursor=start["cursor"])
    assert page == {"data": [], "cursor": start["cursor"]}


async def test_waiting_holds_no_connection(
    make_app: MakeApp,
    open_client: Callable[[FastAPI], AbstractAsyncContextManager[httpx2.AsyncClient]],
    admin: dict[str, str],
) -> None:
    """Thirty wait in a process with one connection, and others are served; one event answers all thirty."""
    app = await make_app(api_pool_size=1)
    async with open_client(app) as client:
        traffic = Traffic(app=app, client=client, headers=admin)
        waiting = [asyncio.create_task(read(traffic)) for _ in range(30)]
        await until_waiting(traffic, 30)
        open_transactions = await _transactions_of(traffic)
        event = await traffic.publish()
        pages = await asyncio.gather(*waiting)
    assert open_transactions == 0
    assert [[shown["id"] for shown in page["data"]] for page in pages] == [[event["id"]]] * 30


async def _transactions_of(traffic: Traffic) -> int:
    async with traffic.app.state.runtime.publish_engine.connect() as connection:
        found = await connection.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'bellwire-api' AND state LIKE 'idle in transaction%'"
            )
        )
    return int(found)


async def test_waiting_ends_when_the_client_goes_away(traffic: Traffic, admin: dict[str, str]) -> None:
    """Nothing is kept for a client that has closed its connection."""
    gone = asyncio.Event()
    requested = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in requested:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "http", "method": "GET", "path": FEED, "query_string": b"wait=30", "http_version": "1.1",
        "headers": [(b"authorization", admin["Authorization"].encode())], "scheme": "http",
        "server": ("test", 80), "client": ("192.0.2.7", 1), "root_path": "",
    }  # fmt: skip
    request = asyncio.create_task(traffic.app(scope, receive, send))
    await until_waiting(traffic, 1)
    gone.set()
    async with asyncio.timeout(10):
        await request
    assert traffic.app.state.feed_watch.waiting == 0


async def test_waiting_ends_when_the_process_stops(traffic: Traffic) -> None:
    """Each gets an empty page and its cursor, and nobody waits any more."""
    waiting = [asyncio.create_task(read(traffic)) for _ in range(3)]
    await until_waiting(traffic, 3)
    traffic.app.state.feed_watch.close()
    async with asyncio.timeout(10):
        pages = await asyncio.gather(*waiting)
        late = await read(traffic)
    assert [page["data"] for page in [*pages, late]] == [[]] * 4


async def test_database_away_while_waiting_is_503(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told, with `Retry-After`, and can ask again with the cursor it has."""
    waiting = asyncio.create_task(traffic.client.get(FEED, params={"wait": 30}, headers=traffic.headers))
    await until_waiting(traffic, 1)
    engine = traffic.app.state.runtime.engine
    await engine.dispose()
    monkeypatch.setattr(engine.sync_engine.dialect, "connect", _refuse)
    answer = await waiting
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


def _refuse(*_: Any, **__: Any) -> None:
    raise psycopg.OperationalError("connection refused")


async def test_slow_transaction_is_never_passed_by(traffic: Traffic) -> None:
    """While an older transaction is open, what came after it waits; then both come, the older one first."""
    async with traffic.app.state.runtime.engine.connect() as slow:
        first = await insert(traffic, slow)
        second = (await traffic.publish())["id"]
        assert (await read(traffic, wait=0))["data"] == []
        waiting = asyncio.create_task(read(traffic))
        await until_waiting(traffic, 1)
        await slow.commit()
    page = await waiting
    assert [event["id"] for event in page["data"]] == [first, second]


async def test_rolled_back_transaction_leaves_no_gap(traffic: Traffic) -> None:
    """Events behind one that was given up come as soon as it is over."""
    async with traffic.app.state.runtime.engine.connect() as slow:
        await insert(traffic, slow)
        kept = (await traffic.publish())["id"]
        await slow.rollback()
    assert [event["id"] for event in await read_until(traffic, 1)] == [kept]


async def test_nothing_is_missed_or_seen_twice(
    make_app: MakeApp,
    open_client: Callable[[FastAPI], AbstractAsyncContextManager[httpx2.AsyncClient]],
    admin: dict[str, str],
) -> None:
    """Many publishers whose transactions commit out of order, while two consumers store the cursor after each page."""
    rounds, width = 12, 8
    rng = random.Random(20)  # noqa: S311 - an order, the same one each time
    app = await make_app(api_pool_size=width + 4)
    async with open_client(app) as client:
        traffic = Traffic(app=app, client=client, headers=admin)
        total = rounds * width * 2
        consumers = [
            asyncio.create_task(read_until(traffic, total, limit=limit, wait=1)) for limit in (3, 100)
        ]
        published: list[str] = []
        for _ in range(rounds):
            published += await _publish_out_of_order(traffic, width, rng=rng)
        async with asyncio.timeout(BOUND_SECONDS):
            narrow, wide = await asyncio.gather(*consumers)
    assert len(published) == total
    assert sorted(event["id"] for event in narrow) == sorted(published)
    assert [event["id"] for event in wide] == [event["id"] for event in narrow]


async def _publish_out_of_order(traffic: Traffic, width: int, *, rng: random.Random) -> list[str]:
    """Begin transactions in one order, write in another, commit in a third; publish through the API in between."""
    connections = [await traffic.app.state.runtime.engine.connect() for _ in range(width)]
    try:
        written = [await insert(traffic, connection) for connection in rng.sample(connections, width)]
        for connection in rng.sample(connections, width):
            await connection.commit()
            written.append((await traffic.publish())["id"])
    finally:
        for connection in connections:
            await connection.close()
    return written


async def test_reads_follow_the_index(traffic: Traffic) -> None:
    """Page and look walk ix_events_feed of every partition in its order: no sort, no scan, however long the history."""
    async with traffic.app.state.runtime.engine.begin() as connection:
        await connection.execute(FILL)
        await connection.execute(text("ANALYZE events"))
        partitions = await connection.scalar(
            text("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")
        )
        application = await connection.scalar(text("SELECT id FROM applications WHERE uid = 'default'"))
        workspace = await connection.scalar(
            text("SELECT workspace_id FROM applications WHERE uid = 'default'")
        )
        shared = {"xid": "3", "event_id": ids.uuid7(1), "horizon": "100000000", "most": 50, "limit": 50}
        shared |= {"workspace": workspace}
        page = await _plan(
            connection, feed.PAGE, shared | {"application": application, "types": None, "bytes": 1}
        )
        rare = await _plan(
            connection, feed.PAGE, shared | {"application": application, "types": ["a.%"], "bytes": 1}
        )
        look = await _plan(
            connection,
            feed_watch.NEWS,
            {"ns": [0, 1], "applications": [application] * 2, "xids": ["3", "4"], "ids": [ids.uuid7(1)] * 2},
        )
        await connection.execute(text("DELETE FROM events"))
    for plan in (page, rare, look):
        walked = [node for node in plan if "ROW(" in node.get("Index Cond", "")]
        assert len(walked) == partitions
        assert {node["Node Type"] for node in walked} <= {"Index Scan", "Index Only Scan"}
        assert all("application_id = " in node["Index Cond"] for node in walked)
        assert all("_xid_id_idx" in node["Index Name"] for node in walked)
        assert "Merge Append" in {node["Node Type"] for node in plan}
        assert not [node for node in plan if node["Node Type"] == "Seq Scan"]


# Three thousand events in each partition, of several applications: enough for Postgres to prefer an index.
FILL = text(
    "INSERT INTO events (id, workspace_id, application_id, type, data, occurred_at, xid)"
    " SELECT CAST(lpad(to_hex(extract(epoch FROM day)::bigint * 1000), 12, '0') || '7'"
    " || substr(md5(random()::text), 1, 19) AS uuid), a.workspace_id, a.id, 'a.b', '{}', day, CAST(CAST(1000 + n AS text) AS xid8)"
    " FROM applications a, generate_series(1, 1500) n,"
    " generate_series(date_trunc('day', now()) - interval '12 hours', date_trunc('day', now()) + interval '180 hours',"
    " interval '1 day') day"
)


async def _plan(
    connection: AsyncConnection, statement: Any, parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return all nodes of a statement's plan."""
    explained = await connection.scalar(text(f"EXPLAIN (FORMAT JSON) {statement.text}"), parameters)
    found, nodes = [], [explained[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        found.append(node)
        nodes += node.get("Plans", [])
    return found
