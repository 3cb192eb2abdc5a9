"""The delivery page: one delivery, from its event to the last byte of its last attempt."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import text

from app.deliveries.record import Settle
from bellwire import Webhook
from tests.integration.api.traffic import URL, uuid_of

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

TAG = re.compile(r"<[^>]*>")


def text_of(page: str) -> str:
    """Return a page as people read it: without markup, space made single."""
    return re.sub(r"\s+", " ", html.unescape(TAG.sub(" ", page)))


def path_of(delivery: dict[str, Any], rest: str = "") -> str:
    """Return the address of a delivery's page."""
    return f"/dashboard/deliveries/{delivery['id']}{rest}"


async def test_a_delivery_that_waits_for_its_first_try(owner: Browser, traffic: Traffic) -> None:
    """Without an attempt the page says where it stands in the queue, and what will be sent."""
    await traffic.endpoint()
    await traffic.publish()
    event = await traffic.publish(data={"order": 9_007_199_254_740_993})
    delivery = await traffic.delivery_of(event)

    answer = await owner.get(path_of(delivery))

    shown = text_of(answer.text)
    assert answer.status_code == 200
    assert "Waiting in queue" in shown
    assert "position ~2, oldest due" in shown
    assert "9007199254740993" in shown
    assert f'data-live="delivery:{delivery["id"]}"' in answer.text


async def test_a_failure_is_told_with_what_comes_next(owner: Browser, traffic: Traffic) -> None:
    """The timeline has the attempt, the wait with its reason, the tries that are planned, and the deadline."""
    endpoint = await traffic.endpoint(retry_schedule=[60, 300, 3_600])
    event = await traffic.publish()
    await traffic.attempt(endpoint, Settle.RETRY)
    delivery = await traffic.delivery_of(event)

    page = (await owner.get(path_of(delivery))).text

    shown = text_of(page)
    assert "Event accepted" in shown
    assert 'id="a1"' in page
    assert "first try" in shown
    assert "backoff 1 min ±20 % jitter" in shown
    assert "if that fails: backoff 5 min ±20 % jitter" in shown
    assert "if that fails: backoff 1 h ±20 % jitter" in shown
    assert "Deadline" in shown
    assert "Receiver error: 503 Service Unavailable" in shown
    assert "Next step" in shown
    assert "data-countdown" in page


async def test_at_most_three_statements_of_its_own(owner: Browser, traffic: Traffic) -> None:
    """With the session and the counts there are five, however many attempts were made."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish()
    for settle in (Settle.RETRY, Settle.DEAD):
        await traffic.attempt(endpoint, settle)
        if settle is Settle.RETRY:
            await make_due(traffic)
    delivery = await traffic.delivery_of(event)

    answer = await owner.get(path_of(delivery, "?compare=1,2"))

    found = re.search(r"(\d+) statements", answer.headers["server-timing"])
    assert found is not None
    assert int(found[1]) <= 5


async def test_the_signature_is_checked_again(owner: Browser, traffic: Traffic) -> None:
    """The stored bytes and the endpoint's key make the signature that was sent; a retired key is named as such."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish(data={"n": 1.10})
    delivery = await traffic.delivery_of(event)
    await traffic.attempt(endpoint, request_headers=await signed(traffic, endpoint, event))

    fresh = text_of((await owner.get(path_of(delivery))).text)
    await traffic.post(f"/v1/endpoints/{endpoint['id']}/secret/rotate", {"grace_seconds": 3_600}, status=200)
    rotated = text_of((await owner.get(path_of(delivery))).text)
    await traffic.post(f"/v1/endpoints/{endpoint['id']}/secret/revoke-previous", status=200)
    revoked = text_of((await owner.get(path_of(delivery))).text)

    assert "verifies ✓" in fresh
    assert "✓ current key" in fresh
    assert "✓ previous key, signs until" in rotated
    assert "✓ retired key, signed until" in revoked


async def test_a_signature_that_does_not_fit_is_told(owner: Browser, traffic: Traffic) -> None:
    """Bytes or a key that were changed in the database do not verify."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish()
    delivery = await traffic.delivery_of(event)
    other = {**event, "id": event["id"]}
    headers = await signed(traffic, endpoint, other, body=b"other bytes")
    await traffic.attempt(endpoint, request_headers=headers)

    shown = text_of((await owner.get(path_of(delivery))).text)

    assert "does not verify" in shown
    assert "✗ no key of this endpoint" in shown


async def test_a_cloudevent_is_shown_as_it_was_sent(owner: Browser, traffic: Traffic) -> None:
    """The signature decides which bytes went out, also after the endpoint's format was changed."""
    endpoint = await traffic.endpoint(format="cloudevents")
    event = await traffic.publish()
    delivery = await traffic.delivery_of(event)
    await traffic.attempt(endpoint, request_headers=await signed(traffic, endpoint, event, cloudevents=True))
    await patch(traffic, endpoint, {"format": "standard"})

    shown = text_of((await owner.get(path_of(delivery))).text)

    assert "verifies ✓" in shown
    assert '"specversion" : "1.0"' in shown


