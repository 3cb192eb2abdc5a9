"""The circuit of an endpoint, in the database: what opens it, what it lets through, and what closes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from app.core import metrics
from app.core.db import make_engine
from app.core.settings import Settings
from app.deliveries import ranks, recover
from app.deliveries.circuit import in_window
from app.deliveries.circuit_changes import settle_circuits
from app.deliveries.claim import claim
from app.deliveries.record import Settle
from tests.integration.engine.receiver import OK, answer, open_receiver
from tests.integration.engine.worker import open_worker
from workers.recorder import Recorder

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Row

    from app.deliveries.claim import Claimed, LaneResult
    from app.deliveries.record import Recorded
    from tests.integration.engine.making import Workshop
    from tests.integration.engine.receiver import Received

SETTLES = {"f": Settle.RETRY, "s": Settle.SUCCEEDED}


async def endpoint_of(shop: Workshop, **runtime: Any) -> UUID:
    """Make an endpoint with room for many requests."""
    return await shop.endpoint(max_in_flight=100, runtime=runtime)


async def flush(shop: Workshop, endpoint: UUID, outcomes: str, **changes: Any) -> Recorded:
    """Send new deliveries that end like this (s, f), and record them in one statement."""
    await shop.publish(endpoint, len(outcomes))
    claimed = await shop.claim(endpoint, share=len(outcomes))
    return await shop.record(
        *(
            shop.result(item, SETTLES[outcome], **changes)
            for item, outcome in zip(claimed, outcomes, strict=True)
        )
    )


async def settle(shop: Workshop, *endpoints: UUID) -> list[str]:
    """Decide about circuits, as the recorder does; return the states that they went to."""
    async with shop.transaction() as connection:
        made = await settle_circuits(connection, endpoints, jitter=lambda: 1.0)
    return [transition.target for _, transition in made]


async def circuit(shop: Workshop, endpoint: UUID) -> Row[Any]:
    """Return the runtime row; `probe_in` are seconds from now."""
    (row,) = await shop.sql(
        "SELECT *, extract(epoch FROM next_probe_at - now())::float8 AS probe_in FROM endpoint_runtime"
        " WHERE endpoint_id = :id",
        id=endpoint,
    )
    return row


async def transitions(shop: Workshop, endpoint: UUID) -> list[tuple[str, str]]:
    """Return what has happened to a circuit, oldest first."""
    rows = await shop.sql(
        "SELECT from_state, to_state FROM circuit_transitions WHERE endpoint_id = :id ORDER BY id",
        id=endpoint,
    )
    return [(row.from_state, row.to_state) for row in rows]


async def open_one(shop: Workshop, *, due: bool = False, **runtime: Any) -> UUID:
    """Make an endpoint whose circuit is open; `due`: the time of its probe has come."""
    endpoint = await endpoint_of(shop, **runtime)
    await shop.sql(
        "UPDATE endpoint_runtime SET circuit_state = 'open', circuit_opened_at = now(), circuit_openings = 1,"
        " circuit_reason = 'Failures.', consecutive_failures = 10,"
        " next_probe_at = now() + make_interval(secs => :wait) WHERE endpoint_id = :id",
        id=endpoint,
        wait=-1 if due else 30,
    )
    return endpoint


async def look(shop: Workshop, endpoint: UUID, *, share: int = 10) -> tuple[list[Claimed], LaneResult]:
    """Claim from one lane; return what was leased, and what the lane was found to be."""
    async with shop.engine.connect() as connection:
        claimed, (result,) = await claim(connection, [(endpoint, share)], margin_seconds=10, worker="w")
    return claimed, result


# --- Opening


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ("f" * 9, False),
        ("f" * 10, True),
        ("s" + "f" * 10, True),
        ("f" * 10 + "s", False),
        ("f" * 9 + "s" + "f" * 9, False),
        # 13 and 14 of 20, without ten in a row.
        ("ffffffsssffffffsssfs", False),
        ("fffffffsssfffffffsss", True),
        # 69 and 70 of 100.
        ("fffffffsss" * 9 + "ffffffssss", False),
        ("fffffffsss" * 10, True),
        # 14 of 19: too few to tell.
        ("fffffffssfffffffsss", False),
    ],
)
async def test_opens_by_failures_in_a_row_or_by_their_share(
    shop: Workshop,
    outcomes: str,
    opens: bool,  # noqa: FBT001 - an example of the table
) -> None:
    """Ten in a row, or 70 % of at least twenty, in the order of the results of one flush."""
    endpoint = await endpoint_of(shop)

    recorded = await flush(shop, endpoint, outcomes)
    moved = await settle(shop, endpoint)

    assert recorded.circuits == ((endpoint,) if opens else ())
    assert moved == (["open"] if opens else [])
    assert (await circuit(shop, endpoint)).circuit_state == ("open" if opens else "closed")


async def test_failures_in_a_row_may_come_in_many_flushes(shop: Workshop) -> None:
    """What opens a circuit is counted on the row, not in a worker: the tenth failure asks for a decision."""
    endpoint = await endpoint_of(shop)

    asked = [(await flush(shop, endpoint, "f")).circuits for _ in range(11)]

    # The eleventh asks again: whoever was to decide about the tenth may have died.
    assert asked == [()] * 9 + [(endpoint,)] * 2


@pytest.mark.parametrize("settled", [Settle.RETRY, Settle.DEAD, Settle.RELEASED])
async def test_what_does_not_count_opens_nothing(shop: Workshop, settled: Settle) -> None:
    """Tests, 410, blocked targets and what was handed back leave counters, window and circuit alone."""
    endpoint = await endpoint_of(shop)
    await shop.publish(endpoint, 25)
    claimed = await shop.claim(endpoint, share=25)

    recorded = await shop.record(*(shop.result(item, settled, counts=False) for item in claimed))

    row = await circuit(shop, endpoint)
    assert recorded.circuits == ()
    assert (row.consecutive_failures, sum(row.window_failed), sum(row.window_ok)) == (0, 0, 0)
    assert row.failing_since is None


async def test_lost_leases_open_nothing(shop: Workshop) -> None:
    """Workers that die are no failures of the receiver."""
    endpoint = await endpoint_of(shop)
    await shop.publish(endpoint, 12)
    await shop.claim(endpoint, share=12)
    await shop.end_leases()

    async with shop.engine.connect() as connection:
        lost = await recover.sweep_lost_leases(connection, unix_ms=shop.clock.unix_ms())

    row = await circuit(shop, endpoint)
    assert (lost, row.consecutive_failures, sum(row.window_failed)) == (12, 0, 0)


@pytest.mark.parametrize("age", [0, 1, 2, 3, 4, 5, 6, 1_000])
@pytest.mark.parametrize("offset", range(5))
async def test_window_forgets_minutes_that_have_passed(shop: Workshop, age: int, offset: int) -> None:
    """Results count for five minutes: the statement's slots are those of the pure rule, wherever the clock stands."""
    failed, ok = [1, 2, 4, 8, 16], [100, 200, 400, 800, 1_600]
    failed, ok = failed[offset:] + failed[:offset], ok[offset:] + ok[:offset]
    endpoint = await endpoint_of(shop)
    await shop.sql(
        "UPDATE endpoint_runtime SET window_ok = :ok, window_failed = :failed,"
        " window_minute = floor(extract(epoch FROM now()) / 60)::int - :age",
        ok=ok,
        failed=failed,
        age=age,
    )
    newest = (await circuit(shop, endpoint)).window_minute

    await flush(shop, endpoint, "sff")

    row = await circuit(shop, endpoint)
    assert sum(row.window_failed) == in_window(failed, newest_minute=newest, minute=row.window_minute) + 2
    assert sum(row.window_ok) == in_window(ok, newest_minute=newest, minute=row.window_minute) + 1


