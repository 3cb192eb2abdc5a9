"""Row 27 of the fault tests: an endpoint is deleted, disabled, paused, or gets a new secret while requests run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.core import ids
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tests.faults.harness.ledger import Receipt
    from tests.faults.harness.stack import Endpoint

pytestmark = pytest.mark.faults

CAP = 2
EVENTS = 5
BOUND_SECONDS = 60.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One of each but beat."""
    async with open_scene(beats=0) as scene:
        yield scene


@pytest.mark.parametrize(("status", "outcome"), [(200, "succeeded"), (500, "failed")])
async def test_deleted_endpoint_ends_what_is_in_flight_as_cancelled(
    scene: Scene, status: int, outcome: str
) -> None:
    """After a deletion nothing more is sent; results that come are kept as attempts, and all deliveries cancelled."""
    endpoint, sent, waiting = await _fill(scene, f"deleted-{status}")

    deleted = await scene.stack.client.delete(f"/v1/endpoints/{endpoint.id}")
    scene.checker.expect_cancelled(sent | waiting)
    states = _states(scene, endpoint)
    await scene.receiver.behave(endpoint.path)
    await scene.receiver.release(endpoint.path, status=status)

    await scene.checker.check()
    assert deleted.status_code == 204
    assert states == {**dict.fromkeys(sent, "pending"), **dict.fromkeys(waiting, "cancelled")}
    assert _states(scene, endpoint) == dict.fromkeys(sent | waiting, "cancelled")
    assert _outcomes(scene, endpoint) == {event: [outcome] for event in sent}
    assert {receipt.event_id for receipt in scene.receiver.on(endpoint.path)} == sent


async def test_lost_lease_of_a_deleted_endpoint_is_not_sent_again(scene: Scene) -> None:
    """What was in flight to a deleted endpoint and lost its lease is cancelled, not repeated."""
    endpoint, sent, waiting = await _fill(scene, "deleted-lost")
    await scene.stack.client.delete(f"/v1/endpoints/{endpoint.id}")
    scene.checker.expect_cancelled(sent | waiting)

    scene.stack.sql("UPDATE delivery_queue SET lease_until = now() WHERE state = 1")
    await scene.checker.settle()
    await scene.receiver.release(endpoint.path)

    await wait_until(
        lambda: _outcomes(scene, endpoint) == {event: ["unknown", "succeeded"] for event in sent},
        seconds=BOUND_SECONDS,
        what="the sweep's word and the late results",
        state=lambda: _outcomes(scene, endpoint),
    )
    await scene.checker.check()
    assert _states(scene, endpoint) == dict.fromkeys(sent | waiting, "cancelled")
    assert len(scene.receiver.on(endpoint.path)) == len(sent)


@pytest.mark.parametrize(
    ("close", "reopen", "reason"),
    [("disable", "enable", "endpoint_disabled"), ("pause", "resume", "endpoint_paused")],
)
async def test_closed_endpoint_keeps_results_and_holds_the_rest(
    scene: Scene, close: str, reopen: str, reason: str
) -> None:
    """Results of a closed endpoint count, a success as one; what failed or waits is sent when it is opened again."""
    stack, receiver = scene.stack, scene.receiver
    endpoint, sent, waiting = await _fill(scene, close)

    closed = await stack.client.post(f"/v1/endpoints/{endpoint.id}/{close}")
    await receiver.behave(endpoint.path)
    await receiver.release(endpoint.path, status=500)
    await wait_until(
        lambda: _outcomes(scene, endpoint) == {event: ["failed"] for event in sent},
        seconds=BOUND_SECONDS,
        what="the results are recorded",
    )
    # A retry is due after a second: it has become ready, and is still not sent.
    due = "SELECT count(*) FROM delivery_queue WHERE endpoint_id = %s AND state = 0"
    await wait_until(
        lambda: stack.number(due, [_id(endpoint)]) == EVENTS,
        seconds=BOUND_SECONDS,
        what="all of them are due",
    )
    shown = await stack.list_all("/v1/deliveries", endpoint=endpoint.id)
    received = len(receiver.on(endpoint.path))

    opened = await stack.client.post(f"/v1/endpoints/{endpoint.id}/{reopen}")

    await scene.checker.check()
    assert (closed.status_code, opened.status_code) == (200, 200)
    assert received == CAP, "nothing was sent to the closed endpoint"
    assert [delivery["state"] for delivery in shown] == ["pending"] * EVENTS
    assert {delivery["waiting"]["reason"] for delivery in shown} == {reason}
    assert {delivery["next_attempt_at"] for delivery in shown} == {None}
    assert _states(scene, endpoint) == dict.fromkeys(sent | waiting, "succeeded")
    assert _outcomes(scene, endpoint) == {
        **{event: ["failed", "succeeded"] for event in sent},
        **{event: ["succeeded"] for event in waiting},
    }


