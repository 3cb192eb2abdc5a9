"""What pages that are open are told: only that something has changed, only of their own workspace, and when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.core import ids
from app.dashboard.live import watch as watch_module
from app.deliveries.record import Settle
from tests.faults.harness.waiting import wait_until
from tests.integration.dashboard.streams import BOUND_SECONDS, Stream, open_stream

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

CHANGES = "/dashboard/changes?topics="


async def heard(stream: Stream, *topics: str) -> set[str]:
    """Read until all of these topics were told, and return everything that was."""
    told: set[str] = set()
    while not told.issuperset(topics):
        event = await stream.next()
        assert event is not None, f"The stream ended when only {told} were told."
        if event[0] == "changed":
            told.update(event[1]["topics"])
    return told


async def last_word(stream: Stream) -> object:
    """Read past what has changed."""
    while True:
        event = await stream.next()
        if event is None or event[0] != "changed":
            return event


async def begin(app: FastAPI, stream: Stream, *, listening: int = 1) -> None:
    """Wait until the page is looked at for, so that what comes next is a change."""
    assert await stream.next() is not None
    watch = app.state.change_watch
    await wait_until(
        lambda: watch.listening == listening and not any(each.fresh for each in watch._listeners),
        seconds=BOUND_SECONDS,
        what="the first look for a page",
    )


async def test_who_is_not_signed_in_hears_nothing(client: httpx2.AsyncClient) -> None:
    """The request is led to the door, as all pages are."""
    answer = await client.get(CHANGES + "deliveries")

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


@pytest.mark.parametrize(
    "topics", ["", "nothing", "delivery:", "delivery:evt_x", ",".join(map(str, range(30)))]
)
async def test_a_topic_that_is_none_is_refused(owner: Browser, topics: str) -> None:
    """A page that asks for the wrong thing must not believe that it is kept up to date."""
    answer = await owner.get(CHANGES + topics)

    assert answer.status_code == 422


async def test_topics_for_admins_are_refused_to_others(browse_as: BrowseAs) -> None:
    """A viewer does not hear when the audit log grows."""
    viewer = await browse_as("viewer")

    assert (await viewer.get(CHANGES + "audit")).status_code == 403


async def test_another_workspace_is_not_heard(
    app: FastAPI, owner: Browser, traffic: Traffic, other_admin: dict[str, str]
) -> None:
    """Its events move nothing here, and its objects are as if they did not exist."""
    foreign = await traffic.client.post(
        "/v1/endpoints", json={"url": "https://b.example.com/"}, headers=other_admin
    )
    topic = f"endpoint:{foreign.json()['id']}"
    async with open_stream(app, owner, f"{CHANGES}events,deliveries,{topic}") as stream:
        await begin(app, stream)
        await traffic.client.post(
            "/v1/events", json={"type": "order.placed", "data": {}}, headers=other_admin
        )
        await traffic.client.post(f"/v1/endpoints/{foreign.json()['id']}/pause", headers=other_admin)
        await traffic.publish()
        told = await heard(stream, "events")

    assert topic not in told


async def test_a_publish_and_its_attempt_are_told(app: FastAPI, owner: Browser, traffic: Traffic) -> None:
    """To the lists, to the event and to the delivery, each as it changes."""
    endpoint = await traffic.endpoint()
    async with open_stream(app, owner, CHANGES + "events,deliveries,metrics,dead") as stream:
        await begin(app, stream)
        event = await traffic.publish()
        await heard(stream, "events", "deliveries", "metrics", "dead")
    delivery = await traffic.delivery_of(event)
    object_topics = (f"delivery:{delivery['id']}", f"event:{event['id']}", f"endpoint:{endpoint['id']}")
    async with open_stream(app, owner, CHANGES + ",".join(object_topics)) as stream:
        await begin(app, stream)
        await traffic.attempt(endpoint, Settle.RETRY)
        told = await heard(stream, *object_topics)

    assert told == set(object_topics)


async def test_a_lease_is_told(app: FastAPI, owner: Browser, traffic: Traffic) -> None:
    """A delivery that a worker has taken is `sending`, which stands in its queue row alone."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    topic = f"delivery:{delivery['id']}"
    async with open_stream(app, owner, CHANGES + topic) as stream:
        await begin(app, stream)
        await traffic.claim(endpoint)

        assert await heard(stream, topic) == {topic}