async def test_clock_that_goes_back_loses_no_counts(shop: Workshop) -> None:
    """After a failover to a server whose clock is behind, results go into the newest minute there is."""
    endpoint = await endpoint_of(shop)
    await shop.sql(
        "UPDATE endpoint_runtime SET window_failed = '{1,2,4,8,16}',"
        " window_minute = floor(extract(epoch FROM now()) / 60)::int + 60"
    )

    await flush(shop, endpoint, "f")

    assert sum((await circuit(shop, endpoint)).window_failed) == 32
    assert await settle(shop, endpoint) == ["open"]


async def test_opening_is_noted_and_told(shop: Workshop) -> None:
    """It says when the first probe is due and why it opened; operators get a notice without the URL's secrets."""
    endpoint = await endpoint_of(shop)
    await shop.sql("UPDATE endpoints SET url = 'https://receiver.example.com/hooks?token=secret'")
    await flush(shop, endpoint, "f" * 10)

    await settle(shop, endpoint)

    row = await circuit(shop, endpoint)
    assert (row.circuit_state, row.circuit_openings, 25 < row.probe_in <= 30) == ("open", 1, True)
    assert row.circuit_reason == "10 requests in a row failed."
    assert row.circuit_opened_at is not None
    ((kind, data),) = await shop.sql("SELECT type, data FROM notices")
    assert kind == "endpoint.circuit_opened"
    assert (data["url"], data["reason"]) == ("https://receiver.example.com/hooks", row.circuit_reason)
    assert (data["endpoint"], data["application"]) == (str(endpoint), str(shop.application_id))
    (noted,) = await shop.sql("SELECT * FROM circuit_transitions")
    assert (noted.from_state, noted.to_state, noted.reason, noted.actor) == (
        "closed",
        "open",
        row.circuit_reason,
        None,
    )
    assert (noted.workspace_id, noted.endpoint_id) == (shop.workspace_id, endpoint)


