"""Every error is a problem document: right status, right page, before anything else happens."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from fastapi import APIRouter
from sqlalchemy.exc import OperationalError

from app.api.dependencies import Session, Viewer  # noqa: TC001 - FastAPI reads them at run time
from app.api.problem_types import PROBLEM_TYPES
from app.api.routing import TransactionalRoute

JSON = {"Content-Type": "application/json"}
MEMBERS = {"type", "title", "status", "detail", "instance", "request_id"}


def check(answer, *, status, slug):
    """Check the shape of a problem and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert MEMBERS <= set(body) <= MEMBERS | {"errors"}
    assert (body["status"], body["type"]) == (status, f"/problems/{slug}")
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return body


async def test_path_without_a_route(client, admin):
    """404 with a key, 401 without one below /v1/, plain 404 elsewhere."""
    check(await client.get("/v1/nonsense", headers=admin), status=404, slug="not-found")
    check(await client.get("/v1/nonsense"), status=401, slug="unauthenticated")
    check(await client.get("/nonsense"), status=404, slug="not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/applications", "GET, POST"),
        ("POST", "/v1/applications/default", "DELETE, GET, PATCH"),
        ("PUT", "/v1/event-types/openapi.json", "GET"),
        ("PUT", "/v1/events/batch", "POST"),
        ("PUT", "/v1/events/feed", "GET"),
        ("POST", "/healthz", "GET"),
    ],
)
async def test_wrong_method_names_the_right_ones(client, admin, method, path, allowed):
    """405 lists all methods of the path in Allow."""
    answer = await client.request(method, path, headers=admin)
    check(answer, status=405, slug="method-not-allowed")
    assert answer.headers["Allow"] == allowed


async def test_wrong_method_without_a_key(client):
    """What is there is told to key holders only."""
    check(await client.put("/v1/applications"), status=401, slug="unauthenticated")


async def test_paths_are_exact(client, admin):
    """A slash too many is another path, and no redirect."""
    check(await client.get("/v1/applications/", headers=admin), status=404, slug="not-found")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{'name': 'x'}",
        b'{"name": "x",}',
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b'{"name": "\\ud800"}',
        b'{"name": "\xff"}',
        b'{"name": "x"} trailing',
        '{"name": "x"}'.encode("utf-16"),
        b"[" * 5000,
        b'{"name": ' + b"[" * 200 + b"]" * 200 + b"}",
    ],
)
async def test_what_is_not_json_is_400(client, admin, body):
    """Broken, in another encoding, with numbers that JSON has not, or too deep."""
    answer = await client.post("/v1/applications", content=body, headers=JSON | admin)
    check(answer, status=400, slug="malformed")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_what_is_not_called_json_is_415(client, admin, headers):
    """The wrong type, charset or encoding is named before the body is looked at."""
    answer = await client.post("/v1/applications", content=b"{", headers=headers | admin)
    check(answer, status=415, slug="unsupported-media-type")


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=UTF-8", "application/vnd.x+json"]
)
async def test_json_by_any_of_its_names_is_taken(client, admin, media_type):
    """A charset of utf-8 and types that end in +json are JSON."""
    answer = await client.post(
        "/v1/applications", content=b'{"name": "x"}', headers={"Content-Type": media_type} | admin
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"5"])
async def test_body_that_is_no_object_is_422(client, admin, body):
    """An object is wanted, and the pointer is the whole body."""
    answer = await client.post("/v1/applications", content=body, headers=JSON | admin)
    problem = check(answer, status=422, slug="invalid")
    assert [error["pointer"] for error in problem["errors"]] == [""]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=251", "/limit"),
        ("limit=x", "/limit"),
        ("cursor=x", "/cursor"),
        ("order=asc", "/order"),
        ("created_at[gte]=yesterday", "/created_at[gte]"),
        ("action=%00", "/action"),
        ("created_at[le]=2026-01-31T12:00:00Z", "/created_at[le]"),
    ],
)
async def test_query_parameters_are_checked_and_never_ignored(client, admin, query, pointer):
    """A wrong value and a filter that does not exist are both 422."""
    answer = await client.get(f"/v1/audit-log?{query}", headers=admin)
    problem = check(answer, status=422, slug="invalid")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    "reference", ["app_x", "%00", "a%2Fb", "evt_00000000000000000000000000", "ä", "x" * 3000]
)
async def test_malformed_and_foreign_ids_are_404(client, admin, reference):
    """An id that cannot be one names nothing."""
    answer = await client.get(f"/v1/applications/{reference}", headers=admin)
    check(answer, status=404, slug="not-found")


