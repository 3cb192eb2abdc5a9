"""`/v1/deliveries`: look, retry, cancel."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.deliveries import ranks
from app.deliveries.record import Settle
from tests.integration.api.traffic import URL, Traffic, uuid_of

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def queue_row(traffic: Traffic, delivery: dict[str, Any]) -> Any:
    """Return the queue row of a delivery."""
    async with traffic.app.state.runtime.engine.connect() as connection:
        found = await connection.execute(
            text("SELECT *, due_at <= now() AS due FROM delivery_queue WHERE id = :id"),
            {"id": uuid_of(delivery)},
        )
        return found.one_or_none()


async def in_flight(traffic: Traffic) -> int:
    """Return the number in flight that claims believe in."""
    async with traffic.app.state.runtime.engine.connect() as connection:
        return await connection.scalar(text("SELECT sum(in_flight) FROM endpoint_runtime"))


async def test_delivery_shows_its_way(traffic: Traffic) -> None:
    """Pending, sending, pending with its error, succeeded: each step can be seen."""
    made = await traffic.endpoint()
    event = await traffic.publish()
    pending = await traffic.delivery_of(event)
    assert pending["id"].startswith("dlv_")
    assert pending["event"] == {"id": event["id"], "type": "order.placed"}
    assert pending["endpoint"] == {"id": made["id"], "url": URL}
    assert (pending["application"], pending["application_uid"]) == (event["application"], "default")
    assert (pending["state"], pending["attempt_count"], pending["test"]) == ("pending", 0, False)
    assert pending["waiting"] == {"reason": "queued", "until": None}
    assert pending["next_attempt_at"] is not None
    path = f"/v1/deliveries/{pending['id']}"

    (claimed,) = await traffic.claim(made)
    sending = await traffic.get(path)
    assert (sending["state"], sending["waiting"], sending["next_attempt_at"]) == ("sending", None, None)

    await traffic.finish(claimed, Settle.RETRY)
    failed = await traffic.get(path)
    assert (failed["state"], failed["attempt_count"], failed["last_status"]) == ("pending", 1, 503)
    assert failed["last_error"]["class"] == "http_5xx"
    assert failed["last_error"]["message"]
    assert failed["waiting"]["reason"] == "backoff"
    assert failed["waiting"]["until"] == failed["next_attempt_at"]

    await traffic.post(f"{path}/retry", status=202)
    await traffic.attempt(made)
    done = await traffic.get(path)
    assert (done["state"], done["attempt_count"], done["last_status"], done["last_error"]) == (
        "succeeded",
        2,
        200,
        None,
    )
    assert done["completed_at"] is not None
    assert (done["waiting"], done["next_attempt_at"]) == (None, None)


async def test_retry_of_a_waiting_delivery_makes_it_due_with_a_fresh_schedule(traffic: Traffic) -> None:
    """It is due now, first in its lane, at the start of its schedule, with a new deadline."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(made, Settle.RETRY)
    async with traffic.app.state.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE delivery_queue SET deadline_at = now() + interval '1 minute'"))
    answer = await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=202)
    row = await queue_row(traffic, delivery)
    assert (row.state, row.schedule_step, row.trigger, row.rank, row.due) == (0, 0, 1, ranks.FORCED, True)
    assert row.attempt_count == 1
    left = datetime.fromisoformat(answer["deadline_at"]) - datetime.fromisoformat(delivery["created_at"])
    assert timedelta(days=4, hours=23) < left < timedelta(days=5, hours=1)
    (claimed,) = await traffic.claim(made)
    assert claimed.trigger == 1


async def test_retry_skips_a_hold(traffic: Traffic) -> None:
    """What a person asks for does not wait for the receiver's Retry-After; the rest does."""
    made = await traffic.endpoint()
    await traffic.publish()
    waiting = await traffic.publish()
    await traffic.attempt(made, Settle.RETRY, hold_seconds=300.0, delay_seconds=300.0)
    assert await traffic.claim(made) == []
    delivery = await traffic.delivery_of(waiting)
    assert delivery["waiting"]["reason"] == "retry_after"
    assert delivery["waiting"]["until"] == delivery["next_attempt_at"]
    await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=202)
    assert [item.id for item in await traffic.claim(made)] == [uuid_of(delivery)]