async def test_markup_stays_text_everywhere(owner: Browser, traffic: Traffic) -> None:
    """In the body, the URL, a header, the response, the error and the note: nothing of it becomes an element."""
    bad = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><b>"
    endpoint = await traffic.endpoint(url="https://shop.example.com/a?x=%3Cscript%3E", description=bad)
    event = await traffic.publish(data={bad: [bad, "\u202e"]})
    delivery = await traffic.delivery_of(event)
    await traffic.attempt(
        endpoint,
        Settle.RETRY,
        request_url=f"https://shop.example.com/{bad}",
        request_headers=orjson.dumps([["webhook-id", bad], ["x-bad", bad]]),
        response_headers=orjson.dumps([[bad, bad], ["location", f"https://{bad}/"], ["content-type", bad]]),
        response_body=bad.encode(),
        response_status=302,
        error_class="http_3xx",
        error_message=bad,
        note=bad,
        ip=bad,
        tls_version=bad,
        http_version=bad,
    )

    for query in ("", "?attempt=1", "?compare=1,1", f"?attempt={bad}&compare={bad}&until={bad}&done={bad}"):
        page = (await owner.get(path_of(delivery, query))).text
        scripts = re.findall(r"<script[^>]*>", page)
        assert len(scripts) == 1
        assert "<img" not in page
        assert "onerror=alert(2)>" not in page
        assert "<b>" not in page


async def test_a_viewer_sees_no_secrets_and_no_buttons(browse_as: BrowseAs, traffic: Traffic) -> None:
    """Query strings are hidden wherever they stand, own headers are masked, and there is nothing to press."""
    endpoint = await traffic.endpoint(url=f"{URL}?token=s3cret", headers={"authorization": "Bearer s3cret"})
    event = await traffic.publish()
    delivery = await traffic.delivery_of(event)
    await traffic.attempt(
        endpoint,
        Settle.RETRY,
        request_url=f"{URL}?token=s3cret",
        response_status=301,
        error_class="http_3xx",
        response_headers=orjson.dumps([["location", "https://new.example.com/in?token=s3cret"]]),
    )
    viewer, operator, admin = [await browse_as(role) for role in ("viewer", "operator", "admin")]

    seen = (await viewer.get(path_of(delivery, "?compare=1,1"))).text
    archive = (await viewer.get(path_of(delivery, "/attempts/1/har"))).text
    operated = (await operator.get(path_of(delivery))).text
    administered = (await admin.get(path_of(delivery))).text

    assert "s3cret" not in seen
    assert "s3cret" not in archive
    assert "/retry" not in seen
    assert "/cancel" not in seen
    assert "/save-url" not in seen
    assert "/dashboard/audit" not in seen
    assert "Bearer s3cret" not in operated
    assert "/retry" in operated
    assert "/save-url" not in operated
    assert "https://new.example.com/in?token=s3cret" in administered
    assert "/save-url" in administered


async def test_another_workspaces_delivery_is_not_there(
    owner: Browser, client: httpx2.AsyncClient, app: FastAPI, other_admin: dict[str, str], traffic: Traffic
) -> None:
    """Neither its page, nor its files, nor its actions."""
    others = type(traffic)(app=app, client=client, headers=other_admin)
    endpoint = await others.endpoint()
    delivery = await others.delivery_of(await others.publish())
    await others.attempt(endpoint, Settle.RETRY, response_body=b"theirs")

    for rest in ("", "/attempts/1/har", "/attempts/1/request-body", "/attempts/1/response-body"):
        assert (await owner.get(path_of(delivery, rest))).status_code == 404
    for action in ("retry", "cancel", "resolve", "save-url"):
        answer = await owner.submit(path_of(delivery, f"/{action}"), at="/dashboard/", attempt="1")
        assert answer.status_code == 404
    for nothing in ("dlv_nothing", "evt_01kb2m9w4e8f3tq6v7xz1y5n0v"):
        assert (await owner.get(f"/dashboard/deliveries/{nothing}")).status_code == 404


async def test_bodies_are_downloaded_never_shown(owner: Browser, traffic: Traffic) -> None:
    """Both come byte for byte, as files of no type that a browser would run."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish(data={"price": 1.10})
    delivery = await traffic.delivery_of(event)
    await traffic.attempt(
        endpoint,
        Settle.RETRY,
        response_body=b"<script>alert(1)</script>\xff",
        response_headers=orjson.dumps([["content-type", "text/html"]]),
        request_headers=await signed(traffic, endpoint, event),
    )

    sent = await owner.get(path_of(delivery, "/attempts/1/request-body"))
    received = await owner.get(path_of(delivery, "/attempts/1/response-body"))

    assert sent.content.endswith(b'"data":{"price":1.1}}')
    assert received.content == b"<script>alert(1)</script>\xff"
    for answer in (sent, received):
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment;")


async def test_many_attempts_stay_readable(owner: Browser, traffic: Traffic) -> None:
    """The timeline has the latest hundred, links to the earlier ones, and any of them can be looked at."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(endpoint, Settle.DEAD)
    await multiply(traffic, delivery, 119)

    newest = (await owner.get(path_of(delivery))).text
    earlier = (await owner.get(path_of(delivery, "?until=20"))).text
    one = (await owner.get(path_of(delivery, "?attempt=7"))).text

    assert len(re.findall(r'<li id="a\d+"', newest)) == 100
    assert "until=20" in newest
    assert len(re.findall(r'<li id="a\d+"', earlier)) == 20
    assert "Attempt 7 <span" in one
    assert "Attempt 120 <span" in newest


