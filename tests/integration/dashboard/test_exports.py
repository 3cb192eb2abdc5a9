"""Lists that are taken along as files: what is in them, who may take them, and how they say that they are not whole."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from app.core.errors import TooBusy
from app.dashboard.deliveries import export as delivery_export
from app.dashboard.events import export as event_export
from app.dashboard.exporting import files
from app.deliveries.record import Settle
from tests.integration.api.traffic import Traffic, uuid_of

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

LISTS = ("/dashboard/events", "/dashboard/deliveries", "/dashboard/dead")


async def take(browser: Browser, path: str, form: str, query: str = "") -> httpx2.Response:
    """Press a button below a list."""
    return await browser.submit(f"{path}/export{query}", at=f"{path}{query}", format=form)


def objects(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The lines of an NDJSON file."""
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def table(answer: httpx2.Response) -> list[list[str]]:
    """The rows of a CSV file, its head first."""
    assert answer.status_code == 200, answer.text
    return list(csv.reader(io.StringIO(answer.content.decode())))


@pytest.mark.parametrize("path", LISTS)
async def test_a_viewer_takes_nothing_along(browse_as: BrowseAs, traffic: Traffic, path: str) -> None:
    """The buttons are absent, the form is refused, and nothing is on record."""
    await traffic.attempt(await _published(traffic), Settle.DEAD)
    viewer = await browse_as("viewer")

    assert "/export" not in (await viewer.get(path)).text
    answer = await take(viewer, path, "csv")

    assert answer.status_code == 403
    assert not [entry for entry in await _log(traffic) if entry["action"].endswith(".exported")]


@pytest.mark.parametrize("path", LISTS)
async def test_what_is_no_file_or_no_search_is_refused(owner: Browser, traffic: Traffic, path: str) -> None:
    """With a sentence, before anything is read or put on record."""
    await traffic.attempt(await _published(traffic), Settle.DEAD)

    for form, query, said in (
        ("", "", "ndjson or csv"),
        ("xlsx", "", "ndjson or csv"),
        ("csv", "?q=colour:red", "There is no colour:"),
        ("ndjson", "?status=lost", "lost"),
    ):
        answer = await take(owner, path, form, query)
        assert answer.status_code == 422, (form, query)
        assert said in answer.text, (form, query)
    assert not [entry for entry in await _log(traffic) if entry["action"].endswith(".exported")]


@pytest.mark.parametrize("path", LISTS)
async def test_nothing_of_another_workspace_is_in_a_file(
    owner: Browser, app: FastAPI, client: httpx2.AsyncClient, other_admin: dict[str, str], path: str
) -> None:
    """Also if the address asks for it."""
    other = Traffic(app=app, client=client, headers=other_admin)
    endpoint = await other.endpoint()
    event = await other.publish()
    await other.attempt(endpoint, Settle.DEAD)

    for query in ("", f"?endpoint={endpoint['id']}", f"?q={event['id']}"):
        answer = await owner.submit(f"{path}/export{query}", at="/dashboard/", format="ndjson")
        assert objects(answer) == []


async def test_events_are_taken_with_their_data_byte_for_byte(owner: Browser, traffic: Traffic) -> None:
    """As they are stored: numbers as long as they are, names in their order, and one line each."""
    await traffic.endpoint()
    body = (
        b'{"type":"order.placed","uid":"u-1","correlation_id":"c-1","metadata":{"a":"b"},'
        b'"data":{"n": 9007199254740993,\r\n  "z": 1, "a": [1.50, "<b>"]}}'
    )
    sent = await traffic.client.post(
        "/v1/events", content=body, headers=traffic.headers | {"content-type": "application/json"}
    )
    event = sent.json()

    answer = await take(owner, "/dashboard/events", "ndjson")

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert re.fullmatch(
        r'attachment; filename="bellwire-events-\d{8}T\d{6}Z\.ndjson"', answer.headers["content-disposition"]
    )
    assert b'"data":{"n": 9007199254740993,    "z": 1, "a": [1.50, "<b>"]}}\n' in answer.content
    (line,) = objects(answer)
    assert line["id"] == event["id"]
    assert (line["uid"], line["correlation_id"], line["metadata"]) == ("u-1", "c-1", {"a": "b"})
    assert (line["deliveries"], line["waiting"]) == (1, 1)
    (head, row) = table(await take(owner, "/dashboard/events", "csv"))
    assert "data" not in head
    assert row[head.index("id")] == event["id"]


async def test_an_erased_event_is_in_the_file_without_data(owner: Browser, traffic: Traffic) -> None:
    """The record stays, and says so."""
    event = await traffic.publish()
    await traffic.client.delete(f"/v1/events/{event['id']}/data", headers=traffic.headers)

    (line,) = objects(await take(owner, "/dashboard/events", "ndjson"))

    assert (line["data"], line["data_erased"], line["data_bytes"]) == (None, True, None)


async def test_a_file_has_what_the_filters_leave(owner: Browser, traffic: Traffic) -> None:
    """Those of the address, and all pages of it."""
    endpoint = await traffic.endpoint()
    await traffic.publish("user.created")
    for _ in range(27):
        await traffic.publish("order.placed")
    await traffic.attempt(endpoint, Settle.DEAD)

    placed = objects(await take(owner, "/dashboard/deliveries", "ndjson", "?type=order.*"))
    dead = objects(await take(owner, "/dashboard/deliveries", "ndjson", "?status=dead"))
    letters = objects(await take(owner, "/dashboard/dead", "ndjson"))

    assert len(placed) == 27
    assert {line["event_type"] for line in placed} == {"order.placed"}
    assert [line["id"] for line in placed] == sorted((line["id"] for line in placed), reverse=True)
    assert [line["id"] for line in dead] == [line["id"] for line in letters]
    (letter,) = letters
    assert (letter["status"], letter["last_status"], letter["last_error_class"]) == ("dead", 503, "http_5xx")
    assert letter["endpoint"] == endpoint["id"]
    assert not {"data", "payload", "body"} & set(letter)


