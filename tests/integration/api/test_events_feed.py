"""`GET /v1/events/feed`: the pull side, in an order in which nothing is missed and nothing comes twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.events import feed_watch
from app.events.feed import HORIZON, PAGE, Epoch, Position, decode_cursor, encode_cursor
from tests.integration.api.traffic import Traffic, uuid_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from fastapi import FastAPI

FEED = "/v1/events/feed"


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def read(traffic: Traffic, *, status: int = 200, **params: Any) -> Any:
    """Ask for a page; other tests' transactions in the same Postgres may hold it back, so it waits by default."""
    answer = await traffic.client.get(FEED, params={"wait": 30} | params, headers=traffic.headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def read_until(traffic: Traffic, count: int, **params: Any) -> list[dict[str, Any]]:
    """Follow the feed from its beginning until this many events have come."""
    seen: list[dict[str, Any]] = []
    while len(seen) < count:
        page = await read(traffic, **params)
        assert page["data"], "the feed has no more"
        seen += page["data"]
        params["cursor"] = page["cursor"]
    return seen


async def test_pages_in_order(traffic: Traffic) -> None:
    """Oldest first, page by page, each event once; then it is empty and the cursor stays."""
    published = [(await traffic.publish(uid=f"u{n}"))["id"] for n in range(5)]
    seen = await read_until(traffic, 5, limit=2)
    first = await read(traffic, limit=5)
    last = await read(traffic, cursor=first["cursor"], wait=0)
    assert [event["id"] for event in seen] == published
    assert last == {"data": [], "cursor": first["cursor"]}
