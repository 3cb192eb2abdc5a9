"""The form of an endpoint: faults at their fields, what was typed kept, and what is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from markupsafe import escape

if TYPE_CHECKING:
    import httpx2

    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

URL = "https://shop.example.com/webhooks"
FORM = {
    "application": "default",
    "url": URL,
    "description": "",
    "scope": "some",
    "types": "order.*",
    "filter": "",
    "headers": "",
    "format": "standard",
    "signature": "hmac-sha256",
    "timeout_seconds": "15",
    "retry_schedule": "",
    "rate_per_second": "",
    "rate_burst": "",
    "max_in_flight": "10",
    "ordering": "none",
    "fifo_on_dead": "skip",
    "max_age": "",
}
FAULTS = {
    "url": ("ftp://shop.example.com", "http"),
    "types": ("order..placed", "&#39;order..placed&#39;: A pattern is made of segments"),
    "filter": ("data.amount >", "does not parse"),
    "headers": ("Host: shop", "Host: This header belongs to the connection"),
    "timeout_seconds": ("soon", "This must be a whole number."),
    "retry_schedule": ("5s, later", "&#39;later&#39; is no length of time"),
    "rate_per_second": ("fast", "number"),
    "rate_burst": ("0", "greater than or equal to 1"),
    "max_in_flight": ("1001", "less than or equal to 1000"),
    "ordering": ("random", "This must be one of"),
    "max_age": ("1s", "greater than or equal to 60"),
}


async def save(
    browser: Browser, traffic: Traffic, made: dict[str, Any], *, version: int | None = None, **fields: str
) -> httpx2.Response:
    """Fill in the settings as they are but for these fields, and save."""
    path = f"/dashboard/endpoints/{made['id']}/settings"
    page = (await browser.get(path)).text
    shown = page.partition('name="version" value="')[2].partition('"')[0]
    return await browser.submit(path, **(FORM | {"version": str(version or shown)} | fields))


@pytest.mark.parametrize("field", FAULTS)
async def test_a_fault_is_shown_at_its_field(field: str, owner: Browser, traffic: Traffic) -> None:
    """What was typed stays, also in the other fields, and nothing is made or changed."""
    typed, said = FAULTS[field]
    made = await traffic.endpoint(url=URL, event_types=["order.*"])
    before = await traffic.get(f"/v1/endpoints/{made['id']}")
    wrong = FORM | {field: typed, "description": "Kept <i>as typed</i>"}

    for answer in (
        await owner.submit("/dashboard/endpoints", at="/dashboard/endpoints/new", **wrong),
        await save(owner, traffic, made, **wrong),
    ):
        assert answer.status_code == 422
        page = answer.text
        assert f'id="{field}-fault"' in page
        assert said in page.partition(f'id="{field}-fault"')[2].partition("</p>")[0]
        assert "Kept &lt;i&gt;as typed&lt;/i&gt;" in page
        assert str(escape(typed)) in page or field == "ordering"
    assert await traffic.get(f"/v1/endpoints/{made['id']}") == before
    assert len((await traffic.get("/v1/endpoints"))["data"]) == 1


async def test_only_admins_make_and_change_endpoints(browse_as: BrowseAs, traffic: Traffic) -> None:
    """An operator sees the settings without a form, and a form that is sent all the same is refused."""
    made = await traffic.endpoint(url=URL)
    path = f"/dashboard/endpoints/{made['id']}/settings"
    for role in ("viewer", "operator"):
        browser = await browse_as(role)
        assert (await browser.get("/dashboard/endpoints/new")).status_code == 403
        assert (await browser.get(path)).status_code == 200
        for target in (path, "/dashboard/endpoints"):
            answer = await browser.submit(target, at="/dashboard/endpoints", **FORM)
            assert answer.status_code == 403
            assert "nothing was done" in answer.text


async def test_a_new_endpoint_shows_its_secret_once(browse_as: BrowseAs, traffic: Traffic) -> None:
    """On the page after it; when that is loaded again, it is gone."""
    admin = await browse_as("admin")

    answer = await admin.submit(
        "/dashboard/endpoints",
        at="/dashboard/endpoints/new",
        **(
            FORM
            | {
                "pick:invoice.paid": "on",
                "headers": "Authorization: Bearer 8f1c",
                "retry_schedule": "30s, 5m",
            }
        ),
    )

    assert answer.status_code == 303, answer.text
    (made,) = (await traffic.get("/v1/endpoints"))["data"]
    assert answer.headers["location"] == f"/dashboard/endpoints/{made['id']}/secret?done=created"
    assert made["event_types"] == ["order.*", "invoice.paid"]
    assert made["headers"] == {"Authorization": "***"}
    assert made["retry_schedule"] == [30, 300]
    secret = (await traffic.get(f"/v1/endpoints/{made['id']}/secret"))["secret"]
    assert secret in (await admin.get(answer.headers["location"])).text
    assert secret not in (await admin.get(answer.headers["location"])).text


async def test_an_application_that_is_not_there_is_a_fault_of_its_field(owner: Browser) -> None:
    """Not a page that is not found."""
    answer = await owner.submit(
        "/dashboard/endpoints", at="/dashboard/endpoints/new", **(FORM | {"application": "nobody"})
    )

    assert answer.status_code == 422
    assert 'id="application-fault"' in answer.text


async def test_what_is_saved_is_what_was_changed(owner: Browser, traffic: Traffic) -> None:
    """A stored header keeps its value behind the mask, and the audit log names no more than the change."""
    made = await traffic.endpoint(url=URL, event_types=["order.*"], headers={"X-Key": "hidden"})

    answer = await save(
        owner, traffic, made, headers="X-Key: ***", timeout_seconds="20", rate_per_second="50", max_age="2d"
    )

    assert answer.headers["location"].endswith("/settings?done=saved"), answer.text
    state = await traffic.get(f"/v1/endpoints/{made['id']}")
    assert (state["timeout_seconds"], state["max_age_seconds"]) == (20, 172_800)
    assert state["rate_limit"] == {"per_second": 50.0, "burst": 50}
    assert state["headers"] == {"X-Key": "***"}
    entry = (await traffic.get("/v1/audit-log?action=endpoint.updated"))["data"][0]
    assert set(entry["after"]) == {"timeout_seconds", "rate_limit", "max_age_seconds"}


async def test_nothing_changed_is_nothing_saved(owner: Browser, traffic: Traffic) -> None:
    """Saving the page as it came leaves no trace, whatever the order of the patterns."""
    made = await traffic.endpoint(url=URL, event_types=["order.*", "invoice.paid"])

    answer = await save(owner, traffic, made, types="invoice.paid\norder.*")

    assert answer.headers["location"].endswith("?done=nothing"), answer.text
    assert (await traffic.get("/v1/audit-log?action=endpoint.updated"))["data"] == []


async def test_two_people_do_not_write_over_each_other(owner: Browser, traffic: Traffic) -> None:
    """Who saves a page that is out of date is told, and loses nothing that was typed."""
    made = await traffic.endpoint(url=URL, event_types=["order.*"])
    await save(owner, traffic, made, timeout_seconds="20")

    answer = await save(owner, traffic, made, version=1, description="Mine", timeout_seconds="10")

    assert answer.status_code == 422
    assert "changed since you opened the page" in answer.text
    assert 'value="Mine"' in answer.text
    assert (await traffic.get(f"/v1/endpoints/{made['id']}"))["timeout_seconds"] == 20


async def test_several_subscriptions_are_left_alone(owner: Browser, traffic: Traffic) -> None:
    """They are shown, and other settings can be saved beside them."""
    made = await traffic.endpoint(url=URL, event_types=["order.*"])
    path = f"/v1/endpoints/{made['id']}/subscriptions"
    await traffic.post(path, {"event_types": ["invoice.*"], "filter": "data.n > 1"}, status=201)

    page = (await owner.get(f"/dashboard/endpoints/{made['id']}/settings")).text
    assert "2 subscriptions" in page
    assert "data.n &gt; 1" in page
    answer = await save(owner, traffic, made, types="order.*\ninvoice.*", timeout_seconds="20")

    assert answer.headers["location"].endswith("?done=saved"), answer.text
    assert len((await traffic.get(path))["data"]) == 2


async def test_a_trial_says_what_would_have_matched_and_saves_nothing(
    owner: Browser, traffic: Traffic
) -> None:
    """Types and events are counted, the filter is tried on past events, and its errors are told."""
    made = await traffic.endpoint(url=URL, event_types=["order.*"])
    for n, event_type in enumerate(("order.placed", "order.placed", "invoice.paid")):
        await traffic.publish(event_type, data={"n": n} if n else {"other": "<b>"})

    answer = await save(owner, traffic, made, filter="data.n == 1", check="1")

    page = answer.text
    assert answer.status_code == 200
    assert "<strong>1 of 2 types</strong>; <strong>2</strong> of 3 events" in page
    assert '<span class="pill ok">matches</span>' in page
    assert "not sent: its type is not chosen" in page
    assert "There is no key" in page
    assert (await traffic.get(f"/v1/endpoints/{made['id']}"))["filter"] is None


async def test_a_trial_on_another_workspace_s_event_finds_none(
    owner: Browser, traffic: Traffic, client: httpx2.AsyncClient, other_admin: dict[str, str]
) -> None:
    """An id that is known is not enough."""
    made = await traffic.endpoint(url=URL, event_types=["*"])
    body = {"type": "theirs.alone", "data": {"n": 1}}
    foreign = (await client.post("/v1/events", json=body, headers=other_admin)).json()

    answer = await save(owner, traffic, made, scope="all", event=foreign["id"], check="1")

    assert "There is no event" in answer.text
    assert "theirs.alone" not in answer.text


async def test_trying_a_form_checks_its_address(owner: Browser, traffic: Traffic) -> None:
    """Against the egress policy, at its field; nothing is saved."""
    made = await traffic.endpoint(url=URL)

    answer = await save(owner, traffic, made, url="http://10.0.0.1/hooks", check="1")

    assert "private" in answer.text.partition('id="url-fault"')[2].partition("</p>")[0]
    assert (await traffic.get(f"/v1/endpoints/{made['id']}"))["url"] == URL