async def test_circuits_of_the_operations_application_cause_no_notices(shop: Workshop) -> None:
    """A broken receiver of notices does not bring more of them."""
    operations = await shop.application(uid="operations")
    endpoint = await shop.endpoint(application_id=operations, max_in_flight=100)
    await flush(shop, endpoint, "f" * 10)

    assert await settle(shop, endpoint) == ["open"]

    assert await shop.value("SELECT count(*) FROM notices") == 0


async def test_two_recorders_decide_once(shop: Workshop) -> None:
    """Workers that see the same failures at once make one transition and one notice."""
    endpoints = [await endpoint_of(shop) for _ in range(3)]
    for endpoint in endpoints:
        await flush(shop, endpoint, "f" * 10)

    made = await asyncio.gather(*(settle(shop, *endpoints) for _ in range(6)))

    assert sorted(map(len, made)) == [0, 0, 0, 0, 0, 3]
    assert [await transitions(shop, endpoint) for endpoint in endpoints] == [[("closed", "open")]] * 3
    assert await shop.value("SELECT count(*) FROM notices") == 3


async def test_failing_since_is_the_first_failure_after_a_success(shop: Workshop) -> None:
    """A success forgets it, and the warnings that it has brought."""
    endpoint = await endpoint_of(shop)
    times = [shop.clock.now().replace(year=year) for year in (2020, 2021, 2022, 2023)]
    for at in times[:2]:
        await flush(shop, endpoint, "f", started_at=at)
    since = (await circuit(shop, endpoint)).failing_since
    await shop.sql("UPDATE endpoint_runtime SET failure_warnings = 2")
    await flush(shop, endpoint, "sff", started_at=times[2])
    again = await circuit(shop, endpoint)
    await flush(shop, endpoint, "fs", started_at=times[3])
    after = await circuit(shop, endpoint)

    assert since == times[0]
    assert (again.failing_since, again.failure_warnings) == (times[2], 0)
    assert after.failing_since is None


# --- Open


async def test_open_circuit_sends_nothing_and_uses_up_no_attempt(shop: Workshop) -> None:
    """What waits stays as it is, and the lane says how long to leave it alone."""
    endpoint = await open_one(shop)
    (delivery,) = await shop.publish(endpoint)

    claimed, lane = await look(shop, endpoint)

    assert (claimed, lane.blocked, lane.room > 0) == ([], True, True)
    assert lane.wait_seconds is not None
    assert 25 < lane.wait_seconds <= 30
    row = await shop.queue_row(delivery)
    assert (row.state, row.attempt_count, row.schedule_step) == (0, 0, 0)


async def test_deadline_goes_on_while_open(shop: Workshop) -> None:
    """A delivery does not live longer because its receiver is broken."""
    endpoint = await open_one(shop, due=True)
    (delivery,) = await shop.publish(endpoint)
    await shop.sql("UPDATE delivery_queue SET deadline_at = now() - interval '1 second'")

    claimed, _ = await look(shop, endpoint)
    async with shop.engine.connect() as connection:
        await recover.expire(connection)

    assert claimed == []
    assert (await shop.delivery(delivery)).state == "dead"