@pytest.mark.parametrize("settle", [Settle.SUCCEEDED, Settle.DEAD])
async def test_retry_opens_a_final_delivery_again(traffic: Traffic, settle: Settle) -> None:
    """It is pending again, its attempts count on, and its webhook-id is the event's as before."""
    made = await traffic.endpoint()
    event = await traffic.publish()
    delivery = await traffic.delivery_of(event)
    await traffic.attempt(made, settle)
    path = f"/v1/deliveries/{delivery['id']}"
    answer = await traffic.post(f"{path}/retry", status=202)
    assert (answer["state"], answer["attempt_count"], answer["completed_at"]) == ("pending", 1, None)
    (claimed,) = await traffic.claim(made)
    assert (claimed.id, claimed.event_id, claimed.attempt_count) == (uuid_of(delivery), uuid_of(event), 1)
    await traffic.finish(claimed)
    attempts = (await traffic.get(f"{path}/attempts"))["data"]
    assert [(a["number"], a["trigger"]) for a in attempts] == [(1, "scheduled"), (2, "manual")]


async def test_retry_of_a_cancelled_delivery_opens_it_again(traffic: Traffic) -> None:
    """Cancelling is not for ever."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    path = f"/v1/deliveries/{delivery['id']}"
    await traffic.post(f"{path}/cancel", status=200)
    await traffic.post(f"{path}/retry", status=202)
    assert len(await traffic.claim(made)) == 1


async def test_retry_while_sending_is_refused(traffic: Traffic) -> None:
    """A second copy on the way would help nobody."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.claim(made)
    refused = await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=409)
    assert "sent at this moment" in refused["detail"]
    assert (await traffic.get(f"/v1/deliveries/{delivery['id']}"))["state"] == "sending"


@pytest.mark.parametrize("final", [False, True])
async def test_retry_to_a_disabled_endpoint_is_refused(traffic: Traffic, final: bool) -> None:  # noqa: FBT001
    """The answer says to enable it first."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    if final:
        await traffic.attempt(made)
    await traffic.post(f"/v1/endpoints/{made['id']}/disable", status=200)
    refused = await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=409)
    assert f"/v1/endpoints/{made['id']}/enable" in refused["detail"]


async def test_deleted_endpoint_cancels_what_waits_and_keeps_the_record(traffic: Traffic) -> None:
    """Its deliveries stay readable, in lists too, and cannot be sent again."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.client.delete(f"/v1/endpoints/{made['id']}", headers=traffic.headers)
    shown = await traffic.get(f"/v1/deliveries/{delivery['id']}")
    assert shown["state"] == "cancelled"
    assert shown["completed_at"] is not None
    listed = (await traffic.get(f"/v1/deliveries?endpoint={made['id']}"))["data"]
    assert [row["id"] for row in listed] == [delivery["id"]]
    await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=409)


async def test_deleting_an_endpoint_lets_what_is_being_sent_end(traffic: Traffic) -> None:
    """The result is kept, the delivery ends as cancelled, and nothing stays in flight."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    (claimed,) = await traffic.claim(made)
    await traffic.client.delete(f"/v1/endpoints/{made['id']}", headers=traffic.headers)
    path = f"/v1/deliveries/{delivery['id']}"
    assert (await traffic.get(path))["state"] == "sending"
    await traffic.finish(claimed)
    assert (await traffic.get(path))["state"] == "cancelled"
    assert len((await traffic.get(f"{path}/attempts"))["data"]) == 1
    assert await in_flight(traffic) == 0


async def test_retry_after_erasure_is_refused(traffic: Traffic) -> None:
    """Without its data there is nothing to send."""
    made = await traffic.endpoint()
    event = await traffic.publish()
    delivery = await traffic.delivery_of(event)
    await traffic.attempt(made)
    await traffic.client.delete(f"/v1/events/{event['id']}/data", headers=traffic.headers)
    refused = await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=409)
    assert "is gone" in refused["detail"]


async def test_cancel_of_a_waiting_delivery_is_final(traffic: Traffic) -> None:
    """It leaves the queue at once; a second time there is nothing left to cancel."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    path = f"/v1/deliveries/{delivery['id']}"
    answer = await traffic.post(f"{path}/cancel", status=200)
    assert (answer["state"], answer["waiting"]) == ("cancelled", None)
    assert answer["completed_at"] is not None
    assert await queue_row(traffic, delivery) is None
    assert await traffic.claim(made) == []
    await traffic.post(f"{path}/cancel", status=409)


