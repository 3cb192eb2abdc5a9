"""A real attempt at each item of the OWASP API Security Top 10 (2023), with real requests to a real server.

`docs/reference/owasp.md` says in words what was tried and what came of it, and where each wall is tested in depth.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.faults.harness.stack import Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.faults

INSTANCE_KEY = "instance_key_of_the_tests_0123456789"


@dataclass(frozen=True, slots=True)
class Target:
    """A server with two workspaces: the attacker has keys of the first, and is after the second's."""

    stack: Stack
    keys: dict[str, str]
    victim: dict[str, str]

    async def ask(
        self, method: str, path: str, *, key: str | None = "admin", **options: Any
    ) -> httpx2.Response:
        """Send one request as the attacker, with one of its keys or none."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {self.keys[key]}")
        async with httpx2.AsyncClient(base_url=self.stack.base_url, trust_env=False, timeout=30) as client:
            return await client.request(method, path, headers=headers, **options)


@pytest.fixture(scope="module")
async def target() -> AsyncIterator[Target]:
    """The API as it is shipped, but for the egress policy, which is the strict one."""
    settings = {"BELLWIRE_INSTANCE_KEY": INSTANCE_KEY, "BELLWIRE_EGRESS_ALLOW": ""}
    async with Stack(workers=0, beats=0, receives=False, settings=settings) as stack:
        made = await stack.client.post(
            "/v1/workspaces", json={"name": "Victim"}, headers={"Authorization": f"Bearer {INSTANCE_KEY}"}
        )
        victim = {"Authorization": f"Bearer {made.json()['api_key']}"}
        endpoint = await stack.client.post(
            "/v1/endpoints",
            json={"url": "https://victim.example.com/?token=victim", "headers": {"X-Token": "victim-token"}},
            headers=victim,
        )
        event = await stack.client.post(
            "/v1/events", json={"type": "a.b", "data": {"of": "victim"}}, headers=victim
        )
        deliveries = await stack.client.get("/v1/deliveries", headers=victim)
        keys = {"admin": stack.api_key, "instance": INSTANCE_KEY, "unknown": stack.api_key[:-1] + "g"}
        for role in ("operator", "viewer", "publisher"):
            key = await stack.client.post("/v1/api-keys", json={"name": role, "role": role})
            keys[role] = key.json()["key"]
        yield Target(
            stack,
            keys,
            {
                "endpoint": endpoint.json()["id"],
                "event": event.json()["id"],
                "delivery": deliveries.json()["data"][0]["id"],
                "key": made.json()["api_key"],
            },
        )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/endpoints/{endpoint}", None),
        ("GET", "/v1/endpoints/{endpoint}/secret", None),
        ("PATCH", "/v1/endpoints/{endpoint}", {"url": "https://attacker.example.com"}),
        ("DELETE", "/v1/endpoints/{endpoint}", None),
        ("POST", "/v1/endpoints/{endpoint}/secret/rotate", {}),
        ("GET", "/v1/events/{event}", None),
        ("DELETE", "/v1/events/{event}/data", None),
        ("GET", "/v1/deliveries/{delivery}", None),
        ("POST", "/v1/deliveries/{delivery}/retry", None),
        ("GET", "/v1/deliveries?endpoint={endpoint}", None),
    ],
)
async def test_api1_objects_of_another_are_not_there(
    target: Target, method: str, path: str, body: Any
) -> None:
    """API1 Broken Object Level Authorization: an id of another workspace is 404, however it was learnt."""
    options = {"json": body} if body is not None else {}
    answer = await target.ask(method, path.format(**target.victim), **options)
    assert answer.status_code == 404
    assert "victim" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer null"},
        {"Authorization": "Bearer undefined"},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."},
        {"X-Api-Key": "{admin}"},
        {"Cookie": "api_key={admin}; session={admin}"},
        {"Authorization": "Bearer {unknown}"},
        {"Authorization": "Bearer {admin} {admin}"},
        {"X-Forwarded-User": "admin", "X-Forwarded-For": "127.0.0.1", "X-Original-URL": "/healthz"},
    ],
    ids=str,
)
async def test_api2_nothing_but_a_key_is_a_key(target: Target, headers: dict[str, str]) -> None:
    """API2 Broken Authentication: no header, guess, token of another kind or proxy's word opens anything."""
    sent = {name: value.format(**target.keys) for name, value in headers.items()}
    answer = await target.ask("GET", "/v1/api-keys", key=None, headers=sent)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    in_query = await target.ask("GET", f"/v1/api-keys?api_key={target.keys['admin']}", key=None)
    assert in_query.status_code == 401