async def test_what_a_person_asked_for_goes_through(shop: Workshop) -> None:
    """A forced retry skips the circuit, not the cap, and is no probe of an open circuit whose time has not come."""
    endpoint = await shop.endpoint(
        max_in_flight=2, runtime={"circuit_state": "open", "circuit_openings": 1, "consecutive_failures": 10}
    )
    await shop.publish(endpoint, 5)
    await shop.sql("UPDATE delivery_queue SET rank = :forced", forced=ranks.FORCED)

    claimed, _ = await look(shop, endpoint)

    assert len(claimed) == 2
    assert (await circuit(shop, endpoint)).circuit_state == "open"


async def test_held_open_is_never_probed(shop: Workshop) -> None:
    """Without a time of its probe a circuit stays open until a person moves it, and no worker spins on its lane."""
    endpoint = await open_one(shop)
    await shop.sql(
        "UPDATE endpoint_runtime SET next_probe_at = NULL, held_until = now() - interval '1 minute'"
    )
    await shop.publish(endpoint)

    claimed, lane = await look(shop, endpoint)

    assert (claimed, lane.blocked, lane.wait_seconds) == ([], True, None)


async def test_straggler_does_not_close(shop: Workshop) -> None:
    """A success of a request that began before the opening says nothing: the circuit stays open."""
    endpoint = await endpoint_of(shop)
    await shop.publish(endpoint, 3)
    stragglers = await shop.claim(endpoint)
    await flush(shop, endpoint, "f" * 10)
    await settle(shop, endpoint)

    recorded = await shop.record(*map(shop.result, stragglers))

    assert recorded.circuits == ()
    assert await settle(shop, endpoint) == []
    row = await circuit(shop, endpoint)
    assert (row.circuit_state, row.consecutive_failures, row.probe_in > 0) == ("open", 0, True)


@pytest.mark.parametrize("outcome", [Settle.SUCCEEDED, Settle.RETRY])
async def test_straggler_is_no_probe(shop: Workshop, outcome: Settle) -> None:
    """While half open, only requests that were leased since then count, whatever a worker's clock says."""
    endpoint = await endpoint_of(shop)
    await shop.publish(endpoint)
    (straggler,) = await shop.claim(endpoint)
    await shop.sql("UPDATE endpoint_runtime SET circuit_state = 'half_open', half_open_at = now()")

    later = shop.clock.now().replace(year=2_100)
    recorded = await shop.record(shop.result(straggler, outcome, started_at=later))

    assert (recorded.circuits, (await circuit(shop, endpoint)).probes_ok) == ((), 0)


# --- Half open


async def test_one_probe_at_a_time(shop: Workshop) -> None:
    """Eight workers that claim at once get one delivery between them, and so again after its success."""
    endpoint = await open_one(shop, due=True)
    await shop.publish(endpoint, 20)
    taken = []

    for _ in range(2):
        found = await asyncio.gather(*(shop.claim(endpoint) for _ in range(8)))
        claimed = [item for items in found for item in items]
        taken.append(len(claimed))
        await shop.record(*map(shop.result, claimed))

    assert taken == [1, 1]
    row = await circuit(shop, endpoint)
    assert (row.circuit_state, row.probes_ok, row.next_probe_at) == ("half_open", 2, None)
    assert await transitions(shop, endpoint) == [("open", "half_open")]


async def test_nothing_to_send_is_no_probe(shop: Workshop) -> None:
    """A probe that is due waits for a delivery: the circuit stays open until there is one."""
    endpoint = await open_one(shop, due=True)

    claimed, lane = await look(shop, endpoint)

    assert (claimed, lane.blocked) == ([], False)
    assert (await circuit(shop, endpoint)).circuit_state == "open"
    assert await transitions(shop, endpoint) == []


@pytest.mark.parametrize("hold", ["open = false", "held_until = now() + interval '1 minute'"])
async def test_probe_waits_for_other_holds(shop: Workshop, hold: str) -> None:
    """A pause and a `Retry-After` hold probes, too."""
    endpoint = await open_one(shop, due=True)
    await shop.publish(endpoint)
    await shop.sql(f"UPDATE endpoint_runtime SET {hold}")  # noqa: S608 - the test's own text

    claimed, lane = await look(shop, endpoint)

    assert (claimed, lane.blocked) == ([], True)
    assert (await circuit(shop, endpoint)).circuit_state == "open"


