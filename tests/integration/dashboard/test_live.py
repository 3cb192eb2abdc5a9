"""The live tail: attempts that fit, as they are made, of the own workspace, for as long as somebody may see them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import text

from app.core.ids import lowest_uuid_at
from app.dashboard.live.attempts import AttemptReader
from app.dashboard.search import parse
from app.deliveries.record import Settle
from tests.faults.harness.waiting import wait_until
from tests.integration.api.traffic import Traffic, uuid_of
from tests.integration.dashboard.streams import BOUND_SECONDS, Stream, open_stream

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

ROWS = "/dashboard/live/rows?"
# A query, and the types of the attempts that it finds of those that `test_the_server_filters` makes.
FILTERS = {
    "": ["one", "two", "three"],
    "type:two": ["two"],
    "code:5xx": ["two"],
    "status:succeeded": ["one", "three"],
    "duration:>1s": ["three"],
    "header.x-shop:seven": ["three"],
    "data.n:1 -type:one": ["two", "three"],
    "nonsense:yes": [],
}


async def begin(app: FastAPI, stream: Stream) -> None:
    """Wait until the page is looked at for."""
    assert await stream.next() == ("ready", {})
    watch = app.state.change_watch
    await wait_until(
        lambda: watch.listening and not any(each.fresh for each in watch._listeners),
        seconds=BOUND_SECONDS,
        what="the first look for a page",
    )


async def rows_until(stream: Stream, *, last: str) -> list[dict[str, str]]:
    """Read until an attempt of this type came, and return all that did."""
    rows: list[dict[str, str]] = []
    while not any(row["type"] == last for row in rows):
        event = await stream.next()
        assert event is not None, f"The stream ended after {rows}."
        assert event[0] == "rows"
        rows += event[1]["rows"]
    return rows


async def types_to_the_end(stream: Stream) -> list[str]:
    """Read on until the stream ends, and return the types of all rows that came."""
    types: list[str] = []
    while (event := await stream.next()) is not None:
        types += [row["type"] for row in event[1].get("rows", ())]
    return types


async def last_word(stream: Stream) -> object:
    """Read past the rows."""
    while True:
        event = await stream.next()
        if event is None or event[0] != "rows":
            return event


async def attempt(
    traffic: Traffic,
    endpoint: dict[str, Any],
    event_type: str,
    settle: Settle = Settle.SUCCEEDED,
    **fields: Any,
) -> None:
    """Publish an event, and record an attempt of its delivery."""
    await traffic.publish(event_type)
    await traffic.attempt(endpoint, settle, event_type=event_type, **fields)


async def test_who_is_not_signed_in_hears_nothing(client: httpx2.AsyncClient) -> None:
    """The request is led to the door, as all pages are."""
    answer = await client.get(ROWS)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


async def test_the_server_filters(app: FastAPI, owner: Browser, traffic: Traffic) -> None:
    """By the same language as the lists; a query that is not understood finds nothing, rather than all."""
    endpoint = await traffic.endpoint()
    async with AsyncExitStack() as opened:
        streams = {
            query: await opened.enter_async_context(open_stream(app, owner, ROWS + urlencode({"q": query})))
            for query in FILTERS
        }
        for stream in streams.values():
            await begin(app, stream)
        await attempt(traffic, endpoint, "one")
        await attempt(traffic, endpoint, "two", Settle.RETRY)
        await attempt(
            traffic, endpoint, "three", duration_ms=2_500.0, request_headers=b'[["x-shop","number seven"]]'
        )
        seen = await rows_until(streams.pop(""), last="three")
        # One look tells all streams: what has come to one of them is on its way in the others.
        app.state.change_watch.close()
        found = {query: await types_to_the_end(stream) for query, stream in streams.items()}

    assert found | {"": [row["type"] for row in seen]} == FILTERS


async def test_a_row_says_what_the_page_would(app: FastAPI, owner: Browser, traffic: Traffic) -> None:
    """Texts only, no secret part of an address, and a link to the attempt itself."""
    endpoint = await traffic.endpoint()
    url = "https://shop.example.com/a?token=unsaid"
    async with open_stream(app, owner, ROWS) as stream:
        await begin(app, stream)
        await attempt(traffic, endpoint, "one", Settle.RETRY, request_url=url)
        (row,) = await rows_until(stream, last="one")
    page = (await owner.get("/dashboard/live")).text

    assert (row["tone"], row["code"]) == ("bad", "503")
    assert row["href"].endswith("#a1")
    assert all(isinstance(value, str) for value in row.values())
    assert "unsaid" not in str(row) + page
    for name, value in row.items():
        assert value in page, name


async def test_more_than_anybody_reads_is_thinned_out_and_said(
    app: FastAPI, owner: Browser, traffic: Traffic
) -> None:
    """A hundred and twenty at once: at most fifty of them, evenly chosen, the newest among them, and `1 in 3`."""
    endpoint = await traffic.endpoint(max_in_flight=200)
    for _ in range(120):
        await traffic.publish()
    claimed = await traffic.claim(endpoint, most=120)
    async with open_stream(app, owner, ROWS) as stream:
        await begin(app, stream)
        await traffic.finish_all(claimed)
        event = await stream.next()
    async with app.state.runtime.sessions() as session:
        # One that begins reads the newest of all, and not so many; this one has been there before them.
        reader = AttemptReader(claimed[0].workspace_id, parse(""), newest=lowest_uuid_at(1))
        news = await reader.read(session)

    assert len(claimed) == len(news.rows) == 120
    assert event == ("rows", {"sampling": 3, "rows": news.rows[2::3]})


async def test_a_stream_that_broke_goes_on_where_it_was(
    app: FastAPI, owner: Browser, traffic: Traffic
) -> None:
    """The browser says the place that it was told: what was made meanwhile comes, without another change."""
    endpoint = await traffic.endpoint()
    place = str(app.state.runtime.clock.unix_ms())
    await attempt(traffic, endpoint, "meanwhile")
    async with open_stream(app, owner, ROWS, headers={"last-event-id": place}) as stream:
        assert await stream.next() == ("ready", {})
        rows = await rows_until(stream, last="meanwhile")

    assert len(rows) == 1


async def test_rows_that_are_committed_late_come_once(app: FastAPI, traffic: Traffic) -> None:
    """An id is made before its row is there: a row from before the newest is not passed over, and none comes twice."""
    endpoint = await traffic.endpoint()
    runtime = app.state.runtime
    before = lowest_uuid_at(runtime.clock.unix_ms())
    await attempt(traffic, endpoint, "one")
    async with runtime.sessions() as session:
        reader = AttemptReader((await _workspace_of(traffic, endpoint)), parse(""), newest=before)
        first = await reader.read(session)
        # As if a later one had been seen already.
        reader.newest = lowest_uuid_at(runtime.clock.unix_ms() + 1_000)
        await attempt(traffic, endpoint, "late")
        second = await reader.read(session)
        third = await reader.read(session)

    assert [row["type"] for row in first.rows] == ["one"]
    assert [row["type"] for row in second.rows] == ["late"]
    assert third.rows == []


async def test_another_workspace_is_not_heard(
    app: FastAPI, owner: Browser, traffic: Traffic, other_admin: dict[str, str]
) -> None:
    """Its attempts do not come, also when the query names its endpoint."""
    own = await traffic.endpoint()
    others = Traffic(app=app, client=traffic.client, headers=other_admin)
    foreign = await others.endpoint()
    query = urlencode({"q": f"endpoint:{foreign['id']}"})
    async with (
        open_stream(app, owner, ROWS) as everything,
        open_stream(app, owner, ROWS + query) as named,
    ):
        await begin(app, everything)
        await begin(app, named)
        await attempt(others, foreign, "theirs")
        await attempt(traffic, own, "ours")
        rows = await rows_until(everything, last="ours")
        app.state.change_watch.close()
        of_named = await types_to_the_end(named)

    assert [row["type"] for row in rows] == ["ours"]
    assert of_named == []
    assert "theirs" not in (await owner.get(f"/dashboard/live?{query}")).text


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE users SET role = 'viewer'", None),
        ("UPDATE users SET disabled_at = now()", ("gone", {})),
        ("UPDATE sessions SET expires_at = now() - interval '1 s'", ("gone", {})),
        ("UPDATE sessions SET last_seen_at = now() - interval '12 h 1 s'", ("gone", {})),
        ("DELETE FROM sessions", ("gone", {})),
    ],
)
async def test_who_may_no_more_hears_no_more(
    app: FastAPI, browse_as: BrowseAs, statement: str, said: object
) -> None:
    """With another role the page has to ask again; a person who is out, however that came, is told so."""
    operator = await browse_as("operator")
    async with open_stream(app, operator, ROWS) as stream:
        await begin(app, stream)
        async with app.state.runtime.sessions.begin() as session:
            await session.execute(text(statement))

        assert await last_word(stream) == said
        assert said is None or await stream.next() is None


async def test_signing_out_ends_the_stream(app: FastAPI, owner: Browser) -> None:
    """Who is signed out hears nothing more, and is told so."""
    async with open_stream(app, owner, ROWS) as stream:
        await begin(app, stream)
        await owner.submit("/logout", at="/dashboard/")

        assert await last_word(stream) == ("gone", {})
        assert await stream.next() is None


async def test_the_stop_of_the_server_ends_the_stream(app: FastAPI, owner: Browser) -> None:
    """Without a word, and nobody is left who listens."""
    async with open_stream(app, owner, ROWS) as stream:
        await begin(app, stream)
        app.state.change_watch.close()

        assert await last_word(stream) is None

    assert app.state.change_watch.listening == 0


async def _workspace_of(traffic: Traffic, endpoint: dict[str, Any]) -> Any:
    async with traffic.app.state.runtime.sessions() as session:
        rows = await session.execute(
            text("SELECT workspace_id FROM endpoints WHERE id = :id"), {"id": uuid_of(endpoint)}
        )
        return rows.scalar_one()
