"""The whole loop in one process: claim, sign, send, record, with a receiver that verifies."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import orjson
import pytest
from sqlalchemy import event

from app.core import ids
from tests.faults.harness.proxy import TcpProxy
from tests.faults.harness.waiting import wait_until
from tests.integration.engine.making import SECRET
from tests.integration.engine.receiver import OK, Received, answer, open_receiver
from tests.integration.engine.worker import open_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tests.integration.engine.making import Workshop
    from tests.integration.engine.receiver import Receiver

NOTHING_WAITS = "SELECT NOT EXISTS (SELECT 1 FROM delivery_queue)"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Verifies and answers."""
    async with open_receiver() as made:
        yield made


async def all_settled(shop: Workshop) -> None:
    """Wait until the queue is empty, and check what must hold then."""
    await shop.until(NOTHING_WAITS, what="the queue is empty", seconds=60)
    await at_rest(shop)


async def at_rest(shop: Workshop) -> None:
    """Check that no lease is left and no slot is taken."""
    assert await shop.value("SELECT count(*) FROM delivery_queue WHERE state = 1") == 0
    assert await shop.value("SELECT coalesce(sum(in_flight), 0) FROM endpoint_runtime") == 0


async def states(shop: Workshop) -> dict[str, int]:
    """Count the deliveries by state."""
    return {row[0]: row[1] for row in await shop.sql("SELECT state, count(*) FROM deliveries GROUP BY 1")}


async def outcomes(shop: Workshop, delivery: UUID) -> list[tuple[str, int | None, str | None]]:
    """Return outcome, status and error class of a delivery's attempts."""
    return [(row.outcome, row.response_status, row.error_class) for row in await shop.attempts(delivery)]


async def test_everything_arrives_once_and_verified(shop: Workshop, receiver: Receiver) -> None:
    """150 deliveries to three endpoints: each is received once, verifies, and has one attempt."""
    for path in ("/a", "/b", "/c"):
        endpoint = await shop.endpoint(url=receiver.url(path), max_in_flight=50)
        await shop.publish(endpoint, 50)

    async with open_worker(shop):
        await all_settled(shop)

    assert Counter(request.path for request in receiver.requests) == {"/a": 50, "/b": 50, "/c": 50}
    assert all(request.verified for request in receiver.requests)
    assert len({(request.path, request.id) for request in receiver.requests}) == 150
    assert await states(shop) == {"succeeded": 150}
    assert await shop.value("SELECT count(*) FROM attempts WHERE outcome = 'succeeded'") == 150


async def test_request_is_what_the_contract_says(shop: Workshop, receiver: Receiver) -> None:
    """Method, headers and body of a delivery, byte for byte; own headers are masked in the log."""
    endpoint = await shop.endpoint(url=receiver.url("/in?key=1"))
    sealed = shop.keyring.seal(orjson.dumps({"X-Own": "own secret"}), row=endpoint, column="sealed_headers")
    await shop.sql("UPDATE endpoints SET sealed_headers = :sealed", sealed=sealed)
    submission = shop.submission([endpoint], body=b'{"type":"order.placed","data":{ "n": 1.10 }}')
    submission.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await shop.accept(submission)

    async with open_worker(shop):
        await all_settled(shop)

    (request,) = receiver.requests
    event = ids.to_text(ids.EVENT, submission.id)
    assert (request.path, request.verified, request.id) == ("/in?key=1", True, event)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("Bellwire/")
    assert request.headers["x-own"] == "own secret"
    assert request.headers["traceparent"] == submission.traceparent
    assert request.body.startswith(b'{"type":"order.placed","timestamp":"')
    assert request.body.endswith(b'Z","data":{ "n": 1.10 }}')
    (attempt,) = await shop.sql("SELECT * FROM attempts")
    logged = {name.lower(): value for name, value in orjson.loads(bytes(attempt.request_headers))}
    assert (logged["x-own"], logged["webhook-id"]) == ("***", event)
    assert logged["webhook-signature"] == request.headers["webhook-signature"]
    assert (attempt.response_status, bytes(attempt.response_body), attempt.ip) == (200, b"ok", "127.0.0.1")