async def test_lost_probe_frees_its_place(shop: Workshop) -> None:
    """When the worker with the probe dies, the sweep lets the next one go, and nothing is counted."""
    endpoint = await open_one(shop, due=True)
    await shop.publish(endpoint, 2)
    await shop.claim(endpoint)
    before = await shop.claim(endpoint)
    await shop.end_leases()

    async with shop.engine.connect() as connection:
        await recover.sweep_lost_leases(connection, unix_ms=shop.clock.unix_ms())

    assert before == []
    assert len(await shop.claim(endpoint)) == 1
    row = await circuit(shop, endpoint)
    assert (row.circuit_state, row.probes_ok) == ("half_open", 0)


async def test_probe_that_was_handed_back_says_nothing(shop: Workshop) -> None:
    """A worker that stops before it sent the probe leaves it to the next one."""
    endpoint = await open_one(shop, due=True)
    await shop.publish(endpoint)
    (probe,) = await shop.claim(endpoint)

    recorded = await shop.record(shop.result(probe, Settle.RELEASED))

    assert recorded.circuits == ()
    assert [item.id for item in await shop.claim(endpoint)] == [probe.id]


async def test_each_failed_probe_doubles_the_wait(shop: Workshop) -> None:
    """It opens again for 60, 120, ... seconds; operators hear of it once, and it is open since the first time."""
    endpoint = await endpoint_of(shop)
    await flush(shop, endpoint, "f" * 10)
    await settle(shop, endpoint)
    opened_at = (await circuit(shop, endpoint)).circuit_opened_at
    waits = []

    for _ in range(3):
        await shop.sql("UPDATE endpoint_runtime SET next_probe_at = now()")
        await shop.publish(endpoint)
        (probe,) = await shop.claim(endpoint)
        recorded = await shop.record(shop.result(probe, Settle.RETRY))
        assert recorded.circuits == (endpoint,)
        assert await settle(shop, endpoint) == ["open"]
        waits.append((await circuit(shop, endpoint)).probe_in)

    assert [round(wait / 60) for wait in waits] == [1, 2, 4]
    row = await circuit(shop, endpoint)
    assert (row.circuit_openings, row.circuit_opened_at, row.probes_ok) == (4, opened_at, 0)
    assert row.circuit_reason == "The probe failed."
    assert await shop.value("SELECT count(*) FROM notices") == 1


async def test_failed_probe_is_remembered_until_it_is_acted_upon(shop: Workshop) -> None:
    """If the worker that is to open it again dies, the next result does it, even a success."""
    endpoint = await open_one(shop, due=True)
    await shop.publish(endpoint, 2)
    for outcome in (Settle.RETRY, Settle.SUCCEEDED):
        (probe,) = await shop.claim(endpoint)
        recorded = await shop.record(shop.result(probe, outcome))

    assert recorded.circuits == (endpoint,)
    assert await settle(shop, endpoint) == ["open"]


async def test_closes_after_three_probes(shop: Workshop) -> None:
    """Two are not enough; closing forgets what was counted, and is told."""
    endpoint = await open_one(shop, due=True, window_failed=[9, 9, 9, 9, 9], window_minute=29_000_000)
    await shop.publish(endpoint, 3)
    asked = []

    for _ in range(3):
        (probe,) = await shop.claim(endpoint)
        asked.append((await shop.record(shop.result(probe))).circuits)
        moved = await settle(shop, endpoint)

    assert asked == [(), (), (endpoint,)]
    assert moved == ["closed"]
    row = await circuit(shop, endpoint)
    assert (row.circuit_state, row.circuit_reason, row.circuit_opened_at) == ("closed", None, None)
    assert (row.circuit_openings, row.next_probe_at, row.half_open_at, row.probes_ok) == (0, None, None, 0)
    assert (row.consecutive_failures, sum(row.window_failed), sum(row.window_ok)) == (0, 0, 0)
    assert await transitions(shop, endpoint) == [("open", "half_open"), ("half_open", "closed")]
    assert [row.type for row in await shop.sql("SELECT type FROM notices")] == ["endpoint.circuit_closed"]