async def test_body_over_the_limit_is_413_before_it_is_read(make_app, open_client, admin):
    """By its announced length nothing of the body is read; without one, reading stops at the limit."""
    read = []

    async def chunks():
        for _ in range(100):
            read.append(1)
            yield b"x" * 1000

    async with open_client(await make_app(max_body_bytes=2048)) as client:
        announced = {"Content-Length": "5000"} | JSON | admin
        by_header = await client.post("/v1/applications", content=chunks(), headers=announced)
        read_by_header = len(read)
        by_count = await client.post("/v1/applications", content=chunks(), headers=JSON | admin)
    for answer in (by_header, by_count):
        problem = check(answer, status=413, slug="too-large")
        assert "2,048" in problem["detail"]
    assert by_header.headers["Connection"] == "close"
    assert (read_by_header, len(read)) == (0, 3)


async def test_checks_come_in_the_documented_order(make_app, open_client, admin):
    """401, 403, 413, 415, 400, 422: each request has all later faults, too."""
    async with open_client(await make_app(max_body_bytes=2048)) as client:

        async def post(content, content_type, headers, query=""):
            answer = await client.post(
                f"/v1/applications{query}", content=content, headers={"Content-Type": content_type} | headers
            )
            return answer.status_code

        viewer = (
            await client.post("/v1/api-keys", json={"name": "v", "role": "viewer"}, headers=admin)
        ).json()["key"]
        large = b"{" + b"x" * 5000
        statuses = [
            await post(large, "text/plain", {}),
            await post(large, "text/plain", {"Authorization": f"Bearer {viewer}"}),
            await post(large, "text/plain", admin),
            await post(b"{", "text/plain", admin),
            await post(b"{", "application/json", admin, "?unknown=1"),
            await post(b"{}", "application/json", admin, "?unknown=1"),
        ]
    assert statuses == [401, 403, 413, 415, 400, 422]


async def test_rate_limit_is_429_with_its_headers(make_app, open_client, admin):
    """A key that asks faster than BELLWIRE_API_RATE is told how long to wait; answers tell what is left."""
    async with open_client(await make_app(api_rate=0.001)) as client:
        first = await client.get("/v1/applications", headers=admin)
        second = await client.get("/v1/applications", headers=admin)
    assert (first.status_code, first.headers["RateLimit-Remaining"]) == (200, "0")
    check(second, status=429, slug="rate-limited")
    assert int(second.headers["Retry-After"]) > 900
    assert second.headers["RateLimit-Limit"] == "1"


async def test_bug_of_ours_is_500_without_details(app, client, admin, watch):
    """The caller gets the request's id, and nothing of what went wrong inside; what was done is undone."""
    _add_route(app, _fail_after_insert)
    answer = await client.post("/v1/failing", headers=admin)
    watch.faults.clear()  # It changes all workspaces' keys.
    problem = check(answer, status=500, slug="internal")
    listed = await client.get("/v1/api-keys", headers=admin)
    assert "hunter2" not in answer.text
    assert problem["request_id"] in answer.headers["X-Request-Id"]
    assert all(item["name"] != "changed" for item in listed.json()["data"])


async def test_deadlock_is_tried_again(app, client, admin):
    """A deadlock is nobody's fault: the handler runs again in a new transaction, and the caller sees nothing."""
    runs = []

    async def deadlocks_twice(_: Viewer, session: Session) -> dict[str, int]:
        runs.append(session)
        if len(runs) < 3:
            raise OperationalError("x", {}, psycopg.errors.DeadlockDetected("deadlock detected"))
        return {"runs": len(runs)}

    _add_route(app, deadlocks_twice)
    answer = await client.post("/v1/failing", headers=admin)
    assert (answer.status_code, answer.json()) == (200, {"runs": 3})
    assert len(set(map(id, runs))) == 3


