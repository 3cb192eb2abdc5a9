"""Dead letters: by cause, one by one, and sent again; and searches that are kept under names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from app.deliveries.record import Settle
from tests.integration.api.traffic import Traffic

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

LIST = "/dashboard/dead"
_GROUP = re.compile(r'<tr id="(ep_[0-9a-z]+)-(\w+)" data-row>')


async def dead(traffic: Traffic, endpoint: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Let one delivery of an endpoint die."""
    event = await traffic.publish()
    await traffic.attempt(endpoint, Settle.DEAD, **fields)
    return event


async def test_nothing_dead_is_a_success(owner: Browser, traffic: Traffic) -> None:
    """It says when the last one was, also after it was sent again."""
    assert "Last one: never." in (await owner.get(LIST)).text
    endpoint = await traffic.endpoint()
    event = await dead(traffic, endpoint)
    await traffic.post(f"/v1/deliveries/{(await traffic.delivery_of(event))['id']}/retry", status=202)

    page = (await owner.get(LIST)).text

    assert "Nothing has exhausted its retries" in page
    assert "Last one: never." not in page


async def test_dead_letters_are_grouped_by_cause(owner: Browser, traffic: Traffic) -> None:
    """Endpoint and error; a cause says how many, and how the endpoint is now."""
    endpoint = await traffic.endpoint()
    await dead(traffic, endpoint)
    await dead(traffic, endpoint)
    await dead(traffic, endpoint, error_class="read_timeout", response_status=None)

    page = (await owner.get(LIST)).text

    assert _GROUP.findall(page) == [(endpoint["id"], "read_timeout"), (endpoint["id"], "http_5xx")]
    assert "<strong>2</strong>" in page
    assert "Retry 2" in page
    assert '<span class="pill ok">healthy</span>' in page


async def test_a_group_is_sent_again_and_others_are_not(owner: Browser, traffic: Traffic) -> None:
    """One cause is mended at a time."""
    endpoint = await traffic.endpoint()
    first, second = await dead(traffic, endpoint), await dead(traffic, endpoint)
    other = await dead(traffic, endpoint, error_class="read_timeout", response_status=None)

    answer = await owner.submit(f"{LIST}/retry", at=LIST, group=f"{endpoint['id']} http_5xx", next=LIST)

    assert answer.headers["location"] == f"{LIST}?done=retried&n=2&left=0"
    states = [(await traffic.delivery_of(event))["state"] for event in (first, second, other)]
    assert states == ["pending", "pending", "dead"]


async def test_a_group_that_is_none_is_refused(owner: Browser, traffic: Traffic) -> None:
    """Whatever stands in the form."""
    await dead(traffic, await traffic.endpoint())

    for group in ("", "ep_1 http_5xx", "nonsense", "dlv_0 \x01"):
        answer = await owner.submit(f"{LIST}/retry", at=LIST, group=group)
        assert answer.status_code == 422, group


async def test_one_by_one_they_are_searched(owner: Browser, traffic: Traffic) -> None:
    """With the language of all lists; a cause leads to its own."""
    endpoint = await traffic.endpoint()
    event = await dead(traffic, endpoint)
    delivery = (await traffic.delivery_of(event))["id"]

    for query, found in (
        ("?flat=1", True),
        (f"?flat=1&endpoint={endpoint['id']}&code=http_5xx", True),
        ("?flat=1&code=timeout", False),
        ("?flat=1&q=data.n:1", True),
        ("?q=type:order.*", True),
        ("?q=type:user.*", False),
        ("?flat=1&q=colour:red", False),
    ):
        page = (await owner.get(f"{LIST}{query}")).text
        assert (delivery in page or endpoint["id"] + "-" in page) is found, query


async def test_another_workspaces_dead_letters_are_not_there(
    owner: Browser, app: FastAPI, client: httpx2.AsyncClient, other_admin: dict[str, str]
) -> None:
    """Neither to see nor to send again."""
    other = Traffic(app=app, client=client, headers=other_admin)
    endpoint = await other.endpoint()
    event = await dead(other, endpoint)

    assert endpoint["id"] not in (await owner.get(LIST)).text
    answer = await owner.submit(
        f"{LIST}/retry", at="/dashboard/", group=f"{endpoint['id']} http_5xx", next=LIST
    )

    assert answer.headers["location"].endswith("n=0&left=0")
    assert (await other.delivery_of(event))["state"] == "dead"


async def test_a_viewer_sends_nothing_again(browse_as: BrowseAs, traffic: Traffic) -> None:
    """No buttons; the form is refused."""
    endpoint = await traffic.endpoint()
    await dead(traffic, endpoint)
    viewer = await browse_as("viewer")

    assert 'name="group"' not in (await viewer.get(LIST)).text
    answer = await viewer.submit(f"{LIST}/retry", at=LIST, group=f"{endpoint['id']} http_5xx")
    assert answer.status_code == 403


async def test_a_search_is_kept_under_a_name(browse_as: BrowseAs) -> None:
    """For who kept it, on its own page; the same name again is written over."""
    viewer, admin = await browse_as("viewer"), await browse_as("admin")
    for query in ("status=dead", "status=dead&range=7d"):
        answer = await viewer.submit(
            "/dashboard/views",
            at="/dashboard/",
            name=" late  <b> ",
            next=f"/dashboard/deliveries?{query}&cursor=x",
        )
        assert answer.headers["location"] == f"/dashboard/deliveries?{query}"

    page = (await viewer.get("/dashboard/deliveries")).text
    assert page.count("late &lt;b&gt;</a>") == 1
    assert 'href="/dashboard/deliveries?status=dead&amp;range=7d"' in page
    assert "late" not in (await viewer.get("/dashboard/events")).text
    assert "late &lt;b&gt;" not in (await admin.get("/dashboard/deliveries")).text
    view = re.search(r'action="(/dashboard/views/[0-9a-f-]+/delete)"', page)
    assert view is not None
    await admin.submit(view[1], at="/dashboard/")
    assert view[1] in (await viewer.get("/dashboard/deliveries")).text
    await viewer.submit(view[1], at="/dashboard/", next="/dashboard/deliveries")
    assert view[1] not in (await viewer.get("/dashboard/deliveries")).text


async def test_a_view_that_cannot_be_kept_says_why(owner: Browser) -> None:
    """No name, a long one, no search, another page."""
    for name, path in (
        ("", "/dashboard/deliveries?status=dead"),
        ("x" * 61, "/dashboard/deliveries?status=dead"),
        ("x", "/dashboard/deliveries"),
        ("x", "/dashboard/keys?q=1"),
        ("x", "https://elsewhere.example.com/?a=1"),
    ):
        answer = await owner.submit("/dashboard/views", at="/dashboard/", name=name, next=path)
        assert answer.status_code == 422, path
