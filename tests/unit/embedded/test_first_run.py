"""The demo endpoint: made once through the REST API, and brought up to date at every start."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from app.embedded.errors import EmbeddedError
from app.embedded.first_run import ensure_demo_endpoint

URL = "http://127.0.0.1:8401/webhooks"


class TwinApi:
    """The part of the REST API that is asked, over a dictionary; lists come in pages of one."""

    def __init__(self) -> None:
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, str] = {}
        self.changes: list[tuple[str, str]] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        body = json.loads(request.content) if request.content else {}
        if request.method != "GET":
            self.changes.append((request.method, path))
        _, _, _, *rest = path.split("/")
        match request.method, rest:
            case "GET", []:
                return self._page(request.url.params)
            case "POST", []:
                return self._create(body)
            case "PATCH", [endpoint]:
                self.endpoints[endpoint].update(body)
                return httpx2.Response(200, json=self.endpoints[endpoint])
            case "GET", [endpoint, "secret"]:
                return httpx2.Response(200, json={"secret": self.secrets[endpoint], "previous": []})
            case "POST", [endpoint, "secret", "rotate"]:
                self.secrets[endpoint] = body["secret"]
                return httpx2.Response(200, json={"secret": body["secret"]})
        return httpx2.Response(404, json={"detail": f"{request.method} {path} is not known to the twin."})

    def _create(self, body: dict[str, Any]) -> httpx2.Response:
        name = f"ep_{len(self.endpoints) + 1}"
        self.secrets[name] = body.pop("secret", "made by the server")
        self.endpoints[name] = {"id": name, "description": None, **body}
        return httpx2.Response(201, json={**self.endpoints[name], "secret": self.secrets[name]})

    def _page(self, params: httpx2.QueryParams) -> httpx2.Response:
        start = int(params.get("cursor", "0"))
        listed = [e for e in self.endpoints.values() if e["application"] == params["application"]]
        following = str(start + 1) if start + 1 < len(listed) else None
        return httpx2.Response(200, json={"data": listed[start : start + 1], "next_cursor": following})


@pytest.fixture
def api() -> TwinApi:
    return TwinApi()


async def ensure(api: TwinApi, *, url: str = URL, secret: str = "kept") -> str:  # noqa: S107 - no secret
    transport = httpx2.MockTransport(api.answer)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
        return await ensure_demo_endpoint(client, url=url, secret=secret)


async def test_the_first_start_makes_it(api: TwinApi) -> None:
    """Every event of the application `default` goes to the demo receiver, signed with its secret."""
    name = await ensure(api)

    made = {
        "application": "default",
        "url": URL,
        "event_types": ["*"],
        "description": "Demo receiver",
        "id": name,
    }
    assert (api.endpoints, api.secrets) == ({name: made}, {name: "kept"})


async def test_later_starts_change_nothing(api: TwinApi) -> None:
    """What is right stays as it is, also when it is not on the first page of the list."""
    api._create({"application": "default", "url": "https://example.com/hook"})
    first = await ensure(api)
    api.endpoints[first]["description"] = "My own words"
    api.changes.clear()

    second = await ensure(api)

    assert (second, api.changes) == (first, [])


async def test_a_receiver_that_moved_takes_its_endpoint_along(api: TwinApi) -> None:
    """Another port makes no second endpoint that fails for ever."""
    first = await ensure(api)

    moved = await ensure(api, url="http://127.0.0.1:9000/webhooks")

    assert moved == first
    assert [endpoint["url"] for endpoint in api.endpoints.values()] == ["http://127.0.0.1:9000/webhooks"]


async def test_a_secret_that_was_made_anew_is_told_to_the_endpoint(api: TwinApi) -> None:
    """After the kept file was lost, the receiver and the endpoint agree again."""
    name = await ensure(api)

    await ensure(api, secret="made anew")

    assert api.secrets == {name: "made anew"}


async def test_a_refusal_says_what_the_api_said(api: TwinApi) -> None:
    """The problem's own words reach the person who started Bellwire."""

    def refuse(_request: httpx2.Request) -> httpx2.Response:
        problem = {
            "detail": "The body has faults.",
            "errors": [{"pointer": "/url", "detail": "port 8401 is denied"}],
        }
        return httpx2.Response(422, json=problem)

    api.answer = refuse  # type: ignore[method-assign]

    with pytest.raises(
        EmbeddedError, match=r"answered with 422: The body has faults\. /url: port 8401 is denied"
    ):
        await ensure(api)


async def test_an_answer_that_is_no_problem_is_shown_as_it_is(api: TwinApi) -> None:
    """A proxy in between is recognised by its own page."""
    api.answer = lambda _request: httpx2.Response(502, text="<html>Bad Gateway")  # type: ignore[method-assign]

    with pytest.raises(EmbeddedError, match="answered with 502: <html>Bad Gateway"):
        await ensure(api)