async def test_flaky_receiver_gets_three_attempts_of_one_message(shop: Workshop, receiver: Receiver) -> None:
    """503, 503, 200: one `webhook-id`, a signature that verifies each time, three attempts on record."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), retry_schedule=[0, 0, 0])
    receiver.answers("/in", answer(503), answer(503), OK)
    (delivery,) = await shop.publish(endpoint)

    async with open_worker(shop):
        await all_settled(shop)

    assert [request.verified for request in receiver.requests] == [True] * 3
    assert len({request.id for request in receiver.requests}) == 1
    assert await outcomes(shop, delivery) == [
        ("failed", 503, "http_5xx"),
        ("failed", 503, "http_5xx"),
        ("succeeded", 200, None),
    ]
    assert [row.number for row in await shop.attempts(delivery)] == [1, 2, 3]


async def test_used_up_schedule_ends_the_delivery(shop: Workshop, receiver: Receiver) -> None:
    """A schedule of two delays makes three attempts; then the delivery is dead."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), retry_schedule=[0, 0])
    receiver.answers("/in", answer(500))
    (delivery,) = await shop.publish(endpoint)

    async with open_worker(shop):
        await all_settled(shop)

    assert (len(receiver.requests), await states(shop)) == (3, {"dead": 1})
    assert (await shop.delivery(delivery)).attempt_count == 3
    assert (await shop.runtime(endpoint)).consecutive_failures == 3


async def test_410_disables_the_endpoint(shop: Workshop, receiver: Receiver) -> None:
    """The delivery is dead, the endpoint disabled with a reason, and what waits for it is not sent."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=1)
    receiver.answers("/in", answer(410))
    first, second = await shop.publish(endpoint, 2)
    await shop.sql(
        "UPDATE delivery_queue SET state = 2, due_at = now() + interval '1 hour' WHERE id = :id", id=second
    )

    async with open_worker(shop):
        await shop.until("SELECT NOT enabled FROM endpoints", what="the endpoint is disabled")
        await shop.sql("UPDATE delivery_queue SET state = 0, due_at = now()")
        await shop.publish(await shop.endpoint(url=receiver.url("/other")))
        await receiver.until(lambda: receiver.at("/other"))

    assert len(receiver.at("/in")) == 1
    assert (await shop.delivery(first)).state == "dead"
    assert (await shop.delivery(second)).state == "pending"
    assert "410" in await shop.value("SELECT disabled_reason FROM endpoints WHERE id = :id", id=endpoint)
    assert await shop.value("SELECT routing_version FROM applications") == 2


async def test_410_disables_in_one_transaction(shop: Workshop, receiver: Receiver) -> None:
    """What says that the endpoint is disabled and what keeps claims away from it are committed together."""
    endpoint = await shop.endpoint(url=receiver.url("/in"))
    receiver.answers("/in", answer(410))
    await shop.publish(endpoint)

    async with open_worker(shop):
        await shop.until("SELECT NOT enabled FROM endpoints", what="the endpoint is disabled")

    ((endpoint_xmin, runtime_xmin, application_xmin),) = await shop.sql(
        "SELECT e.xmin::text, r.xmin::text, a.xmin::text FROM endpoints e"
        " JOIN endpoint_runtime r ON r.endpoint_id = e.id JOIN applications a ON a.id = e.application_id"
    )
    assert endpoint_xmin == runtime_xmin == application_xmin


async def test_hung_receiver_costs_its_own_time_only(shop: Workshop, receiver: Receiver) -> None:
    """An endpoint that never answers times out; the healthy one beside it is served meanwhile."""
    hung = await shop.endpoint(url=receiver.url("/hung"), timeout_seconds=2, retry_schedule=[3600])
    healthy = await shop.endpoint(url=receiver.url("/healthy"), max_in_flight=50)
    receiver.waits("/hung")
    (delivery, *_) = await shop.publish(hung, 30)

    async with open_worker(shop):
        await receiver.until(lambda: receiver.open["/hung"] == 4)
        await shop.publish(healthy, 100)
        await receiver.until(lambda: len(receiver.at("/healthy")) == 100)
        hanging, most = receiver.open["/hung"], receiver.peak["/hung"]
        await shop.until(
            "SELECT count(*) >= 1 FROM attempts WHERE delivery_id = :id", what="it timed out", id=delivery
        )

    # One endpoint gets a tenth of the 40 slots at most, whatever its own cap.
    assert (hanging, most) == (4, 4)
    assert await outcomes(shop, delivery) == [("failed", None, "read_timeout")]


async def test_retry_after_holds_what_waits_behind_it(shop: Workshop, receiver: Receiver) -> None:
    """A 429 with `Retry-After` stops the endpoint, and only it."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=1)
    receiver.answers("/in", answer(429, "Retry-After: 3600"))
    (delivery, _) = await shop.publish(endpoint, 2)
    other = await shop.endpoint(url=receiver.url("/other"))

    async with open_worker(shop):
        await shop.until("SELECT count(*) = 1 FROM attempts", what="the first is recorded")
        await shop.publish(other, 5)
        await receiver.until(lambda: len(receiver.at("/other")) == 5)

    assert len(receiver.at("/in")) == 1
    runtime = await shop.runtime(endpoint)
    assert (runtime.held_reason, 3500 < runtime.held_for <= 3600) == ("retry_after", True)
    assert (await shop.queue_row(delivery)).due_in > 3500
    (attempt,) = await shop.attempts(delivery)
    assert attempt.retry_after_seconds == 3600