@pytest.mark.parametrize("settle", [Settle.SUCCEEDED, Settle.RETRY, Settle.DEAD])
async def test_cancel_while_sending_ends_with_the_result(traffic: Traffic, settle: Settle) -> None:
    """202 at first; once the result is recorded it is cancelled, its attempt is kept, and nothing is in flight."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    path = f"/v1/deliveries/{delivery['id']}"
    (claimed,) = await traffic.claim(made)
    assert (await traffic.post(f"{path}/cancel", status=202))["state"] == "sending"
    await traffic.finish(claimed, settle)
    assert (await traffic.get(path))["state"] == "cancelled"
    assert len((await traffic.get(f"{path}/attempts"))["data"]) == 1
    assert await in_flight(traffic) == 0
    await traffic.post(f"{path}/cancel", status=409)


async def test_fifo_retry_keeps_the_order(traffic: Traffic) -> None:
    """The first in line is sent at once; one behind it keeps its place, however much it is asked for."""
    made = await traffic.endpoint(ordering="fifo")
    deliveries = [await traffic.delivery_of(await traffic.publish()) for _ in range(3)]
    await traffic.attempt(made, Settle.RETRY)
    assert await traffic.claim(made) == []
    behind = await traffic.post(f"/v1/deliveries/{deliveries[1]['id']}/retry", status=202)
    assert behind["waiting"]["reason"] == "fifo_order"
    assert await traffic.claim(made) == []
    await traffic.post(f"/v1/deliveries/{deliveries[0]['id']}/retry", status=202)
    order = []
    for _ in range(3):
        (claimed,) = await traffic.claim(made)
        order.append(claimed.id)
        await traffic.finish(claimed)
    assert order == [uuid_of(delivery) for delivery in deliveries]


async def test_cancelling_the_first_of_a_fifo_lane_frees_the_next(traffic: Traffic) -> None:
    """The wait of the head goes with the head."""
    made = await traffic.endpoint(ordering="fifo")
    first, second = [await traffic.delivery_of(await traffic.publish()) for _ in range(2)]
    await traffic.attempt(made, Settle.RETRY)
    assert await traffic.claim(made) == []
    await traffic.post(f"/v1/deliveries/{first['id']}/cancel", status=200)
    assert [item.id for item in await traffic.claim(made)] == [uuid_of(second)]


async def test_becoming_fifo_brings_what_waits_into_line(traffic: Traffic) -> None:
    """Scheduled and ready deliveries then go in the order in which they were accepted."""
    made = await traffic.endpoint()
    deliveries = [await traffic.delivery_of(await traffic.publish()) for _ in range(3)]
    await traffic.attempt(made, Settle.RETRY)
    await traffic.client.patch(
        f"/v1/endpoints/{made['id']}", json={"ordering": "fifo"}, headers=traffic.headers
    )
    order = []
    for _ in range(3):
        (claimed,) = await traffic.claim(made)
        order.append(claimed.id)
        await traffic.finish(claimed)
    assert order == [uuid_of(delivery) for delivery in deliveries]


async def test_workers_are_woken_after_the_commit(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake-up goes out once the change can be seen by others, and none for a refused request."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(made, Settle.RETRY)
    woken = []
    monkeypatch.setattr(traffic.app.state.waker, "wake", lambda: woken.append(True))
    await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=202)
    await traffic.post(f"/v1/endpoints/{made['id']}/test", status=202)
    await traffic.post(f"/v1/endpoints/{made['id']}/enable", status=200)
    await traffic.post(f"/v1/endpoints/{made['id']}/resume", status=200)
    assert len(woken) == 4
    await traffic.post(f"/v1/endpoints/{made['id']}/disable", status=200)
    await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=409)
    assert len(woken) == 4


async def test_lists_filter(traffic: Traffic) -> None:
    """By application, endpoint, event, type, state, class of the status, class of the error, and time."""
    await traffic.post("/v1/applications", {"name": "Other", "uid": "other"}, status=201)
    one, two = await traffic.endpoint(), await traffic.endpoint(application="other", event_types=["user.*"])
    events = [await traffic.publish() for _ in range(5)]
    elsewhere = await traffic.publish("user.created", application="other")
    await traffic.attempt(one, Settle.SUCCEEDED)
    await traffic.attempt(one, Settle.DEAD)
    await traffic.attempt(one, Settle.RETRY, response_status=None, error_class="read_timeout")
    await traffic.claim(one, most=1)

    async def listed(query: str) -> set[str]:
        page = await traffic.get(f"/v1/deliveries?{query}")
        return {row["event"]["id"] for row in page["data"]}

    ids_ = [event["id"] for event in events]
    assert await listed("") == {*ids_, elsewhere["id"]}
    assert await listed("application=other") == {elsewhere["id"]}
    assert await listed(f"endpoint={two['id']}") == {elsewhere["id"]}
    assert await listed(f"event={ids_[3]}") == {ids_[3]}
    assert await listed("type=user.created") == {elsewhere["id"]}
    assert await listed("state=succeeded") == {ids_[0]}
    assert await listed("state=dead") == {ids_[1]}
    assert await listed("state=sending") == {ids_[3]}
    assert await listed("state=pending") == {ids_[2], ids_[4], elsewhere["id"]}
    assert await listed("state=cancelled") == set()
    assert await listed("status_class=2xx") == {ids_[0]}
    assert await listed("status_class=5xx") == {ids_[1]}
    assert await listed("status_class=none&application=default") == {ids_[2], ids_[3], ids_[4]}
    assert await listed("error_class=read_timeout") == {ids_[2]}
    between = f"created_at[gte]={events[1]['created_at']}&created_at[lt]={events[3]['created_at']}"
    assert await listed(between) == {ids_[1], ids_[2]}
    assert await listed("state=dead&status_class=2xx") == set()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("colour=red", 422),
        ("state=lost", 422),
        ("status_class=6xx", 422),
        ("error_class=bad_luck", 422),
        ("created_at[gte]=yesterday", 422),
        ("limit=0", 422),
        ("limit=251", 422),
        ("cursor=nonsense", 422),
        ("application=none", 404),
        ("endpoint=ep_none", 404),
        ("event=none", 404),
    ],
)
async def test_filters_that_do_not_exist_are_refused(traffic: Traffic, query: str, status: int) -> None:
    """Nothing is silently ignored."""
    refused = await traffic.get(f"/v1/deliveries?{query}", status=status)
    assert refused["type"] == ("/problems/invalid" if status == 422 else "/problems/not-found")


async def test_pages_go_both_ways(traffic: Traffic) -> None:
    """Newest first, without gaps or repetitions, and back again."""
    await traffic.endpoint()
    events = [(await traffic.publish())["id"] for _ in range(5)]
    first = await traffic.get("/v1/deliveries?limit=2")
    second = await traffic.get(f"/v1/deliveries?limit=2&cursor={first['next_cursor']}")
    third = await traffic.get(f"/v1/deliveries?limit=2&cursor={second['next_cursor']}")
    back = await traffic.get(f"/v1/deliveries?limit=2&cursor={second['prev_cursor']}")
    seen = [row["event"]["id"] for page in (first, second, third) for row in page["data"]]
    assert seen == list(reversed(events))
    assert third["next_cursor"] is None
    assert back["data"] == first["data"]


async def test_list_of_an_event(traffic: Traffic) -> None:
    """One delivery for each endpoint that matched; an unknown event is 404."""
    one, two = await traffic.endpoint(), await traffic.endpoint()
    event = await traffic.publish()
    await traffic.publish()
    found = (await traffic.get(f"/v1/events/{event['id']}/deliveries"))["data"]
    assert {row["endpoint"]["id"] for row in found} == {one["id"], two["id"]}
    await traffic.get("/v1/events/evt_nonsense/deliveries", status=404)


async def test_roles_and_workspaces(
    traffic: Traffic, make_key: Any, headers: Any, other_admin: dict[str, str]
) -> None:
    """Viewers read without query strings and repair nothing; another workspace sees 404."""
    await traffic.endpoint(url=f"{URL}?token=abc")
    delivery = await traffic.delivery_of(await traffic.publish())
    path = f"/v1/deliveries/{delivery['id']}"
    viewer = headers(await make_key("viewer"))
    operator, publisher = headers(await make_key("operator")), headers(await make_key("publisher"))
    assert (await traffic.client.get(path, headers=viewer)).json()["endpoint"]["url"] == f"{URL}?***"
    assert (await traffic.client.post(f"{path}/retry", headers=viewer)).status_code == 403
    assert (await traffic.client.get(path, headers=publisher)).status_code == 403
    assert (await traffic.client.post(f"{path}/retry", headers=operator)).status_code == 202
    for call in ("", "/attempts"):
        assert (await traffic.client.get(path + call, headers=other_admin)).status_code == 404
    for call in ("/retry", "/cancel"):
        assert (await traffic.client.post(path + call, headers=other_admin)).status_code == 404
    assert (await traffic.client.get("/v1/deliveries", headers=other_admin)).json()["data"] == []


async def test_changes_are_on_record(traffic: Traffic) -> None:
    """Who retried and who cancelled stands in the audit log."""
    await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=202)
    await traffic.post(f"/v1/deliveries/{delivery['id']}/cancel", status=200)
    entries = (await traffic.get(f"/v1/audit-log?object={delivery['id']}"))["data"]
    assert [entry["action"] for entry in entries] == ["delivery.cancelled", "delivery.retried"]
