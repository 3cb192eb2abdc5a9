"""The audit log as a page: who may see it, its filters in the address, and the file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    ("role", "status"), [("viewer", 403), ("operator", 403), ("admin", 200), ("owner", 200)]
)
async def test_the_log_is_for_admins(browse_as: BrowseAs, role: str, status: int) -> None:
    """Others are told whom to ask."""
    answer = await (await browse_as(role)).get("/dashboard/audit")
    assert answer.status_code == status
    assert ("Export CSV" in answer.text) is (status == 200)


async def test_an_entry_says_who_did_what_to_which_object(owner: Browser, traffic: Traffic) -> None:
    """With the key's name, a link to the object, and what differs; markup in a value stays text."""
    endpoint = await traffic.endpoint(description="before")
    await traffic.client.patch(
        f"/v1/endpoints/{endpoint['id']}", json={"description": EVIL}, headers=traffic.headers
    )

    shown = (await owner.get("/dashboard/audit", params={"action": "endpoint.updated"})).text

    assert f'href="/dashboard/endpoints/{endpoint["id"]}"' in shown
    assert "before: </span>before</del>" in shown
    assert "&lt;img src=x" in shown
    assert EVIL not in shown
    assert "endpoint.created" not in shown.partition("<tbody>")[2]


async def test_filters_are_in_the_address(owner: Browser, traffic: Traffic) -> None:
    """By person's address, by object, by day; what matches nothing says so, what is no date says what one is."""
    endpoint = await traffic.endpoint()
    by_object = (await owner.get("/dashboard/audit", params={"object": endpoint["id"]})).text
    by_person = (await owner.get("/dashboard/audit", params={"actor": "owner@example.com"})).text

    assert "endpoint.created" in by_object
    assert "user.signed_in" not in by_object
    assert "user.signed_in" in by_person
    assert "endpoint.created" not in by_person
    assert "No entry matches" in (await owner.get("/dashboard/audit", params={"to": "2001-01-01"})).text
    assert "is no date" in (await owner.get("/dashboard/audit", params={"from": EVIL})).text


async def test_the_log_goes_page_by_page(owner: Browser, traffic: Traffic) -> None:
    """By a cursor, so that entries which come meanwhile shift nothing; the filters stay."""
    for n in range(51):
        await traffic.post(
            "/v1/applications", {"name": f"Application {n}", "uid": f"application-{n}"}, status=201
        )
    first = (await owner.get("/dashboard/audit", params={"action": "application.created"})).text
    older = first.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")

    second = (await owner.get(older)).text

    assert "action=application.created" in older
    assert first.count("<tr data-row") == 50
    assert second.count("<tr data-row") == 1


@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_the_log_is_taken_along_as_a_file(owner: Browser, traffic: Traffic, form: str) -> None:
    """An attachment with what the filters ask for; and that it was taken is in the log."""
    endpoint = await traffic.endpoint()

    answer = await owner.submit(
        "/dashboard/audit/export", at="/dashboard/audit", format=form, object=endpoint["id"]
    )

    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="bellwire-audit-log.{form}"'
    assert endpoint["id"] in answer.text
    assert "user.signed_in" not in answer.text
    if form == "ndjson":
        assert [json.loads(line)["action"] for line in answer.text.splitlines()] == ["endpoint.created"]
    assert "audit_log.exported" in (await owner.get("/dashboard/audit")).text
