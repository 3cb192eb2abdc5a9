"""Subscriptions of an endpoint, and what they send to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.api.traffic import Traffic

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def test_subscription_lives_and_ends(traffic: Traffic) -> None:
    """It can be made, listed, shown, changed and removed."""
    made = await traffic.endpoint(event_types=["a"])
    path = f"/v1/endpoints/{made['id']}/subscriptions"
    added = await traffic.post(path, {"event_types": ["order.*"], "filter": "data.n > 1"}, status=201)
    assert added["endpoint"] == made["id"]
    listed = (await traffic.get(path))["data"]
    assert [row["event_types"] for row in listed] == [["order.*"], ["a"]]
    one = f"{path}/{added['id']}"
    changed = await traffic.client.patch(one, json={"filter": None}, headers=traffic.headers)
    assert changed.json()["filter"] is None
    assert changed.json()["event_types"] == ["order.*"]
    assert (await traffic.get(one)) == changed.json()
    assert (await traffic.client.delete(one, headers=traffic.headers)).status_code == 204
    assert (await traffic.client.delete(one, headers=traffic.headers)).status_code == 404


async def test_several_subscriptions_have_no_short_form(traffic: Traffic) -> None:
    """With two of them the endpoint's event_types and filter are null, and PATCHing them is 409."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    await traffic.post(f"{path}/subscriptions", {"event_types": ["order.*"]}, status=201)
    shown = await traffic.get(path)
    assert (shown["event_types"], shown["filter"]) == (None, None)
    refused = await traffic.client.patch(path, json={"event_types": ["x"]}, headers=traffic.headers)
    assert refused.status_code == 409


async def test_short_form_comes_back_without_any(traffic: Traffic) -> None:
    """An endpoint whose last subscription was removed gets one again by PATCH."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    (only,) = (await traffic.get(f"{path}/subscriptions"))["data"]
    await traffic.client.delete(f"{path}/subscriptions/{only['id']}", headers=traffic.headers)
    assert (await traffic.get(path))["event_types"] == []
    answer = await traffic.client.patch(path, json={"event_types": ["x.*"]}, headers=traffic.headers)
    assert answer.json()["event_types"] == ["x.*"]


async def test_event_goes_to_an_endpoint_once(traffic: Traffic) -> None:
    """However many subscriptions match, and not at all when none does."""
    made = await traffic.endpoint(event_types=["order.*"])
    path = f"/v1/endpoints/{made['id']}/subscriptions"
    await traffic.post(path, {"event_types": ["*"], "filter": "data.amount > 100"}, status=201)
    both = await traffic.publish("order.placed", data={"amount": 500})
    by_filter = await traffic.publish("user.created", data={"amount": 500})
    neither = await traffic.publish("user.created", data={"amount": 5})
    erring = await traffic.publish("user.created", data={})
    assert [event["deliveries"] for event in (both, by_filter, neither, erring)] == [1, 1, 0, 0]


async def test_change_holds_for_the_next_event(traffic: Traffic) -> None:
    """An event that is published after a change is matched against it."""
    made = await traffic.endpoint(event_types=["a"])
    (only,) = (await traffic.get(f"/v1/endpoints/{made['id']}/subscriptions"))["data"]
    path = f"/v1/endpoints/{made['id']}/subscriptions/{only['id']}"
    assert (await traffic.publish("b"))["deliveries"] == 0
    await traffic.client.patch(path, json={"event_types": ["b"]}, headers=traffic.headers)
    assert (await traffic.publish("b"))["deliveries"] == 1
    await traffic.client.delete(path, headers=traffic.headers)
    assert (await traffic.publish("b"))["deliveries"] == 0


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/event_types"),
        ({"event_types": []}, "/event_types"),
        ({"event_types": ["a", "b*"]}, "/event_types/1"),
        ({"event_types": ["a"], "filter": "data."}, "/filter"),
        ({"event_types": ["a"], "filter": "foo == 1"}, "/filter"),
        ({"event_types": ["a"], "name": "x"}, "/name"),
    ],
)
async def test_bad_subscriptions_are_pointed_at(
    traffic: Traffic, body: dict[str, object], pointer: str
) -> None:
    """A pattern or a filter that cannot be used is 422 where it stands."""
    made = await traffic.endpoint()
    answer = await traffic.post(f"/v1/endpoints/{made['id']}/subscriptions", body, status=422)
    assert [error["pointer"] for error in answer["errors"]] == [pointer]


async def test_subscription_of_another_endpoint_is_404(traffic: Traffic) -> None:
    """The path's endpoint must be the subscription's own."""
    one, other = await traffic.endpoint(), await traffic.endpoint()
    (subscription,) = (await traffic.get(f"/v1/endpoints/{one['id']}/subscriptions"))["data"]
    for endpoint, name in ((other, subscription["id"]), (one, "sub_nonsense")):
        refused = await traffic.get(f"/v1/endpoints/{endpoint['id']}/subscriptions/{name}", status=404)
        assert f"has no subscription '{name}'" in refused["detail"]


async def test_number_of_subscriptions_is_bounded(traffic: Traffic) -> None:
    """Each costs every publish a match, so there is a limit."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}/subscriptions"
    for number in range(49):
        await traffic.post(path, {"event_types": [f"t{number}"]}, status=201)
    refused = await traffic.post(path, {"event_types": ["one.more"]}, status=409)
    assert "at most 50" in refused["detail"]
    assert len((await traffic.get(f"{path}?limit=250"))["data"]) == 50