async def test_fifo_order_holds_at_the_receiver(shop: Workshop, receiver: Receiver) -> None:
    """With two workers and every fifth request failing, the receiver sees one at a time, in order."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), fifo=True, retry_schedule=[0] * 20)
    receiver.answers("/in", *[answer(503) if n % 5 == 0 else OK for n in range(60)], OK)
    await shop.publish(endpoint, 30, fifo=True)
    wanted = [
        ids.to_text(ids.EVENT, row[0])
        for row in await shop.sql("SELECT event_id FROM delivery_queue ORDER BY seq")
    ]

    async with open_worker(shop), open_worker(shop, name="test:2"):
        await all_settled(shop)

    seen = list(dict.fromkeys(request.id for request in receiver.requests))
    assert (seen, receiver.peak["/in"]) == (wanted, 1)


async def test_cap_holds_over_workers(shop: Workshop, receiver: Receiver) -> None:
    """Three workers together never open more requests to an endpoint than its cap."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=3)
    await shop.publish(endpoint, 200)

    async with open_worker(shop), open_worker(shop, name="test:2"), open_worker(shop, name="test:3"):
        await all_settled(shop)

    assert len(receiver.requests) == 200
    assert receiver.peak["/in"] <= 3


async def test_a_slow_record_holds_up_no_place(
    shop: Workshop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place is free once the request has succeeded: one at a time goes out, and several share a record."""
    # Only the answer brings the lane back before the record does.
    monkeypatch.setattr("workers.lanes.FULL_PARK_SECONDS", 60.0)
    monkeypatch.setattr("workers.lanes.MAX_PARK_SECONDS", 60.0)
    monkeypatch.setattr("workers.recorder.MOST_WAIT_SECONDS", 60.0)
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=1)
    await shop.publish(endpoint, 30)
    records = 0

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal records
        records += "INSERT INTO attempts" in statement

    async with open_worker(shop, worker_flush_seconds=0.3) as worker:
        event.listen(worker.engine.sync_engine, "before_cursor_execute", note)
        await all_settled(shop)

    assert (len(receiver.requests), receiver.peak["/in"]) == (30, 1)
    assert records < 30


async def test_a_circuit_that_closed_a_moment_ago_waits_for_records(
    shop: Workshop, receiver: Receiver
) -> None:
    """While the room ramps up no place is used again: each step is what is on record."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=100, runtime={"ramp": 1})
    await shop.publish(endpoint, 3)

    async with open_worker(shop, worker_flush_seconds=0.3):
        await receiver.until(lambda: len(receiver.requests) >= 2)
        # The first one went alone, and was on record before the second one.
        assert await shop.value("SELECT count(*) FROM attempts") >= 1
        await all_settled(shop)


async def test_places_of_leases_that_are_nearly_over_are_kept(
    shop: Workshop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a lease might be lost before the claim is through, its place is not used again: each has its own record."""
    monkeypatch.setattr("workers.drain.REUSE_SECONDS", 3_600.0)
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=1)
    await shop.publish(endpoint, 5)

    async with open_worker(shop):
        await all_settled(shop)

    assert (len(receiver.requests), receiver.peak["/in"]) == (5, 1)
    assert await shop.value("SELECT count(DISTINCT xmin::text) FROM attempts") == 5


async def test_a_claim_that_took_too_long_sends_nothing_on_used_places(
    shop: Workshop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries claimed on places whose leases may be lost by now are given back unsent, and go later."""
    monkeypatch.setattr("workers.drain.REUSE_SECONDS", 0.0)
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=1)
    await shop.publish(endpoint, 10)

    async with open_worker(shop, worker_flush_seconds=0.1):
        await all_settled(shop)

    assert (len(receiver.requests), receiver.peak["/in"]) == (10, 1)
    assert await shop.value("SELECT count(DISTINCT xmin::text) FROM attempts") == 10


async def test_host_limit_holds(shop: Workshop, receiver: Receiver) -> None:
    """Many endpoints of one host share the process's soft cap for it."""
    for n in range(6):
        await shop.publish(await shop.endpoint(url=receiver.url(f"/{n}")), 10)

    async with open_worker(shop, worker_host_limit=2):
        await all_settled(shop)

    assert len(receiver.requests) == 60
    assert max(company for _, company in receiver.company) <= 2


async def test_suspects_are_sent_alone(shop: Workshop, receiver: Receiver) -> None:
    """Deliveries that lost a worker go one at a time with nothing beside them; the others go on in between."""
    ordinary = await shop.endpoint(url=receiver.url("/ordinary"), max_in_flight=50)
    suspected = await shop.endpoint(url=receiver.url("/suspect"), max_in_flight=50)
    await shop.publish(suspected, 12)
    await shop.sql("UPDATE delivery_queue SET lost_count = 1")
    await shop.publish(ordinary, 60)

    async with open_worker(shop):
        await all_settled(shop)

    assert {company for path, company in receiver.company if path == "/suspect"} == {1}
    assert (len(receiver.at("/suspect")), len(receiver.at("/ordinary"))) == (12, 60)
    assert await shop.value("SELECT count(*) FROM attempts WHERE outcome <> 'succeeded'") == 0


async def test_hung_suspects_do_not_stop_the_others(shop: Workshop, receiver: Receiver) -> None:
    """While suspects time out one by one, the others have their turns."""
    suspected = await shop.endpoint(url=receiver.url("/suspect"), timeout_seconds=2, retry_schedule=[3600])
    receiver.waits("/suspect")
    await shop.publish(suspected, 10)
    await shop.sql("UPDATE delivery_queue SET lost_count = 1")
    ordinary = await shop.endpoint(url=receiver.url("/ordinary"))

    async with open_worker(shop):
        await receiver.until(lambda: receiver.open["/suspect"])
        await shop.publish(ordinary, 20)
        await receiver.until(lambda: len(receiver.at("/ordinary")) == 20)

    assert len(receiver.at("/suspect")) < 10


async def test_suspects_that_wait_keep_their_leases(shop: Workshop, receiver: Receiver) -> None:
    """However long the queue of suspects, none of them loses its lease, and each is attempted once."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=50, timeout_seconds=1)
    may_answer = receiver.waits("/in")
    await shop.publish(endpoint, 4)
    await shop.sql("UPDATE delivery_queue SET lost_count = 1")
    timeouts = 2

    async with open_worker(shop, lease_margin_seconds=0.6):
        await receiver.until(lambda: len(receiver.requests) == timeouts + 1)
        may_answer.set()
        await all_settled(shop)

    assert await shop.value("SELECT count(*) FROM attempts WHERE outcome = 'unknown'") == 0


async def test_stop_finishes_what_is_under_way(shop: Workshop, receiver: Receiver) -> None:
    """A stop waits for the requests in flight and records them; nothing new is begun."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=4)
    may_answer = receiver.waits("/in")
    await shop.publish(endpoint, 10)

    async with open_worker(shop) as worker:
        await receiver.until(lambda: receiver.open["/in"] == 4)
        stopping = asyncio.ensure_future(worker.stop())
        await asyncio.sleep(0)
        may_answer.set()
        await stopping

    assert len(receiver.requests) == 4
    assert await states(shop) == {"succeeded": 4, "pending": 6}
    await at_rest(shop)


async def test_stop_hands_back_what_was_not_sent(shop: Workshop, receiver: Receiver) -> None:
    """At the end of the grace, what never left is ready for the next worker; what did may have arrived."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=4)
    receiver.waits("/in")
    await shop.publish(endpoint, 4)

    async with open_worker(shop, worker_host_limit=1) as worker:
        await receiver.until(lambda: receiver.open["/in"] == 1)
        await shop.until("SELECT count(*) = 4 FROM delivery_queue WHERE state = 1", what="all are claimed")
        await worker.stop(grace_seconds=0.05)

    rows = await shop.sql("SELECT state, count(*) FROM delivery_queue GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in rows] == [(0, 3), (1, 1)]
    assert await shop.value("SELECT count(*) FROM attempts") == 0
    assert (await shop.runtime(endpoint)).in_flight == 1


async def test_lost_worker_is_made_good(shop: Workshop, receiver: Receiver) -> None:
    """What a worker had in flight when it vanished is delivered by another one after its lease; both are on record."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=4)
    receiver.waits("/in")
    deliveries = await shop.publish(endpoint, 4)
    async with open_worker(shop) as worker:
        await receiver.until(lambda: receiver.open["/in"] == 4)
        await worker.stop(grace_seconds=0.0)
    await shop.end_leases()
    receiver.answers("/in", OK)

    async with open_worker(shop, name="test:2"):
        await all_settled(shop)

    for delivery in deliveries:
        assert await outcomes(shop, delivery) == [("unknown", None, "worker_lost"), ("succeeded", 200, None)]
    assert len({request.id for request in receiver.requests}) == 4


async def test_results_survive_a_database_that_goes_away(shop: Workshop, receiver: Receiver) -> None:
    """Results in hand are recorded when Postgres is back; every request has its attempt, none has two."""
    address = shop.transactional.url
    proxy = await TcpProxy(address.host, address.port).start()
    url = address.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=4)
    may_answer = receiver.waits("/in")
    await shop.publish(endpoint, 20)

    async with open_worker(shop, url=url, database_connect_timeout_seconds=2.0):
        await receiver.until(lambda: receiver.open["/in"] == 4)
        await proxy.refuse()
        proxy.reset()
        may_answer.set()
        await receiver.until(lambda: not receiver.open["/in"])
        await proxy.accept()
        await all_settled(shop)
    await proxy.stop()

    assert len(receiver.requests) == 20
    assert await states(shop) == {"succeeded": 20}
    assert await shop.value("SELECT count(*) FROM attempts WHERE outcome = 'succeeded'") == 20