@pytest.mark.parametrize(("act", "status"), [("retry", 202), ("cancel", 200)])
async def test_what_somebody_else_does_to_a_delivery_is_told(
    app: FastAPI, owner: Browser, traffic: Traffic, act: str, status: int
) -> None:
    """By the API, with a key, on another process: the page hears of it all the same."""
    await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    topic = f"delivery:{delivery['id']}"
    async with open_stream(app, owner, f"{CHANGES}deliveries,dead,{topic}") as stream:
        await begin(app, stream)
        await traffic.post(f"/v1/deliveries/{delivery['id']}/{act}", status=status)

        assert await heard(stream, "deliveries", "dead", topic) >= {"deliveries", "dead", topic}


async def test_a_pause_is_told(app: FastAPI, owner: Browser, traffic: Traffic) -> None:
    """On the endpoint's page and on the list of endpoints."""
    endpoint = await traffic.endpoint()
    topic = f"endpoint:{endpoint['id']}"
    async with open_stream(app, owner, f"{CHANGES}endpoints,audit,{topic}") as stream:
        await begin(app, stream)
        await traffic.post(f"/v1/endpoints/{endpoint['id']}/pause", status=200)

        assert await heard(stream, "endpoints", "audit", topic) >= {"endpoints", "audit", topic}


async def test_what_happened_before_the_stream_opened_is_told(
    app: FastAPI, owner: Browser, traffic: Traffic
) -> None:
    """Between reading a page and listening for changes lies a moment in which something can change."""
    read_at = app.state.runtime.clock.unix_ms()
    await traffic.publish()
    async with open_stream(app, owner, f"{CHANGES}events&since={read_at}") as stream:
        assert await heard(stream, "events") == {"events"}


async def test_the_system_is_told_again_and_again(app: FastAPI, owner: Browser) -> None:
    """Hearts beat and rates fall without a row that changes."""
    async with open_stream(app, owner, CHANGES + "system") as stream:
        assert await heard(stream, "system") == {"system"}
        assert await heard(stream, "system") == {"system"}


async def test_signing_out_ends_the_stream(app: FastAPI, owner: Browser) -> None:
    """Elsewhere or here: who is signed out hears nothing more, and is told so."""
    async with open_stream(app, owner, CHANGES + "deliveries") as stream:
        await begin(app, stream)
        await owner.submit("/logout", at="/dashboard/")

        assert await last_word(stream) == ("gone", {})
        assert await stream.next() is None


async def test_the_stop_of_the_server_ends_all_streams(app: FastAPI, owner: Browser) -> None:
    """Without a word: browsers ask again by themselves, and a process that stops takes nobody in."""
    async with open_stream(app, owner, CHANGES + "deliveries") as stream:
        await begin(app, stream)
        app.state.change_watch.close()

        assert await last_word(stream) is None

    assert (await owner.get(CHANGES + "deliveries")).status_code == 503


async def test_streams_of_one_person_are_bounded(
    app: FastAPI, owner: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page too many is refused, and may come when another has gone."""
    monkeypatch.setattr(watch_module, "MAX_STREAMS_OF_ONE", 1)
    async with open_stream(app, owner, CHANGES + "deliveries") as stream:
        await begin(app, stream)

        refused = await owner.get(CHANGES + "deliveries")

    assert refused.status_code == 503
    assert "retry-after" in refused.headers
    async with open_stream(app, owner, CHANGES + "deliveries") as stream:
        assert stream.status == 200


async def test_nobody_looks_while_nobody_listens(app: FastAPI, owner: Browser) -> None:
    """A closed page is forgotten, and the process is at rest."""
    watch = app.state.change_watch
    async with open_stream(app, owner, CHANGES + "deliveries") as stream:
        await begin(app, stream)

    await wait_until(
        lambda: watch.listening == 0 and watch._looking.done(), seconds=BOUND_SECONDS, what="the last look"
    )


async def test_an_object_that_does_not_exist_says_nothing(
    app: FastAPI, owner: Browser, traffic: Traffic
) -> None:
    """Like one of another workspace."""
    topic = "delivery:" + ids.to_text(ids.DELIVERY, ids.uuid7(app.state.runtime.clock.unix_ms()))
    async with open_stream(app, owner, f"{CHANGES}{topic},events") as stream:
        await begin(app, stream)
        await traffic.publish()

        assert topic not in await heard(stream, "events")
