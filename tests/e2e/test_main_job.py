"""The main job, end to end with real processes: publish, deliver signed, keep the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.harness.scene import Scene, open_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.e2e

BOUND_SECONDS = 60.0
EVENTS = 200


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """API, one worker, beat, Postgres, broker, and a receiver that verifies with PyPI's `standardwebhooks`."""
    async with open_scene() as scene:
        yield scene


async def test_receiver_written_with_standardwebhooks_accepts_every_delivery(scene: Scene) -> None:
    """Every delivery of many verifies with the independent library, and carries the published data."""
    await scene.stack.create_endpoint("/all", event_types=["all.*"])

    published = await scene.publisher.publish_many(
        EVENTS, event_types=["all.first", "all.second"], at_once=16
    )

    await scene.checker.check(settle_seconds=BOUND_SECONDS)
    receipts = scene.receiver.on("/all")
    assert len(published) == EVENTS
    assert {event.deliveries for event in published} == {1}
    assert [receipt.wrong for receipt in receipts] == [None] * EVENTS
    assert {(r.event_id, r.data["mark"]) for r in receipts} == {(e.id, e.mark) for e in published}


async def test_flaky_receiver_sees_one_id_and_a_fresh_timestamp_each_time(scene: Scene) -> None:
    """A receiver that answers 503, 503, 200 gets three requests: same webhook-id, each signed anew."""
    # With jitter the delays are 1.6 s at least, so that whole seconds differ.
    await scene.stack.create_endpoint("/flaky", event_types=["flaky.*"], retry_schedule=[2, 2])
    await scene.receiver.behave("/flaky", statuses=[503, 503, 200])

    event = await scene.publisher.publish("flaky.one")

    assert event is not None
    await scene.checker.check(settle_seconds=BOUND_SECONDS)
    receipts = scene.receiver.on("/flaky")
    timestamps = [receipt.timestamp for receipt in receipts]
    signatures = {receipt.headers["webhook-signature"] for receipt in receipts}
    assert [(r.event_id, r.status, r.genuine) for r in receipts] == [
        (event.id, 503, True),
        (event.id, 503, True),
        (event.id, 200, True),
    ]
    assert timestamps == sorted(set(timestamps))
    assert len(signatures) == 3
    assert all(abs(receipt.unix - receipt.timestamp) < 60 for receipt in receipts)


async def test_every_attempt_can_be_read_over_the_api(scene: Scene) -> None:
    """From the event to its deliveries to their attempts: what was sent, what came back, and why it failed."""
    client = scene.stack.client
    endpoint = await scene.stack.create_endpoint("/log", event_types=["log.*"], retry_schedule=[0])
    await scene.receiver.behave("/log", statuses=[500, 204])
    event = await scene.publisher.publish("log.one")
    assert event is not None
    await scene.checker.check(settle_seconds=BOUND_SECONDS)

    stored = (await client.get(f"/v1/events/{event.id}")).json()
    deliveries = (await client.get(f"/v1/events/{event.id}/deliveries")).json()["data"]
    delivery = (await client.get(f"/v1/deliveries/{deliveries[0]['id']}")).json()
    attempts = (await client.get(f"/v1/deliveries/{delivery['id']}/attempts")).json()["data"]
    by_endpoint = await scene.stack.list_all("/v1/deliveries", endpoint=endpoint.id)
    attempt = (await client.get(f"/v1/attempts/{attempts[1]['id']}")).json()

    assert (stored["id"], stored["type"], stored["data"]) == (event.id, "log.one", {"mark": event.mark})
    assert [each["id"] for each in deliveries] == [delivery["id"]] == [each["id"] for each in by_endpoint]
    assert (delivery["state"], delivery["attempt_count"], delivery["last_status"]) == ("succeeded", 2, 204)
    assert delivery["event"] == {"id": event.id, "type": "log.one"}
    assert delivery["endpoint"]["id"] == endpoint.id
    assert [(each["number"], each["outcome"], each["response"]["status"]) for each in attempts] == [
        (1, "failed", 500),
        (2, "succeeded", 204),
    ]
    assert attempts[0]["error"]["class"] == "http_5xx"
    assert attempts[1]["error"] is None
    assert attempt == attempts[1]
    assert attempt["request"]["method"] == "POST"
    assert {"webhook-id", "webhook-timestamp"} <= {name.lower() for name in _names(attempt)}


async def test_exhausted_delivery_is_dead_and_listed(scene: Scene) -> None:
    """When the schedule is used up the delivery is dead, listed as such, and can be sent again by hand."""
    client = scene.stack.client
    endpoint = await scene.stack.create_endpoint("/dead", event_types=["dead.*"], retry_schedule=[0])
    await scene.receiver.behave("/dead", statuses=[500])
    event = await scene.publisher.publish("dead.one")
    assert event is not None
    await scene.checker.settle(seconds=BOUND_SECONDS)
    (dead,) = await scene.stack.list_all("/v1/deliveries", endpoint=endpoint.id, state="dead")
    await scene.receiver.behave("/dead")

    answer = await client.post(f"/v1/deliveries/{dead['id']}/retry")

    assert answer.status_code == 202
    await scene.checker.check(settle_seconds=BOUND_SECONDS)
    delivery = (await client.get(f"/v1/deliveries/{dead['id']}")).json()
    assert (dead["event"]["id"], dead["attempt_count"]) == (event.id, 2)
    assert (delivery["state"], delivery["attempt_count"]) == ("succeeded", 3)


async def test_fifo_endpoint_keeps_the_order_over_failures(scene: Scene) -> None:
    """Events of a FIFO endpoint arrive in the order of publishing, although some are refused at first."""
    await scene.stack.create_endpoint(
        "/fifo", event_types=["fifo.*"], ordering="fifo", retry_schedule=[0, 0, 0]
    )
    await scene.receiver.behave("/fifo", statuses=[503, 200])

    published = await scene.publisher.publish_many(10, event_types=["fifo.one"], at_once=1)

    await scene.checker.check(settle_seconds=BOUND_SECONDS)
    arrived = [receipt.event_id for receipt in scene.receiver.on("/fifo") if receipt.status == 200]
    assert arrived == [event.id for event in published]


def _names(attempt: dict[str, object]) -> list[str]:
    """Return the names of an attempt's request headers."""
    request = attempt["request"]
    assert isinstance(request, dict)
    headers = request["headers"]
    return list(headers) if isinstance(headers, dict) else [name for name, _ in headers]