async def test_a_late_result_stands_beside_the_lost_one(owner: Browser, traffic: Traffic) -> None:
    """Two attempts of one number are two lines, each with an address of its own."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(endpoint, Settle.DEAD)
    async with traffic.app.state.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO attempts SELECT (jsonb_populate_record(a, jsonb_build_object("
                "'id', overlay(gen_random_uuid()::text PLACING left(a.id::text, 15) FROM 1 FOR 15),"
                " 'stale', true))).* FROM attempts a WHERE a.delivery_id = :id"
            ).bindparams(id=uuid_of(delivery))
        )

    page = (await owner.get(path_of(delivery, "?attempt=1-late"))).text

    assert 'id="a1"' in page
    assert 'id="a1-late"' in page
    assert "came after its lease had ended" in text_of(page)


async def test_two_attempts_are_compared(owner: Browser, traffic: Traffic) -> None:
    """What differs is marked: the status, a header, the lines of the body."""
    endpoint = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(
        endpoint,
        Settle.RETRY,
        response_body=b'{"error":"busy","n":1}',
        response_headers=orjson.dumps([["server", "a"]]),
    )
    await make_due(traffic)
    await traffic.attempt(
        endpoint, response_body=b'{"error":null,"n":1}', response_headers=orjson.dumps([["server", "b"]])
    )

    page = (await owner.get(path_of(delivery, "?compare=1,2"))).text

    assert "Attempts 1 and 2:" in page
    assert "<del>-  &#34;error&#34;: &#34;busy&#34;,</del>" in page
    assert "<ins>+  &#34;error&#34;: null,</ins>" in page
    assert re.search(r'class="differs"><th scope="row">server', page)
    assert re.search(r'class="differs"><th scope="row">Status', page)


async def test_an_erased_event_leaves_the_rest(owner: Browser, traffic: Traffic) -> None:
    """Headers and response stay; the body is gone, and so is the check of its signature."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish()
    delivery = await traffic.delivery_of(event)
    await traffic.attempt(endpoint, request_headers=await signed(traffic, endpoint, event))
    await traffic.client.delete(f"/v1/events/{event['id']}/data", headers=traffic.headers)

    page = text_of((await owner.get(path_of(delivery))).text)
    body = await owner.get(path_of(delivery, "/attempts/1/request-body"))

    assert "the body cannot be shown any more" in page
    assert "not checked" in page
    assert body.status_code == 404


async def signed(
    traffic: Traffic,
    endpoint: dict[str, Any],
    event: dict[str, Any],
    *,
    cloudevents: bool = False,
    body: bytes | None = None,
) -> bytes:
    """Return the headers of an attempt, signed as a worker would, over the bytes that it would send."""
    from workers.event_bodies import EventCache

    async with traffic.app.state.runtime.engine.connect() as connection:
        found = await EventCache().get_many(connection, [uuid_of(event)])
    made = found[uuid_of(event)].encoded("cloudevents" if cloudevents else "standard")
    now = int((traffic.app.state.runtime.clock.now() - timedelta(days=3)).timestamp())
    headers = Webhook(endpoint["secret"]).signed_headers(event["id"], body or made, timestamp=now)
    content_type = "application/cloudevents+json" if cloudevents else "application/json"
    return orjson.dumps([["content-type", content_type], *headers.items()])


async def make_due(traffic: Traffic) -> None:
    """Let everything that is scheduled be due."""
    async with traffic.app.state.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE delivery_queue SET state = 0, due_at = now()"))


async def patch(traffic: Traffic, endpoint: dict[str, Any], changes: dict[str, Any]) -> None:
    """Change an endpoint."""
    answer = await traffic.client.patch(
        f"/v1/endpoints/{endpoint['id']}", json=changes, headers=traffic.headers
    )
    assert answer.status_code == 200, answer.text


async def multiply(traffic: Traffic, delivery: dict[str, Any], count: int) -> None:
    """Add attempts like the one that is there, with the numbers that follow."""
    async with traffic.app.state.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO attempts SELECT (jsonb_populate_record(a, jsonb_build_object("
                "'id', overlay(gen_random_uuid()::text PLACING left(a.id::text, 15) FROM 1 FOR 15),"
                " 'number', n, 'started_at', a.started_at + n * interval '1 minute'))).*"
                " FROM attempts a, generate_series(2, :last) n WHERE a.delivery_id = :id"
            ).bindparams(id=uuid_of(delivery), last=count + 1)
        )
        await connection.execute(
            text("UPDATE deliveries SET attempt_count = :last WHERE id = :id").bindparams(
                id=uuid_of(delivery), last=count + 1
            )
        )
