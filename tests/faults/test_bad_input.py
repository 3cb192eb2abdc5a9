"""Row 21 of the fault tests: whatever a publisher sends is refused with a problem, or delivered byte for byte.

Nothing in between: what was answered 202 arrives at the receiver as the very bytes that were sent, and what was
refused is stored nowhere and reaches nobody.
"""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.harness.scene import Scene, open_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.faults

BOUND_SECONDS = 60.0
MAX_BODY_BYTES = 1024 * 1024
# The ledger of the receiver keeps the first 4,096 characters of a body.
KEPT_BYTES = 3_900
PROBLEM = {"type", "title", "status", "detail", "instance", "request_id"}
_numbers = count(1)

DELIVERED = {
    "a number with a zero at its end": b"1.10",
    "the largest of 64 bits, unsigned": b"18446744073709551615",
    "one more than 64 bits": b"18446744073709551616",
    "the smallest of 64 bits": b"-9223372036854775808",
    "one less": b"-9223372036854775809",
    "an integer of a thousand digits": b"9" * 1000,
    "2^53 + 1, which a float cannot hold": b"9007199254740993",
    "a negative zero": b"-0",
    "a negative zero with a fraction": b"-0.0",
    "an exponent beyond a float": b"1e400",
    "a fraction beyond a float": b"0.1000000000000000055511151231257827021181583404541015625",
    "a large exponent, spelt out": b"1.0E+2",
    "repeated keys": b'{"a":1,"a":2}',
    "repeated keys, deep inside": b'[{"a":{"b":1,"b":[],"b":null}}]',
    "an empty key, twice": b'{"":1,"":2}',
    "white space of all sorts": b'{ "a" :\t[ 1 ,\r\n 2 ] }',
    "an escaped NUL": rb'"\u0000"',
    "an escaped NUL in a key": rb'{"\u0000":"\u0000"}',
    "a surrogate pair": rb'"\ud83d\ude00"',
    "escapes that need none": rb'"\u0041\/\u00e9"',
    "the same, as it is": '"A/é😀"'.encode(),
    "separators that JavaScript takes for line ends": '"\u2028\u2029"'.encode(),
    "a byte order mark as a text": '"\ufeff"'.encode(),
    "text that runs the other way": '"\u202eevil\u202c"'.encode(),
    "what HTML would run": b'"<script>alert(1)</script>"',
    "what a log would break on": rb'"\r\nHTTP/1.1 200 OK\r\n\r\n"',
    "names of the envelope": b'{"type":"x","data":{"data":1},"timestamp":null}',
    "a name of JavaScript's": b'{"__proto__":{"admin":true},"constructor":1}',
    "as deep as it may be": b"[" * 127 + b"]" * 127,
    "null": b"null",
    "false": b"false",
    "an empty text": b'""',
}
REFUSED = {
    "nothing": (b"", {400}),
    "half of it": (b'{"type":"TYPE","data":{"a":', {400}),
    "NaN": (b'{"type":"TYPE","data":NaN}', {400}),
    "an infinity": (b'{"type":"TYPE","data":[-Infinity]}', {400}),
    "a hexadecimal number": (b'{"type":"TYPE","data":0x1F}', {400}),
    "a number with a zero before it": (b'{"type":"TYPE","data":01}', {400}),
    "a comma too many": (b'{"type":"TYPE","data":[1,]}', {400}),
    "a comment": (b'{"type":"TYPE","data":1/*x*/}', {400}),
    "single quotes": (b"{'type':'TYPE','data':1}", {400}),
    "two documents": (b'{"type":"TYPE","data":1}{"type":"TYPE","data":2}', {400}),
    "a high surrogate alone": (rb'{"type":"TYPE","data":"\ud800"}', {400}),
    "a low surrogate alone": (rb'{"type":"TYPE","data":"\udc00"}', {400}),
    "surrogates in the wrong order": (rb'{"type":"TYPE","data":"\ude00\ud83d"}', {400}),
    "a surrogate in UTF-8": (b'{"type":"TYPE","data":"\xed\xa0\x80"}', {400}),
    "a byte that is no UTF-8": (b'{"type":"TYPE","data":"\xff"}', {400}),
    "a character spelt too long": (b'{"type":"TYPE","data":"\xc0\xaf"}', {400}),
    "half a character": (b'{"type":"TYPE","data":"\xf0\x9f\x98"}', {400}),
    "UTF-16": ('{"type":"TYPE","data":1}'.encode("utf-16"), {400}),
    "a byte order mark": (b'\xef\xbb\xbf{"type":"TYPE","data":1}', {400}),
    "a raw NUL": (b'{"type":"TYPE","data":"\x00"}', {400}),
    "a raw line end in a text": (b'{"type":"TYPE","data":"a\nb"}', {400}),
    "10,000 levels of lists": (b'{"type":"TYPE","data":' + b"[" * 10_000 + b"]" * 10_000 + b"}", {422}),
    "10,000 levels of objects": (b'{"type":"TYPE","data":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, {422}),
    "10,000 levels, never closed": (b'{"type":"TYPE","data":' + b"[" * 10_000, {422}),
    "one level too many": (b'{"type":"TYPE","data":' + b"[" * 128 + b"]" * 128 + b"}", {422}),
    "a list": (b'[{"type":"TYPE","data":1}]', {422}),
    "a text": (b'"TYPE"', {422}),
    "no data": (b'{"type":"TYPE"}', {422}),
    "the data twice": (b'{"type":"TYPE","data":1,"data":2}', {400, 422}),
    "the type twice": (b'{"type":"TYPE","type":"TYPE","data":1}', {400, 422}),
    "the type twice, once in other letters": (rb'{"type":"TYPE","\u0074ype":"TYPE","data":1}', {400, 422}),
    "a field that is not known": (b'{"type":"TYPE","data":1,"tpye":"x"}', {422}),
    "a NUL in what Postgres keeps as text": (rb'{"type":"TYPE","data":1,"correlation_id":"a\u0000"}', {422}),
    "a NUL in the metadata": (rb'{"type":"TYPE","data":1,"metadata":{"a":"\u0000"}}', {422}),
    "a NUL in a key of the metadata": (rb'{"type":"TYPE","data":1,"metadata":{"\u0000":"a"}}', {422}),
    "a uid of a thousand characters": (b'{"type":"TYPE","data":1,"uid":"' + b"u" * 1000 + b'"}', {422}),
    "a year that is none": (b'{"type":"TYPE","data":1,"occurred_at":"10000-01-01T00:00:00Z"}', {422}),
    "a type that is no text": (b'{"type":17,"data":1}', {422}),
}


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One of each but beat; what is published goes out at once."""
    async with open_scene(beats=0) as scene:
        yield scene


@pytest.mark.parametrize("data", DELIVERED.values(), ids=DELIVERED)
@pytest.mark.parametrize("batch", [False, True], ids=["alone", "in a batch"])
async def test_what_is_accepted_arrives_byte_for_byte(scene: Scene, data: bytes, *, batch: bool) -> None:
    """202, and the receiver, the API and the feed have the bytes of `data` as they were sent."""
    event_type = await _endpoint(scene)
    event = b'{"type":"%s","data":%s}' % (event_type.encode(), data)
    answer = await _post(scene, b'{"events":[%s]}' % event if batch else event, batch=batch)

    assert answer.status_code == 202, answer.text
    event_id = answer.json()["results"][0]["id"] if batch else answer.json()["id"]
    assert await _delivered(scene, event_id) == data
    shown = await scene.stack.client.get(f"/v1/events/{event_id}")
    assert shown.content.partition(b'"data":')[2] == data + b"}"
    feed = await scene.stack.client.get("/v1/events/feed", params={"types": event_type})
    assert data in feed.content


@pytest.mark.parametrize(("body", "statuses"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused_is_a_problem_and_leaves_nothing(
    scene: Scene, body: bytes, statuses: set[int]
) -> None:
    """A 4xx problem in JSON that says what is wrong; no event is stored, and the API lives on."""
    event_type = await _endpoint(scene)
    answer = await _post(scene, body.replace(b"TYPE", event_type.encode()))

    _check_problem(answer, statuses)
    assert await _stored(scene, event_type) == 0


@pytest.mark.parametrize(
    "name", [name for name, (_, statuses) in REFUSED.items() if 422 in statuses and "level" not in name]
)
async def test_one_bad_event_does_not_sink_its_batch(scene: Scene, name: str) -> None:
    """Where the batch itself is JSON, a wrong event in it has a problem of its own, and its neighbours arrive."""
    body, statuses = REFUSED[name]
    event_type = await _endpoint(scene)
    good = b'{"type":"%s","data":1.10}' % event_type.encode()
    bad = body.replace(b"TYPE", event_type.encode())
    answer = await _post(scene, b'{"events":[%s,%s,%s]}' % (good, bad, good), batch=True)

    assert answer.status_code == 202, answer.text
    first, second, third = answer.json()["results"]
    assert second["error"]["status"] in statuses
    assert [await _delivered(scene, item["id"]) for item in (first, third)] == [b"1.10", b"1.10"]
    assert await _stored(scene, event_type) == 2


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
async def test_body_of_a_mebibyte_is_delivered_whole(scene: Scene, *, announced: bool) -> None:
    """At the limit nothing is lost on the way, whether the length is announced or not."""
    event_type = await _endpoint(scene)
    body, data_bytes = _body_of(event_type, MAX_BODY_BYTES)

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 65_536):
            yield body[at : at + 65_536]

    answer = await _post(scene, body if announced else chunks())

    assert answer.status_code == 202, answer.text[:200]
    (receipt,) = await _receipts(scene, answer.json()["id"])
    assert receipt.genuine, receipt.wrong
    start = receipt.body.index('"data":') + len('"data":')
    assert int(receipt.headers["content-length"]) == start + data_bytes + len("}")


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
async def test_body_of_one_byte_more_is_413(scene: Scene, *, announced: bool) -> None:
    """By its announced length nothing of it is waited for; in chunks it is refused at the byte that is too much."""
    event_type = await _endpoint(scene)
    body, _ = _body_of(event_type, MAX_BODY_BYTES + 1)
    # By hand: a client that sends on after the answer meets a closed connection, and may lose the answer with it.
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.stack.api_port)
    length = f"Content-Length: {len(body)}" if announced else "Transfer-Encoding: chunked"
    writer.write(
        f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.stack.api_key}\r\n"
        f"Content-Type: application/json\r\n{length}\r\n\r\n".encode()
    )
    if not announced:
        writer.write(b"%x\r\n%s\r\n" % (len(body), body))
        await writer.drain()
    async with asyncio.timeout(BOUND_SECONDS):
        answer = await reader.read()
    writer.close()

    head, _, problem = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in head
    assert json.loads(problem)["type"] == "/problems/too-large"
    assert await _stored(scene, event_type) == 0


@pytest.mark.parametrize("path", ["/v1/applications", "/v1/endpoints", "/v1/event-types", "/v1/api-keys"])
@pytest.mark.parametrize("body", [body for body, statuses in REFUSED.values() if statuses == {400}])
async def test_no_other_route_takes_broken_json_either(scene: Scene, path: str, body: bytes) -> None:
    """The framework's own routes read bodies by another reader, with the same strictness."""
    answer = await scene.stack.client.post(path, content=body, headers={"content-type": "application/json"})
    # An empty body is JSON's absence, which is a missing object there.
    _check_problem(answer, {400} if body else {422})


def _body_of(event_type: str, size: int) -> tuple[bytes, int]:
    """Return an event whose body has this size, and the size of its data."""
    head = b'{"type":"%s","data":"' % event_type.encode()
    filling = size - len(head) - len(b'"}')
    return head + b"x" * filling + b'"}', filling + len('""')


async def _endpoint(scene: Scene) -> str:
    """Make an endpoint of the test's own and return the event type that it gets."""
    number = next(_numbers)
    await scene.stack.create_endpoint(f"/input-{number}", event_types=[f"input.n{number}"])
    return f"input.n{number}"


async def _post(scene: Scene, body: Any, *, batch: bool = False) -> Any:
    return await scene.stack.client.post(
        "/v1/events/batch" if batch else "/v1/events",
        content=body,
        headers={"content-type": "application/json"},
    )


async def _receipts(scene: Scene, event_id: str) -> list[Any]:
    await scene.receiver.wait_for(
        lambda: scene.receiver.of(event_id), seconds=BOUND_SECONDS, what="the event arrives"
    )
    return scene.receiver.of(event_id)


async def _delivered(scene: Scene, event_id: str) -> bytes:
    """Return the bytes of `data` in the one request that brought an event."""
    (receipt,) = await _receipts(scene, event_id)
    assert receipt.genuine, receipt.wrong
    assert len(receipt.body) < KEPT_BYTES
    head, _, rest = receipt.body.partition('"data":')
    assert head.count(",") == 2
    return bytes(rest.removesuffix("}").encode())


async def _stored(scene: Scene, event_type: str) -> int:
    return scene.stack.number("SELECT count(*) FROM events WHERE type = %s", [event_type])


def _check_problem(answer: Any, statuses: set[int]) -> None:
    assert answer.status_code in statuses, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) >= PROBLEM
    assert answer.json()["detail"].endswith(".")