async def test_api2_wrong_keys_are_told_apart_by_nothing(target: Target) -> None:
    """API2: a key that is nearly right is refused in the words that nonsense is refused in."""
    guesses = [target.keys["unknown"], "bw_" + "0" * 70, "x", target.keys["admin"].swapcase()]
    details = {
        (
            await target.ask("GET", "/v1/api-keys", key=None, headers={"Authorization": f"Bearer {guess}"})
        ).json()["detail"]
        for guess in guesses
    }
    assert len(details) == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/applications", {"name": "x", "workspace_id": "00000000-0000-0000-0000-000000000000"}),
        ("POST", "/v1/applications", {"name": "x", "id": "app_00000000000000000000000000"}),
        ("POST", "/v1/endpoints", {"url": "https://example.com", "disabled_reason": "x"}),
        ("POST", "/v1/endpoints", {"url": "https://example.com", "health": {"state": "closed"}}),
        ("POST", "/v1/api-keys", {"name": "x", "role": "owner"}),
        ("POST", "/v1/api-keys", {"name": "x", "role": "admin", "workspace": "wsp_x"}),
        ("POST", "/v1/api-keys", {"name": "x", "role": "admin", "digest": "AA=="}),
        ("POST", "/v1/events", {"type": "a.b", "data": 1, "created_at": "2020-01-01T00:00:00Z"}),
        ("POST", "/v1/events", {"type": "a.b", "data": 1, "workspace_id": "x"}),
        ("POST", "/v1/events", {"type": "a.b", "data": 1, "test": True}),
    ],
    ids=str,
)
async def test_api3_fields_that_are_not_the_callers_cannot_be_set(
    target: Target, method: str, path: str, body: dict[str, Any]
) -> None:
    """API3 Broken Object Property Level Authorization: a field that a route does not take is 422, not taken along."""
    answer = await target.ask(method, path, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] in {f"/{name}" for name in body}