async def test_database_away_is_503_with_retry_after(make_app, open_client, admin):
    """Nothing is answered that the database did not confirm."""
    app = await make_app(database_connect_timeout_seconds=1.0)
    async with open_client(app) as client:
        runtime = app.state.runtime
        await runtime.engine.dispose()
        runtime.engine.sync_engine.dialect.connect = _refuse
        answer = await client.post("/v1/applications", json={"name": "x"}, headers=admin)
    problem = check(answer, status=503, slug="database-unavailable")
    assert answer.headers["Retry-After"] == "2"
    assert "nothing was stored" in problem["detail"]


async def test_statement_that_takes_too_long_is_503(app, client, admin):
    """A lock that is held too long does not become a 500."""

    async def waits(_: Viewer, session: Session) -> None:
        connection = await session.connection()
        await connection.exec_driver_sql("SET LOCAL statement_timeout = 50")
        await connection.exec_driver_sql("SELECT pg_sleep(20)")

    _add_route(app, waits)
    answer = await client.post("/v1/failing", headers=admin)
    check(answer, status=503, slug="too-busy")
    assert "Retry-After" in answer.headers


async def test_request_ids_are_taken_or_made(client):
    """A sensible X-Request-Id is kept; anything else is replaced."""
    kept = await client.get("/healthz", headers={"X-Request-Id": "trace-42.a"})
    made = [
        (await client.get("/healthz", headers={"X-Request-Id": value})).headers["X-Request-Id"]
        for value in ("", "a b", "x" * 200, "<script>")
    ]
    assert kept.headers["X-Request-Id"] == "trace-42.a"
    assert all(len(value) == 32 for value in made)
    assert len(set(made)) == 4


async def test_every_answer_has_security_headers(client, admin):
    """Data, pages and errors alike are not sniffed, framed, cached or used as documents."""
    for path in ("/healthz", "/v1/applications", "/v1/nonsense", "/docs", "/problems/invalid"):
        answer = await client.get(path, headers=admin)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Cache-Control"] in {"no-store", "no-cache"}


async def test_slow_bodies_hold_no_connection(make_app, open_client, admin):
    """As many callers as there are connections send their bodies slowly; others are answered meanwhile."""
    more, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def drip():
        yield b'{"name"'
        begun.release()
        await more.wait()
        yield b': "x"}'

    async with open_client(await make_app(api_pool_size=2)) as client:
        slow = [
            asyncio.create_task(client.post("/v1/applications", content=drip(), headers=JSON | admin))
            for _ in range(4)
        ]
        for _ in slow:
            await begun.acquire()
        quick = await client.get("/v1/applications", headers=admin)
        more.set()
        answers = await asyncio.gather(*slow)
    assert quick.status_code == 200
    assert [answer.status_code for answer in answers] == [201] * 4


async def test_every_kind_of_problem_has_a_page(client):
    """`type` leads to a page of this server that says what, why and what next; others are 404."""
    listed = (await client.get("/problems")).text
    for kind in PROBLEM_TYPES:
        page = await client.get(f"/problems/{kind.slug}")
        assert page.status_code == 200
        assert page.headers["Content-Type"].startswith("text/html")
        for words in ("What happened", "Why", "What to do next", kind.title.replace("'", "&#x27;")):
            assert words in page.text
        assert f"/problems/{kind.slug}" in listed
    check(await client.get("/problems/nonsense"), status=404, slug="not-found")


async def _fail_after_insert(_: Viewer, session: Session) -> None:
    connection = await session.connection()
    await connection.exec_driver_sql("UPDATE api_keys SET name = 'changed'")
    raise RuntimeError("the password is hunter2")


def _add_route(app, handler):
    router = APIRouter(route_class=TransactionalRoute)
    router.post("/v1/failing", response_model=None)(handler)
    app.router.routes.extend(router.routes)


def _refuse(*_args, **_kwargs):
    raise psycopg.OperationalError("connection refused")