async def test_load_comes_back_step_by_step(shop: Workshop) -> None:
    """After closing, 1, 2, 4, ... requests at a time; a failure halves that, and the cap of the endpoint ends it."""
    endpoint = await shop.endpoint(max_in_flight=10, runtime={"ramp": 1})
    await shop.publish(endpoint, 60)
    sizes = []

    for outcomes in ("s", "ss", "ssss", "ssssssfs", "ssss", "ssssssss", "ssssssssss"):
        claimed = await shop.claim(endpoint, share=50)
        sizes.append(len(claimed))
        assert {item.recovering for item in claimed} == {len(sizes) < 7}
        await shop.record(
            *(shop.result(item, SETTLES[outcome]) for item, outcome in zip(claimed, outcomes, strict=True))
        )

    assert sizes == [1, 2, 4, 8, 4, 8, 10]
    assert (await circuit(shop, endpoint)).ramp is None


async def test_closing_clears_nobody_elses_hold(shop: Workshop) -> None:
    """A `Retry-After` and a pause outlast successes and the end of the circuit."""
    endpoint = await open_one(shop, due=True)
    await shop.publish(endpoint, 3)
    (probe,) = await shop.claim(endpoint)
    await shop.sql(
        "UPDATE endpoint_runtime SET held_until = now() + interval '1 hour', held_reason = 'retry_after',"
        " open = false, probes_ok = 2"
    )

    await shop.record(shop.result(probe))

    assert await settle(shop, endpoint) == ["closed"]
    row = await shop.runtime(endpoint)
    assert (row.held_reason, row.held_for > 3_500, row.open) == ("retry_after", True, False)
    assert await shop.claim(endpoint) == []


# --- In a worker


async def test_recorder_survives_a_decision_that_fails(shop: Workshop) -> None:
    """Results are recorded though circuits cannot be settled; it is counted, and the next result settles it."""
    endpoint = await endpoint_of(shop)
    away = make_engine(
        Settings(environment="development", database_url="postgresql://nobody@127.0.0.1:9/none"),
        name="away",
        pool_size=1,
    )
    settled: list[int] = []
    failed_before = metrics.CIRCUITS_NOT_SETTLED._value.get()
    opened_before = metrics.CIRCUITS_OPENED._value.get()

    for transactions, count in ((away, 10), (shop.transactional, 1)):
        recorder = Recorder(
            engine=shop.engine,
            transactions=transactions,
            flush_seconds=0.002,
            settled=lambda done: settled.append(len(done)),
        )
        recorder.start()
        await shop.publish(endpoint, count)
        for item in await shop.claim(endpoint, share=count):
            recorder.add(shop.result(item, Settle.RETRY))
        async with asyncio.timeout(30):
            await recorder.drained()
        await recorder.stop()
        if count > 1:
            assert (await circuit(shop, endpoint)).circuit_state == "closed"
    await away.dispose()

    assert sum(settled) == 11
    assert metrics.CIRCUITS_NOT_SETTLED._value.get() > failed_before
    assert metrics.CIRCUITS_OPENED._value.get() == opened_before + 1
    assert (await circuit(shop, endpoint)).circuit_state == "open"


async def test_broken_receiver_is_left_alone_until_it_is_back(shop: Workshop) -> None:
    """A worker stops after the failures that open the circuit; a good probe, and everything is delivered."""
    async with open_receiver() as receiver:
        broken = True

        async def script(_n: int, _request: Received) -> bytes:
            return answer(500) if broken else OK

        receiver.scripts["/"] = script
        endpoint = await shop.endpoint(url=receiver.url(), max_in_flight=2, retry_schedule=[0] * 20)
        await shop.publish(endpoint, 30)
        async with open_worker(shop):
            await shop.until(
                "SELECT circuit_state = 'open' AND in_flight = 0 FROM endpoint_runtime", what="it opens"
            )
            failures = len(receiver.requests)
            broken = False
            await shop.sql("UPDATE endpoint_runtime SET next_probe_at = now()")
            await shop.until(
                "SELECT count(*) = 30 FROM deliveries WHERE state = 'succeeded'", what="all are delivered"
            )
    assert 10 <= failures <= 14
    assert await transitions(shop, endpoint) == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    # While it was open, nobody lost an attempt to it.
    assert await shop.value("SELECT count(*) FROM attempts WHERE outcome = 'failed'") == failures
