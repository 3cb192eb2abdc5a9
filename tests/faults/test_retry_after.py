"""Row 28 of the fault tests: what receivers put into `Retry-After`, meant well or not."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from app.core import ids
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.publisher import Accepted
    from tests.faults.harness.stack import Endpoint

pytestmark = pytest.mark.faults

MOST_SECONDS = 86_400
# How long a test may take between an answer and the look at what became of it.
SLACK = timedelta(seconds=60)
BOUND_SECONDS = 60.0
_numbers = count(1)


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One of each but beat; failed deliveries are tried again after a second."""
    async with open_scene(beats=0) as scene:
        yield scene


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (503, "1000000000000", MOST_SECONDS),
        (503, "9" * 64, MOST_SECONDS),
        (429, "Fri, 31 Dec 9999 23:59:59 GMT", MOST_SECONDS),
        (429, "86401", MOST_SECONDS),
        (503, "3600", 3_600),
    ],
)
async def test_long_retry_after_holds_the_endpoint_for_a_day_at_most(
    scene: Scene, status: int, value: str, seconds: int
) -> None:
    """A wait that a receiver asks for holds its whole endpoint, is cut to 24 hours, and is shown; a person may pass."""
    receiver = scene.receiver
    endpoint = await _create(scene, status=status, value=value)
    refused = await _publish(scene, endpoint)
    await _wait_for_attempt(scene, refused)
    answered_at = scene.stack.sql("SELECT now()")[0][0]

    other = await _publish(scene, endpoint)
    shown = await _shown(scene, refused)
    other_shown = await _shown(scene, other)

    until = answered_at + timedelta(seconds=seconds)
    for delivery in (shown, other_shown):
        assert delivery["state"] == "pending"
        assert delivery["waiting"]["reason"] == "retry_after"
        assert until - SLACK < _time(delivery["waiting"]["until"]) <= until
    assert until - SLACK < _time(shown["next_attempt_at"]) <= until
    assert other_shown["next_attempt_at"] == other_shown["waiting"]["until"]
    assert _asked(scene, refused) == seconds
    # Another event on another endpoint goes through all the machinery, and these two are still not sent.
    witness = await _publish(scene, await _create(scene))
    await receiver.wait_for(lambda: receiver.of(witness.id), seconds=BOUND_SECONDS, what="the witness")
    assert (len(receiver.of(refused.id)), len(receiver.of(other.id))) == (1, 0)
    await receiver.behave(endpoint.path)
    for delivery in (shown, other_shown):
        retried = await scene.stack.client.post(f"/v1/deliveries/{delivery['id']}/retry")
        assert retried.status_code == 202, retried.text
    await scene.checker.check()


@pytest.mark.parametrize(
    ("status", "value"),
    [
        (503, "1e12"),
        (503, "-5"),
        (503, "+5"),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT"),
        (429, "Thu, 32 Foo 2099 99:99:99 GMT"),
        (503, "soon"),
        (503, "3600, 7200"),
        (503, "0x7fffffff"),
        (503, "٣٦٠٠"),
        (503, ""),
        (503, "9" * 65),
        (500, "3600"),
    ],
)
async def test_senseless_retry_after_is_ignored(scene: Scene, status: int, value: str) -> None:
    """A value that is no wait, or stands where it means nothing, holds nobody; the schedule decides."""
    endpoint = await _create(scene, status=status, value=value)

    refused = await _publish(scene, endpoint)
    await _wait_for_attempt(scene, refused)
    other = await _publish(scene, endpoint)

    await scene.receiver.wait_for(
        lambda: {refused.id, other.id} <= scene.receiver.succeeded(), seconds=BOUND_SECONDS, what="both"
    )
    await scene.checker.check()
    assert _asked(scene, refused) is None


async def test_retry_after_of_zero_is_no_wait(scene: Scene) -> None:
    """Zero seconds are what they say: taken down, and nobody waits longer than the schedule wants."""
    endpoint = await _create(scene, status=503, value="0")

    refused = await _publish(scene, endpoint)
    await _wait_for_attempt(scene, refused)
    other = await _publish(scene, endpoint)

    await scene.receiver.wait_for(
        lambda: {refused.id, other.id} <= scene.receiver.succeeded(), seconds=BOUND_SECONDS, what="both"
    )
    await scene.checker.check()
    assert _asked(scene, refused) == 0


async def _create(scene: Scene, *, status: int = 200, value: str | None = None) -> Endpoint:
    """Make an endpoint that answers each event once with this status and `Retry-After`, and then with 200."""
    name = f"case{next(_numbers)}"
    headers = {} if value is None else {"retry-after": value}
    await scene.receiver.behave(f"/{name}", statuses=[status, 200], headers=headers)
    return await scene.stack.create_endpoint(f"/{name}", event_types=[f"{name}.one"])


async def _publish(scene: Scene, endpoint: Endpoint) -> Accepted:
    event = await scene.publisher.publish(f"{endpoint.path[1:]}.one")
    assert event is not None
    return event


async def _wait_for_attempt(scene: Scene, event: Accepted) -> None:
    await wait_until(
        lambda: _attempts(scene, event), seconds=BOUND_SECONDS, what="the first answer is recorded"
    )


def _attempts(scene: Scene, event: Accepted) -> list[int | None]:
    """Return what each attempt was asked to wait."""
    rows = scene.stack.sql(
        "SELECT retry_after_seconds FROM attempts WHERE event_id = %s ORDER BY number",
        [ids.from_text(ids.EVENT, event.id)],
    )
    return [seconds for (seconds,) in rows]


def _asked(scene: Scene, event: Accepted) -> int | None:
    return _attempts(scene, event)[0]


async def _shown(scene: Scene, event: Accepted) -> dict[str, Any]:
    """Return an event's one delivery, as the API shows it."""
    (delivery,) = await scene.stack.list_all(f"/v1/events/{event.id}/deliveries")
    return delivery


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