async def test_no_cell_of_a_spreadsheet_is_a_formula(owner: Browser, traffic: Traffic) -> None:
    """Whatever a receiver's answer or a publisher's uid begins with."""
    endpoint = await traffic.endpoint()
    await traffic.publish(uid="-2-1")
    await traffic.attempt(endpoint, Settle.DEAD, error_message='=HYPERLINK("https://evil.example.com")')

    for path, cell in (
        ("/dashboard/dead", '\'=HYPERLINK("https://evil.example.com")'),
        ("/dashboard/deliveries", '\'=HYPERLINK("https://evil.example.com")'),
        ("/dashboard/events", "'-2-1"),
    ):
        _, row = table(await take(owner, path, "csv"))
        assert cell in row


@pytest.mark.parametrize(
    ("path", "action"), list(zip(LISTS, ("events", "deliveries", "dead_letters"), strict=True))
)
async def test_who_took_what_is_in_the_audit_log(
    owner: Browser, traffic: Traffic, path: str, action: str
) -> None:
    """With the search, but without values of payloads or headers: those are nobody's to read there."""
    await take(owner, path, "csv", "?q=type:order.*+data.customer.mail:a@b.example+status:dead&range=7d")

    (entry,) = [entry for entry in await _log(traffic) if entry["action"].endswith(".exported")]

    assert entry["action"] == f"{action}.exported"
    assert entry["after"] == {
        "format": "csv",
        "range": "7d",
        "search": "type:order.* data.customer.mail:… status:dead",
    }


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_a_file_that_is_full_says_so_in_its_last_line(
    owner: Browser, traffic: Traffic, monkeypatch: pytest.MonkeyPatch, path: str, form: str
) -> None:
    """How many there are, and what to do for the others; one that ends with the bound is whole."""
    monkeypatch.setattr(files, "ROWS_PER_PAGE", 2)
    monkeypatch.setattr(files, "MOST_ROWS", 3)
    endpoint = await traffic.endpoint()
    for _ in range(3):
        await traffic.publish()
        await traffic.attempt(endpoint, Settle.DEAD)
    whole = await take(owner, path, form)
    await traffic.publish()
    await traffic.attempt(endpoint, Settle.DEAD)

    full = await take(owner, path, form)

    assert "Not complete" not in whole.text
    assert len(whole.text.splitlines()) == 3 + (form == "csv")
    assert len(full.text.splitlines()) == 4 + (form == "csv")
    last = full.text.splitlines()[-1]
    assert "Not complete: a file has 3 rows at most. These are the newest 3. Narrow the range" in last
    if form == "ndjson":
        assert json.loads(last)["export"]["complete"] is False


async def test_a_page_that_takes_too_long_ends_the_file_in_words(
    owner: Browser, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read by then is in it."""
    monkeypatch.setattr(files, "ROWS_PER_PAGE", 1)
    await traffic.endpoint()
    first, second = await traffic.publish(), await traffic.publish()
    read, pages = event_export.list_rows, []

    async def slow(*args: Any, **options: Any) -> Any:
        pages.append(args)
        if len(pages) > 1:
            raise TooBusy("The statement was stopped.")
        return await read(*args, **options)

    monkeypatch.setattr(event_export, "list_rows", slow)

    lines = objects(await take(owner, "/dashboard/events", "ndjson"))

    assert lines[0]["id"] == second["id"]
    assert lines[1]["export"]["rows"] == 1
    assert "needed more than 3 seconds" in lines[1]["export"]["detail"]
    assert first["id"] not in json.dumps(lines)


async def test_large_data_is_read_in_parts(
    owner: Browser, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a page of large events takes no more memory than one of small ones; all of it is there."""
    monkeypatch.setattr(event_export, "MOST_BYTES", 40)
    sent = [await traffic.publish(data={"text": "x" * n}) for n in (100, 1, 1, 30, 2)]

    lines = objects(await take(owner, "/dashboard/events", "ndjson"))

    assert [line["id"] for line in lines] == [event["id"] for event in reversed(sent)]
    assert [len(line["data"]["text"]) for line in lines] == [2, 30, 1, 1, 100]


async def test_the_file_has_what_its_reference_names(owner: Browser, traffic: Traffic) -> None:
    """Both forms have the same fields, in the same order; data and metadata are in NDJSON only."""
    await traffic.attempt(await _published(traffic), Settle.DEAD)

    for path, headings, more in (
        ("/dashboard/events", event_export.HEADINGS, ["metadata", "data"]),
        ("/dashboard/deliveries", delivery_export.HEADINGS, []),
        ("/dashboard/dead", delivery_export.HEADINGS, []),
    ):
        (line,) = objects(await take(owner, path, "ndjson"))
        assert list(line) == [*headings, *more]
        assert table(await take(owner, path, "csv"))[0] == list(headings)


async def _published(traffic: Traffic) -> dict[str, Any]:
    """Make an endpoint, and publish an event that goes there; return the endpoint."""
    endpoint = await traffic.endpoint()
    await traffic.publish()
    assert uuid_of(endpoint)
    return endpoint


async def _log(traffic: Traffic) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await traffic.get("/v1/audit-log?limit=250"))["data"]
    return entries