async def test_api3_what_a_viewer_may_not_see_is_masked(target: Target) -> None:
    """API3: secrets, values of headers and query strings of URLs are not in what a viewer is answered."""
    body = {
        "url": "https://example.com/hook?token=hunter2",
        "headers": {"X-Token": "hunter3"},
        "secret": "whsec_" + "A" * 43 + "=",
    }
    made = await target.ask("POST", "/v1/endpoints", json=body)
    assert made.status_code == 201, made.text
    for path in ("/v1/endpoints", f"/v1/endpoints/{made.json()['id']}"):
        seen = await target.ask("GET", path, key="viewer")
        assert seen.status_code == 200
        assert [word for word in ("hunter2", "hunter3", "A" * 43) if word in seen.text] == []
    admin = await target.ask("GET", f"/v1/endpoints/{made.json()['id']}")
    assert [word for word in ("hunter3", "A" * 43) if word in admin.text] == []


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/events?limit=100000", {}, 422),
        ("GET", "/v1/events/feed?wait=86400", {}, 422),
        ("POST", "/v1/events", {"content": b'{"type":"a.b","data":' + b"[" * 100_000}, 422),
        ("POST", "/v1/events/batch", {"json": {"events": [{"type": "a.b", "data": 1}] * 1_001}}, 422),
        ("POST", "/v1/events", {"content": b"\x1f\x8b" * 100, "headers": {"Content-Encoding": "gzip"}}, 415),
        ("POST", "/v1/endpoints", {"json": {"url": "https://example.com", "event_types": ["a.b"] * 10_000}}, 422),
        ("POST", "/v1/endpoints", {"json": {"url": "https://example.com", "retry_schedule": [1] * 10_000}}, 422),
        ("POST", "/v1/endpoints", {"json": {"url": "https://example.com", "max_in_flight": 10**9}}, 422),
        (
            "POST",
            "/v1/endpoints",
            {"json": {"url": "https://example.com", "filter": "data.a.all(x, data.a.all(y, data.a.all(z, x == y && y == z)))"}},
            422,
        ),
        ("POST", "/v1/event-types", {"json": {"name": "re.dos", "schema": {"pattern": "^(a+)+$(?=b)"}, "validation": "reject"}}, 422),
    ],
    ids=["page", "wait", "depth", "batch", "gzip", "patterns", "schedule", "cap", "filter", "pattern"],
)  # fmt: skip
async def test_api4_no_request_takes_more_than_it_may(
    target: Target, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    """API4 Unrestricted Resource Consumption: sizes, counts, depths and waits have bounds, checked before the work."""
    headers = (
        {"Content-Type": "application/json", **options.pop("headers", {})} if "content" in options else {}
    )
    answer = await target.ask(method, path, headers=headers, **options)
    assert answer.status_code == status, answer.text[:300]


async def test_api4_a_body_that_is_too_long_is_refused_unread(target: Target) -> None:
    """API4: two gigabytes that are announced are 413 before the first byte of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.stack.api_port)
    head = "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2000000000\r\n"
    writer.write(f"{head}Authorization: Bearer {target.keys['publisher']}\r\n\r\n".encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"/problems/too-large" in answer


async def test_api4_an_expression_that_explodes_elsewhere_is_cheap_here(target: Target) -> None:
    """API4: the pattern that makes backtracking engines stand still is taken, and checked in linear time."""
    schema = {"type": "string", "pattern": "^(a+)+$"}
    made = await target.ask(
        "POST", "/v1/event-types", json={"name": "re.dos2", "schema": schema, "validation": "reject"}
    )
    assert made.status_code == 201, made.text
    async with asyncio.timeout(20):
        answer = await target.ask("POST", "/v1/events", json={"type": "re.dos2", "data": "a" * 50_000 + "b"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("key", "method", "path", "status"),
    [
        ("viewer", "DELETE", "/v1/applications/default", 403),
        ("viewer", "GET", "/v1/endpoints/ep_x/secret", 403),
        ("operator", "POST", "/v1/api-keys", 403),
        ("operator", "GET", "/v1/audit-log", 403),
        ("publisher", "GET", "/v1/events", 403),
        ("admin", "GET", "/v1/workspaces", 403),
        ("admin", "POST", "/v1/workspaces", 403),
        ("instance", "GET", "/v1/endpoints", 401),
        ("viewer", "HEAD", "/v1/api-keys", 405),
        ("viewer", "GET", "/v1/api-keys/", 404),
        ("viewer", "GET", "//v1/api-keys", 404),
        ("viewer", "GET", "/v1/./api-keys", 403),
        ("viewer", "GET", "/V1/api-keys", 404),
        ("viewer", "GET", "/v1/%61pi-keys", 403),
        ("viewer", "GET", "/v1/api-keys;x=1", 404),
        ("viewer", "GET", "/v1/events/../api-keys", 403),
    ],
)
async def test_api5_functions_of_other_roles_are_refused(
    target: Target, key: str, method: str, path: str, status: int
) -> None:
    """API5 Broken Function Level Authorization: each role has its routes, and no spelling of a path leads around it."""
    for headers in ({}, {"X-HTTP-Method-Override": "GET"}, {"X-Original-URL": "/healthz"}):
        answer = await target.ask(method, path, key=key, headers=headers)
        assert answer.status_code == status, answer.text


async def test_api6_a_flood_of_repeats_is_one_event(target: Target) -> None:
    """API6 Unrestricted Access to Sensitive Business Flows: the flow that costs others, delivery, runs once for one uid."""
    body = {"type": "flow.once", "data": {}, "uid": "order-1"}
    answers = await asyncio.gather(
        *(target.ask("POST", "/v1/events", key="publisher", json=body) for _ in range(30))
    )
    assert len({answer.json()["id"] for answer in answers}) == 1
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in answers]
    assert replayed.count("true") == 29


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://017700000001/",
        "http://0.0.0.0/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://localhost/",
        "http://a.localhost/",
        "http://metadata.google.internal/",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://１２７.０.０.１/",
        "http://user:pass@example.com/",
        "http://example.com:22/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "http://example.com/\r\nX-Injected: 1",
    ],
)
async def test_api7_addresses_inside_are_no_endpoints(target: Target, url: str) -> None:
    """API7 Server Side Request Forgery: what leads inside is refused when it is saved, and again at each connect."""
    answer = await target.ask("POST", "/v1/endpoints", json={"url": url})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/url"


@pytest.mark.parametrize(
    "path", ["/v1/applications", "/v1/nonsense", "/healthz", "/docs", "/openapi.json", "/problems"]
)
async def test_api8_answers_are_hardened_and_say_nothing_of_the_inside(target: Target, path: str) -> None:
    """API8 Security Misconfiguration: headers on every answer, no CORS, no TRACE, no names of what runs inside."""
    origin = {"Origin": "https://attacker.example.com", "Access-Control-Request-Method": "GET"}
    for answer in (
        await target.ask("GET", path, headers=origin),
        await target.ask("OPTIONS", path, headers=origin),
        await target.ask("TRACE", path),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
        assert not {"server", "x-powered-by"} & {name.lower() for name in answer.headers}
        assert [
            word for word in ("Traceback", "psycopg", "sqlalchemy", "uvicorn") if word in answer.text
        ] == []
    assert (await target.ask("TRACE", path)).status_code in {404, 405}


async def test_api9_nothing_is_served_that_is_not_described(target: Target) -> None:
    """API9 Improper Inventory Management: there is one version, and what a scanner looks for is not there."""
    document = (await target.ask("GET", "/openapi.json", key=None)).json()
    assert {path.split("/")[1] for path in document["paths"]} == {"v1", "healthz", "readyz", "metrics"}
    for path in (
        *(
            "/v0/events",
            "/v2/events",
            "/api/v1/events",
            "/internal",
            "/admin",
            "/debug",
            "/console",
            "/actuator/env",
        ),
        *(
            "/.env",
            "/.git/config",
            "/server-status",
            "/graphql",
            "/swagger.json",
            "/redoc",
            "/static/../app/main.py",
        ),
        *("/docs/..%2f..%2f.env", "/docs/%2e%2e/%2e%2e/etc/passwd", "/metrics/../.env"),
    ):
        assert (await target.ask("GET", path, key=None)).status_code == 404, path
        assert (await target.ask("GET", path)).status_code == 404, path


async def test_api10_what_others_send_is_kept_as_data(target: Target) -> None:
    """API10 Unsafe Consumption of APIs: what a publisher sends comes back as JSON, whatever it would be elsewhere."""
    nasty = {
        "html": "<script>alert(1)</script>",
        "sql": "'; DROP TABLE events; --",
        "log": "\r\n[error] forged",
        "tpl": "{{7*7}}${7*7}",
    }
    body = {"type": "nasty.one", "data": nasty, "metadata": nasty, "correlation_id": nasty["html"]}
    made = await target.ask("POST", "/v1/events", json=body)
    assert made.status_code == 202, made.text
    shown = await target.ask("GET", f"/v1/events/{made.json()['id']}")
    assert shown.headers["Content-Type"] == "application/json"
    assert (shown.json()["data"], shown.json()["metadata"]) == (nasty, nasty)
    log = target.stack.api.whole_log()
    assert [line for line in log.splitlines() if line.startswith("[error] forged")] == []
    assert all(json.loads(line) for line in log.splitlines() if line.startswith("{"))