async def test_broken_secret_stops_its_own_endpoint(shop: Workshop, receiver: Receiver) -> None:
    """An endpoint whose secret cannot be opened is sent nothing unsigned, uses up nothing, and is not hammered on."""
    broken = await shop.endpoint(url=receiver.url("/broken"))
    await shop.sql("UPDATE endpoint_secrets SET sealed_secret = decode('00', 'hex')")
    (delivery,) = await shop.publish(broken)
    good = await shop.endpoint(url=receiver.url("/good"))
    await shop.publish(good, 5)
    token = await shop.value("SELECT nextval('delivery_lease_seq')")

    async with open_worker(shop):
        await receiver.until(lambda: len(receiver.at("/good")) == 5)
        await shop.until("SELECT state = 2 FROM delivery_queue WHERE id = :id", what="it waits", id=delivery)

    row = await shop.queue_row(delivery)
    assert (receiver.at("/broken"), await shop.attempts(delivery)) == ([], [])
    assert (row.schedule_step, row.attempt_count, row.due_in > 5) == (0, 0, True)
    # Each lease takes a number: it was claimed once, and not again and again.
    assert await shop.value("SELECT nextval('delivery_lease_seq')") - token == 7


async def test_erased_event_is_not_sent(shop: Workshop, receiver: Receiver) -> None:
    """Where the data is gone there is nothing to send: the delivery is cancelled."""
    endpoint = await shop.endpoint(url=receiver.url("/in"))
    await shop.publish(endpoint)
    await shop.sql("UPDATE events SET data = NULL, data_erased_at = now()")

    async with open_worker(shop):
        await all_settled(shop)

    assert (receiver.requests, await states(shop)) == ([], {"cancelled": 1})