async def test_rotated_secret_signs_beside_the_old_one(scene: Scene) -> None:
    """Requests in flight keep their signature; those after a rotation carry two, which verify each with its secret."""
    stack, receiver = scene.stack, scene.receiver
    endpoint, sent, waiting = await _fill(scene, "rotated")
    address = f"/v1/endpoints/{endpoint.id}/secret"

    rotated = await stack.client.post(f"{address}/rotate", json={})
    secrets = {"old": receiver.secret, "new": rotated.json()["secret"]}
    await receiver.behave(endpoint.path)
    await receiver.release(endpoint.path, status=500)
    # So far the receiver verifies with the old secret, as one that has not heard of the new one yet.
    await receiver.wait_for(
        lambda: sent | waiting <= receiver.succeeded(), seconds=BOUND_SECONDS, what="all are delivered"
    )
    await receiver.expect_secret(endpoint.path, secrets["new"])
    both = await _publish_one(scene, "rotated.one")
    await stack.client.post(f"{address}/revoke-previous", json={})
    revoked = await _publish_one(scene, "rotated.one")

    await scene.checker.check()
    receipts = receiver.on(endpoint.path)
    assert {receipt.event_id for receipt in receipts[:CAP]} == sent
    assert [_signers(receipt, secrets) for receipt in receipts[:CAP]] == [["old"]] * CAP
    assert [_signers(receipt, secrets) for receipt in receipts[CAP:-1]] == [["new", "old"]] * (EVENTS + 1)
    assert [receipt.event_id for receipt in receipts[-2:]] == [both, revoked]
    assert _signers(receipts[-1], secrets) == ["new"]


async def _fill(scene: Scene, name: str) -> tuple[Endpoint, set[str], set[str]]:
    """Make an endpoint with as many requests in flight as it may have; return the events sent, and those waiting."""
    receiver = scene.receiver
    endpoint = await scene.stack.create_endpoint(
        f"/{name}", event_types=[f"{name}.*"], max_in_flight=CAP, timeout_seconds=30
    )
    await receiver.behave(endpoint.path, hold=True)
    published = await scene.publisher.publish_many(EVENTS, event_types=[f"{name}.one"])
    await receiver.wait_for(
        lambda: len(receiver.on(endpoint.path)) == CAP, seconds=BOUND_SECONDS, what="a full cap"
    )
    sent = {receipt.event_id for receipt in receiver.on(endpoint.path)}
    return endpoint, sent, {event.id for event in published} - sent


async def _publish_one(scene: Scene, event_type: str) -> str:
    """Publish an event and wait for its delivery; return its id."""
    event = await scene.publisher.publish(event_type)
    assert event is not None
    await scene.receiver.wait_for(
        lambda: event.id in scene.receiver.succeeded(), seconds=BOUND_SECONDS, what="its delivery"
    )
    return event.id


def _signers(receipt: Receipt, secrets: dict[str, str]) -> list[str]:
    """Return the names of the secrets with which the tokens of the signature header verify, in their order."""
    found = []
    for token in receipt.headers["webhook-signature"].split(" "):
        for name, secret in secrets.items():
            with suppress(WebhookVerificationError):
                Webhook(secret).verify(receipt.body, {**receipt.headers, "webhook-signature": token})
                found.append(name)
    return found


def _states(scene: Scene, endpoint: Endpoint) -> dict[str, str]:
    """Return the state of each event's delivery to an endpoint."""
    rows = scene.stack.sql("SELECT event_id, state FROM deliveries WHERE endpoint_id = %s", [_id(endpoint)])
    return {ids.to_text(ids.EVENT, event): state for event, state in rows}


def _outcomes(scene: Scene, endpoint: Endpoint) -> dict[str, list[str]]:
    """Return the outcomes of each event's attempts at an endpoint: by number, those that came late last."""
    rows = scene.stack.sql(
        "SELECT event_id, array_agg(outcome ORDER BY number, stale) FROM attempts WHERE endpoint_id = %s GROUP BY 1",
        [_id(endpoint)],
    )
    return {ids.to_text(ids.EVENT, event): outcomes for event, outcomes in rows}


def _id(endpoint: Endpoint) -> UUID | None:
    return ids.from_text(ids.ENDPOINT, endpoint.id)
