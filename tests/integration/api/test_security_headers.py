"""Security headers: on every answer of every route, of every page, and of every error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from app.api.openapi import describe
from app.api.problem_types import PROBLEM_TYPES
from app.core.settings import Settings
from app.main import create_app
from tests.integration.api.audited import CALLS
from tests.integration.api.conftest import INSTANCE_KEY
from tests.integration.api.traffic import Traffic

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.conftest import MakeApp

OPERATIONS = [
    (method.upper(), re.sub(r"\{\w+\}", "x", path))
    for path, operations in describe(create_app(Settings.model_construct()))["paths"].items()
    for method in operations
    # The feed holds a request open; it is asked with a cursor that it refuses.
]
PAGES = [
    "/",
    "/docs",
    "/docs/reference.css",
    "/openapi.json",
    "/problems",
    *(f"/problems/{kind.slug}" for kind in PROBLEM_TYPES),
    "/problems/none",
    "/login",
    "/login/link/none",
    "/account",
    "/static/app.css",
    "/static/dashboard.css",
    "/static/script/none/dashboard.js",
    "/static/script/none/none",
    "/static/icon.svg",
    "/static/none",
    "/dashboard/",
    "/dashboard/nowhere",
    "/nowhere",
    "/v1/nowhere",
    "/%00",
]
FIXED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ACTIVE = {"script-src", "script-src-elem", "script-src-attr", "style-src-attr", "object-src", "worker-src"}


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


def policy_of(answer: httpx2.Response) -> dict[str, list[str]]:
    """The directives of an answer's one Content-Security-Policy."""
    (policy,) = answer.headers.get_list("Content-Security-Policy")
    return {name: sources for name, *sources in (part.split() for part in policy.split(";"))}


def check(answer: httpx2.Response) -> None:
    """Fail unless an answer carries everything that each one has to carry, once."""
    where = f"{answer.request.method} {answer.request.url} {answer.status_code}"
    for name, value in FIXED.items():
        assert answer.headers.get_list(name) == [value], (where, name)
    # A page with a form sends where it was to this server, and to no other.
    is_api = answer.request.url.path.startswith("/v1/")
    referrer = answer.headers.get_list("Referrer-Policy")
    assert referrer in ([["no-referrer"]] if is_api else [["no-referrer"], ["same-origin"]]), where
    policy = policy_of(answer)
    assert policy["default-src"] == ["'none'"], where
    assert policy["frame-ancestors"] == ["'none'"], where
    assert policy["base-uri"] == ["'none'"], where
    assert policy["form-action"] in (["'none'"], ["'self'"]), where
    for name, sources in policy.items():
        assert set(sources) <= {"'none'", "'self'"}, (where, name)
    assert policy.keys().isdisjoint(ACTIVE) or policy.get("script-src") == ["'self'"], where
    assert "camera=()" in answer.headers["Permissions-Policy"], where
    assert len(answer.headers.get_list("Cache-Control")) == 1, where
    if is_api:
        assert answer.headers["Cache-Control"] == "no-store", where
    assert answer.headers["X-Request-Id"], where
    for revealing in ("Server", "X-Powered-By", "Access-Control-Allow-Origin"):
        assert revealing not in answer.headers, (where, revealing)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_every_route_without_a_key(client: httpx2.AsyncClient, method: str, path: str) -> None:
    """Refusals carry them, and the open routes too."""
    check(await client.request(method, path, content=b"not json"))


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_every_route_with_a_key(
    client: httpx2.AsyncClient, admin: dict[str, str], method: str, path: str
) -> None:
    """Whatever is answered to a request that makes little sense: 200, 404, 415, 422."""
    check(await client.request(method, path, headers=admin, content=b"{}", params={"cursor": "none"}))


@pytest.mark.parametrize("operation", CALLS)
async def test_every_change_and_reveal(traffic: Traffic, operation: str) -> None:
    """Answers that hold secrets, keys and files among them: none may be kept by anybody in between."""
    call = await CALLS[operation](traffic)
    key = f"Bearer {INSTANCE_KEY}" if call.by_instance else traffic.headers["Authorization"]

    answer = await traffic.client.request(
        call.method, call.path, json=call.body, headers={"Authorization": key}
    )

    assert answer.is_success
    check(answer)


@pytest.mark.parametrize("path", PAGES)
async def test_every_page(client: httpx2.AsyncClient, path: str) -> None:
    """Pages may load their own style sheet and nothing else, and have nothing that such a policy would stop."""
    answer = await client.get(path)

    check(answer)
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        assert policy_of(answer)["style-src"] == ["'self'"]
        assert not re.search(r"<(script|style|iframe|object|embed|base)\b", answer.text, re.IGNORECASE)
        assert not re.search(r"<[^>]+\s(style|on\w+)\s*=", answer.text, re.IGNORECASE)


async def test_publishing_past_the_framework(traffic: Traffic) -> None:
    """Accepted, replayed, refused and too large: the short way has them as the long one does."""
    await traffic.endpoint()
    keyed = traffic.headers | {"Idempotency-Key": "k"}
    event = {"type": "order.placed", "data": {}}
    posts: list[dict[str, Any]] = [
        {"json": event, "headers": keyed},
        {"json": event, "headers": keyed},
        {"json": {"type": ""}, "headers": traffic.headers},
        {"content": b"{", "headers": traffic.headers | {"Content-Type": "application/json"}},
        {"content": b" " * 2_000_000, "headers": traffic.headers},
        {"json": event},
    ]
    statuses = []
    for post in posts:
        answer = await traffic.client.post("/v1/events", **post)
        check(answer)
        statuses.append(answer.status_code)
    assert statuses == [202, 202, 422, 400, 413, 401]


async def test_method_that_a_route_does_not_take(client: httpx2.AsyncClient) -> None:
    """405, and HEAD and OPTIONS of whoever tries."""
    for method, path in (("PUT", "/docs"), ("OPTIONS", "/v1/events"), ("HEAD", "/docs"), ("TRACE", "/")):
        check(await client.request(method, path))


async def test_bug_of_our_own(app: FastAPI, open_client: Any, admin: dict[str, str]) -> None:
    """A 500 has them too."""
    app.state.health = None
    async with open_client(app) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 500
    check(answer)


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://hooks.example.com", ["max-age=31536000"]),
        ("http://hooks.example.com", []),
        ("", []),
    ],
)
async def test_https_is_insisted_on_where_it_is_used(
    make_app: MakeApp, open_client: Any, base_url: str, expected: list[str]
) -> None:
    """HSTS on every kind of answer where the public address is https, and on none where it is not (RFC 6797, 7.2)."""
    async with open_client(await make_app(base_url=base_url)) as client:
        answers = [
            await client.get("/docs"),
            await client.get("/nowhere"),
            await client.get("/v1/events"),
            await client.post("/v1/events"),
        ]
    for answer in answers:
        assert answer.headers.get_list("Strict-Transport-Security") == expected
        check(answer)