async def test_test_of_a_paused_endpoint_is_sent_once(shop: Workshop, receiver: Receiver) -> None:
    """A test goes past a pause, has one attempt, and leaves the endpoint's health alone."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), paused=True)
    receiver.answers("/in", answer(503, "Retry-After: 60"))
    test, waiting = await shop.publish(endpoint, 2)
    await shop.sql("UPDATE delivery_queue SET rank = -1, trigger = 3 WHERE id = :id", id=test)

    async with open_worker(shop):
        await shop.until(
            "SELECT state = 'dead' FROM deliveries WHERE id = :id", what="it has its result", id=test
        )

    runtime = await shop.runtime(endpoint)
    assert (len(receiver.requests), (await shop.queue_row(waiting)).state) == (1, 0)
    assert (runtime.consecutive_failures, runtime.held_until, runtime.in_flight) == (0, None, 0)


async def test_wide_fan_out_is_expanded_and_delivered(shop: Workshop, receiver: Receiver) -> None:
    """An event for more endpoints than a publish writes reaches all of them."""
    endpoints = [await shop.endpoint(url=receiver.url(f"/{n}")) for n in range(30)]
    await shop.accept(shop.submission(endpoints), inline=5)

    async with open_worker(shop) as worker:
        worker.drain.kick()
        await receiver.until(lambda: len(receiver.requests) == 30)
        await all_settled(shop)

    assert {request.path for request in receiver.requests} == {f"/{n}" for n in range(30)}


async def test_wide_fan_out_needs_no_wake_up(shop: Workshop, receiver: Receiver) -> None:
    """One that is accepted while nobody is told is found by a worker's own look."""
    endpoint = await shop.endpoint(url=receiver.url("/in"))
    many = [endpoint, *await shop.copies(endpoint, 9)]

    async with open_worker(shop, sweep_seconds=0.1, worker_poll_seconds=0.1):
        # Its first look is over: it found nothing, and nobody says that there is more.
        await shop.publish(endpoint)
        await receiver.until(lambda: len(receiver.requests) == 1)
        await shop.accept(shop.submission(many), inline=5)
        await receiver.until(lambda: len(receiver.requests) == 11)
        await all_settled(shop)


