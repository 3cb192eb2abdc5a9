"""The test page of an endpoint: what is sent is what was typed, and what came back is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.deliveries.record import Settle

if TYPE_CHECKING:
    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

FAULTS = {
    '{"n": 1,}': "This is not JSON",
    "": "This is not JSON",
    '1,"uid":"x"': "This is not JSON",
    "[" * 200 + "]" * 200: "levels deep",
}


async def test_a_viewer_sends_no_tests(browse_as: BrowseAs, traffic: Traffic) -> None:
    """The page says who may; the forms are refused."""
    made = await traffic.endpoint()
    viewer = await browse_as("viewer")
    path = f"/dashboard/endpoints/{made['id']}"

    assert "Operators and admins" in (await viewer.get(f"{path}/test")).text
    for what in ("test", "ping", "forge"):
        assert (await viewer.submit(f"{path}/{what}", at=path, data="{}")).status_code == 403
    assert (await traffic.get("/v1/deliveries"))["data"] == []


@pytest.mark.parametrize("typed", FAULTS)
async def test_what_could_not_be_published_is_not_sent(typed: str, owner: Browser, traffic: Traffic) -> None:
    """The fault stands at the field, and what was typed stays."""
    made = await traffic.endpoint()
    path = f"/dashboard/endpoints/{made['id']}/test"

    answer = await owner.submit(path, type="order.placed", data=typed)

    assert answer.status_code == 422
    assert FAULTS[typed] in answer.text.partition('id="data-fault"')[2].partition("</p>")[0]
    assert 'value="order.placed"' in answer.text
    assert (await traffic.get("/v1/deliveries"))["data"] == []


async def test_a_type_that_is_none_is_a_fault_of_its_field(owner: Browser, traffic: Traffic) -> None:
    """Its sentence, at its place."""
    made = await traffic.endpoint()

    answer = await owner.submit(f"/dashboard/endpoints/{made['id']}/test", type="order placed", data="{}")

    assert answer.status_code == 422
    assert 'id="type-fault"' in answer.text


async def test_a_test_goes_out_as_typed_and_comes_back_on_the_page(
    browse_as: BrowseAs, traffic: Traffic
) -> None:
    """Numbers keep their digits; the page waits for the result in a region of its own, and then shows it."""
    made = await traffic.endpoint(enabled=False)
    operator = await browse_as("operator")
    path = f"/dashboard/endpoints/{made['id']}/test"

    answer = await operator.submit(path, type="order.placed", data='{"id": 9007199254740993}\r\n')
    (delivery,) = (await traffic.get("/v1/deliveries"))["data"]
    where = answer.headers["location"]
    assert where == f"{path}?sent={delivery['id']}#result"
    waiting = (await operator.get(where)).text
    assert f'data-live="delivery:{delivery["id"]}"' in waiting
    assert "Look again" in waiting
    (claimed,) = await traffic.claim(made)
    await traffic.finish(
        claimed,
        Settle.DEAD,
        response_body=b"<b>no</b>",
        wait_ms=9.0,
        queue_ms=1.0,
        event_type="order.placed",
    )

    page = (await operator.get(where)).text

    assert "9007199254740993" in page
    assert '<strong class="text-bad">503</strong>' in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page
    assert '<rect class="wait"' in page
    assert '<span class="pill info">test</span>' in page
    event = await traffic.get(f"/v1/events/{delivery['event']['id']}")
    assert event["data"] == {"id": 9007199254740993}


async def test_a_delivery_of_others_is_no_result(owner: Browser, traffic: Traffic) -> None:
    """Neither another endpoint's test, nor a delivery that was no test, nor an id that is none."""
    made, other = await traffic.endpoint(), await traffic.endpoint(event_types=["x"])
    event = await traffic.publish()
    real = await traffic.delivery_of(event)
    test = await traffic.post(f"/v1/endpoints/{other['id']}/test", status=202)

    for reference in (real["id"], test["id"], "dlv_00000000000000000000000000", "nonsense"):
        page = await owner.get(f"/dashboard/endpoints/{made['id']}/test?sent={reference}")
        assert page.status_code == 200
        assert "What came back" not in page.text


async def test_a_ping_is_the_smallest_test(owner: Browser, traffic: Traffic) -> None:
    """One press, no form."""
    made = await traffic.endpoint()
    path = f"/dashboard/endpoints/{made['id']}"

    await owner.submit(f"{path}/ping", at=f"{path}/test")

    (delivery,) = (await traffic.get("/v1/deliveries"))["data"]
    assert delivery["event"]["type"] == "bellwire.test"


async def test_an_example_comes_from_the_catalogue(owner: Browser, traffic: Traffic) -> None:
    """Its example where there is one, else what its schema suggests; a type without either begins empty."""
    made = await traffic.endpoint()
    await traffic.post(
        "/v1/event-types", {"name": "a.example", "example": {"big": 9007199254740993}}, status=201
    )
    schema = {"type": "object", "properties": {"total": {"type": "string", "examples": ["49.90"]}}}
    await traffic.post("/v1/event-types", {"name": "a.schema", "schema": schema}, status=201)
    path = f"/dashboard/endpoints/{made['id']}/test"

    for event_type, shown in (
        ("a.example", "9007199254740993"),
        ("a.schema", "&#34;total&#34;: &#34;49.90&#34;"),
        ("a.nothing", "is not in the catalogue"),
    ):
        answer = await owner.submit(path, type=event_type, data="{}", example="1")
        assert answer.status_code == 200
        assert shown in answer.text
    assert (await traffic.get("/v1/deliveries"))["data"] == []


@pytest.mark.parametrize(
    ("settle", "status", "said"),
    [
        (Settle.SUCCEEDED, 204, "It does not verify."),
        (Settle.DEAD, 401, "Its check works."),
        (Settle.DEAD, 404, "This says nothing of its check."),
        (Settle.DEAD, None, "Nothing is known yet."),
    ],
)
async def test_a_bad_signature_shows_whether_the_receiver_checks(
    settle: Settle, status: int | None, said: str, browse_as: BrowseAs, traffic: Traffic
) -> None:
    """A refusal is what one wants, and is said so; it is a test like others, and the form stays as it was."""
    made = await traffic.endpoint()
    operator = await browse_as("operator")
    path = f"/dashboard/endpoints/{made['id']}"

    answer = await operator.submit(f"{path}/forge", at=f"{path}/test")
    (delivery,) = (await traffic.get("/v1/deliveries"))["data"]
    assert (delivery["event"]["type"], delivery["test"]) == ("bellwire.forged", True)
    (claimed,) = await traffic.claim(made)
    await traffic.finish(claimed, settle, response_status=status, event_type="bellwire.forged")
    page = (await operator.get(answer.headers["location"])).text

    assert f"<strong>{said}</strong>" in page
    assert '<span class="pill">bad signature</span>' in page
    assert 'value="bellwire.forged"' not in page
    entries = (await traffic.get(f"/v1/audit-log?object={made['id']}&action=endpoint.tested"))["data"]
    assert [entry["after"]["type"] for entry in entries] == ["bellwire.forged"]
