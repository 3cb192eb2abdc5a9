"""What is done with a delivery on its page: sent again, cancelled, its endpoint mended; and who may."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson
import pytest

from app.deliveries.record import Settle
from tests.integration.api.traffic import URL
from tests.integration.dashboard.test_delivery import path_of, text_of

if TYPE_CHECKING:
    from tests.integration.api.conftest import MakeKey
    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser


@pytest.mark.parametrize("action", ["retry", "cancel", "resolve", "save-url"])
async def test_a_viewer_may_not_act(browse_as: BrowseAs, traffic: Traffic, action: str) -> None:
    """A form that is sent all the same is refused, and nothing changes."""
    await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    viewer = await browse_as("viewer")

    answer = await viewer.submit(path_of(delivery, f"/{action}"), at=path_of(delivery), attempt="1")

    assert answer.status_code == 403
    assert (await traffic.get(f"/v1/deliveries/{delivery['id']}"))["state"] == "pending"


async def test_retry_makes_it_due_and_names_who(browse_as: BrowseAs, traffic: Traffic) -> None:
    """The operator's retry is in the timeline, and the attempt that follows is theirs."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(endpoint, Settle.DEAD)
    operator = await browse_as("operator")

    answer = await operator.submit(path_of(delivery, "/retry"), at=path_of(delivery))
    await traffic.attempt(endpoint)
    page = text_of((await operator.get(answer.headers["location"])).text)

    assert answer.status_code == 303
    assert "It is due now" in page
    assert "Retry asked for" in page
    assert "manual, by operator@example.com" in page
    assert "Delivered" in page


async def test_cancel_ends_it(browse_as: BrowseAs, traffic: Traffic) -> None:
    """A delivery that waits is cancelled at once, and the page says who did it."""
    await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    operator = await browse_as("operator")

    answer = await operator.submit(path_of(delivery, "/cancel"), at=path_of(delivery))
    page = text_of((await operator.get(answer.headers["location"])).text)

    assert "The delivery is cancelled" in page
    assert "by operator@example.com" in page
    assert "Nothing was sent" in page


async def test_cancel_while_it_is_being_sent(owner: Browser, traffic: Traffic) -> None:
    """What is on its way ends as cancelled with its result, and the page says so."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.claim(endpoint)

    sending = text_of((await owner.get(path_of(delivery))).text)
    answer = await owner.submit(path_of(delivery, "/cancel"), at=path_of(delivery))
    page = text_of((await owner.get(answer.headers["location"])).text)

    assert "Being sent now" in sending
    assert "/retry" not in sending
    assert "ends as cancelled when the attempt is over" in page


async def test_what_cannot_be_done_is_told_as_a_page(owner: Browser, traffic: Traffic) -> None:
    """A cancel that came too late is a conflict with a sentence."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    form_at = path_of(delivery)
    loaded = (await owner.get(form_at)).text
    await traffic.attempt(endpoint)
    token = re.search(r'name="csrf" value="([0-9a-f]{128})"', loaded)
    assert token is not None

    answer = await owner.post(path_of(delivery, "/cancel"), data={"csrf": token[1]})

    assert answer.status_code == 409
    assert "nothing left to cancel" in answer.text


async def test_a_redirect_is_saved_with_one_click(owner: Browser, traffic: Traffic) -> None:
    """The target comes from the record, not from the form, and goes through the endpoint's own checks."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(
        endpoint,
        Settle.RETRY,
        response_status=308,
        error_class="http_3xx",
        response_headers=orjson.dumps([["Location", "/v2/webhooks"]]),
    )

    page = text_of((await owner.get(path_of(delivery))).text)
    answer = await owner.submit(
        path_of(delivery, "/save-url"), at=path_of(delivery), attempt="1", url="https://evil.example.com/"
    )

    assert "Redirected to shop.example.com (not followed)" in page
    assert answer.status_code == 303
    assert (await traffic.get(f"/v1/endpoints/{endpoint['id']}"))[
        "url"
    ] == "https://shop.example.com/v2/webhooks"


async def test_a_redirect_to_a_forbidden_place_is_not_saved(owner: Browser, traffic: Traffic) -> None:
    """A receiver cannot lead an admin to our own network."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(
        endpoint,
        Settle.RETRY,
        response_status=301,
        error_class="http_3xx",
        response_headers=orjson.dumps([["location", "http://169.254.169.254/latest"]]),
    )

    answer = await owner.submit(path_of(delivery, "/save-url"), at=path_of(delivery), attempt="1")

    assert answer.status_code == 422
    assert (await traffic.get(f"/v1/endpoints/{endpoint['id']}"))["url"] == URL


async def test_what_an_api_key_did_has_the_keys_name(
    owner: Browser, traffic: Traffic, make_key: MakeKey
) -> None:
    """A retry through the API is told by the name of its key."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(endpoint, Settle.DEAD)
    key = await make_key("operator", name="nightly job")
    answer = await traffic.client.post(
        f"/v1/deliveries/{delivery['id']}/retry", headers={"Authorization": f"Bearer {key}"}
    )
    assert answer.status_code == 202

    page = text_of((await owner.get(path_of(delivery))).text)

    assert "by API key nightly job" in page