async def test_both_secrets_sign_during_a_rotations_grace(shop: Workshop, receiver: Receiver) -> None:
    """While the grace lasts a receiver with either secret verifies; after it the old one does not."""
    endpoint = await shop.endpoint(url=receiver.url("/in"))
    old, expired = ids.uuid7(11), ids.uuid7(12)
    for row, secret, ends in (
        (old, "whsec_" + "b2xk" * 8, "1 hour"),
        (expired, "whsec_" + "ZW5k" * 8, "-1 second"),
    ):
        sealed = shop.keyring.seal(secret.encode(), row=row, column="sealed_secret")
        await shop.sql(
            "INSERT INTO endpoint_secrets (id, endpoint_id, sealed_secret, expires_at)"
            " VALUES (:id, :endpoint, :sealed, now() + CAST(:ends AS interval))",
            id=row, endpoint=endpoint, sealed=sealed, ends=ends,
        )  # fmt: skip
    seen = []
    for secret in (SECRET, "whsec_" + "b2xk" * 8, "whsec_" + "ZW5k" * 8):
        receiver.secret = secret
        await shop.publish(endpoint)
        async with open_worker(shop):
            await all_settled(shop)
        seen.append(receiver.requests[-1].verified)

    assert seen == [True, True, False]
    assert len(receiver.requests[-1].headers["webhook-signature"].split(" ")) == 2


async def test_changed_settings_reach_the_worker(shop: Workshop, receiver: Receiver) -> None:
    """A new URL is used from the next claim on, whatever the worker remembers."""
    endpoint = await shop.endpoint(url=receiver.url("/old"))

    async with open_worker(shop):
        await shop.publish(endpoint)
        await all_settled(shop)
        await shop.sql("UPDATE endpoints SET url = :url, settings_version = 2", url=receiver.url("/new"))
        await shop.sql("UPDATE endpoint_runtime SET settings_version = 2")
        await shop.publish(endpoint)
        await all_settled(shop)

    assert [request.path for request in receiver.requests] == ["/old", "/new"]


async def test_kick_is_faster_than_any_interval(
    shop: Workshop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wake-up finds work at once where the loop would look by itself after a minute."""
    monkeypatch.setattr("workers.drain.PROMOTE_SECONDS", 60.0)
    endpoint = await shop.endpoint(url=receiver.url("/in"))

    async with open_worker(shop, worker_poll_seconds=60.0, sweep_seconds=60.0) as worker:
        begun = worker.drain.last_round_at
        await wait_until(lambda: worker.drain.last_round_at > begun, seconds=30, what="it has looked once")
        await shop.publish(endpoint)
        worker.drain.kick()
        await receiver.until(lambda: receiver.requests, seconds=20)
        await all_settled(shop)


async def test_hang_up_is_a_failure_and_retried(shop: Workshop, receiver: Receiver) -> None:
    """A connection that ends without an answer is an attempt that failed."""
    endpoint = await shop.endpoint(url=receiver.url("/in"), retry_schedule=[0])

    async def script(n: int, _request: Received) -> bytes | None:
        return OK if n else None

    receiver.scripts["/in"] = script
    (delivery,) = await shop.publish(endpoint)

    async with open_worker(shop):
        await all_settled(shop)

    assert [(outcome, status) for outcome, status, _ in await outcomes(shop, delivery)] == [
        ("failed", None),
        ("succeeded", 200),
    ]
