"""The circuit of an endpoint through the API, and FIFO lines that a dead delivery holds up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.deliveries.circuit_changes import settle_circuits
from app.deliveries.record import Settle
from tests.integration.api.traffic import Traffic, uuid_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from fastapi import FastAPI
    from sqlalchemy import Row

    from tests.integration.api.conftest import MakeKey

HELD_OPEN = "Held open by a person: nothing is sent until somebody closes or probes it."
ROUTES = [("GET", ""), ("POST", "/close"), ("POST", "/open"), ("POST", "/probe")]


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def sql(traffic: Traffic, statement: str, **values: Any) -> list[Row[Any]]:
    """Run a statement."""
    async with traffic.app.state.runtime.engine.begin() as connection:
        result = await connection.execute(text(statement), values)
        return list(result.all()) if result.returns_rows else []


async def break_down(traffic: Traffic, endpoint: dict[str, Any]) -> None:
    """Let the endpoint fail until its circuit opens."""
    await sql(traffic, "UPDATE endpoint_runtime SET consecutive_failures = 10")
    async with traffic.app.state.runtime.engine.begin() as connection:
        await settle_circuits(connection, [uuid_of(endpoint)])


async def history(traffic: Traffic, endpoint: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Return the transitions, oldest first: from, to, and whether a person did it."""
    rows = (await traffic.get(f"/v1/endpoints/{endpoint['id']}/circuit"))["data"]
    return [(row["from_state"], row["to_state"], row["actor"] is not None) for row in reversed(rows)]


async def test_open_circuit_is_shown(traffic: Traffic) -> None:
    """Health, the list's filter, and what waits say that the circuit is open, why, and until when."""
    made = await traffic.endpoint()
    event = await traffic.publish()
    await break_down(traffic, made)

    health = (await traffic.get(f"/v1/endpoints/{made['id']}"))["health"]
    assert (health["state"], health["reason"]) == ("open", "10 requests in a row failed.")
    assert (health["consecutive_failures"], health["opened_at"] is not None) == (10, True)
    delivery = await traffic.delivery_of(event)
    assert delivery["waiting"] == {"reason": "circuit_open", "until": health["next_probe_at"]}
    assert delivery["next_attempt_at"] == health["next_probe_at"] is not None
    listed = (await traffic.get("/v1/endpoints?health=open"))["data"]
    assert [item["id"] for item in listed] == [made["id"]]
    queue = (await traffic.get("/v1/stats"))["queue"]
    assert (queue["due"], queue["scheduled"]) == (0, 1)


async def test_close_lets_everything_go(traffic: Traffic) -> None:
    """What was counted is forgotten, the load comes back one request at a time, and a second close changes nothing."""
    made = await traffic.endpoint()
    await traffic.publish()
    await traffic.publish()
    await break_down(traffic, made)
    path = f"/v1/endpoints/{made['id']}/circuit/close"

    health = (await traffic.post(path, status=200))["health"]
    await traffic.post(path, status=200)

    assert (health["state"], health["reason"], health["consecutive_failures"]) == ("closed", None, 0)
    assert (health["opened_at"], health["next_probe_at"]) == (None, None)
    assert len(await traffic.claim(made)) == 1
    assert await history(traffic, made) == [("closed", "open", False), ("open", "closed", True)]
    (entry,) = (await traffic.get("/v1/audit-log?action=endpoint.circuit_closed"))["data"]
    assert (entry["object"]["id"], entry["before"], entry["after"]) == (
        made["id"],
        {"circuit": "open"},
        {"circuit": "closed"},
    )
    told = await sql(traffic, "SELECT type FROM notices ORDER BY id")
    assert [row.type for row in told] == ["endpoint.circuit_opened", "endpoint.circuit_closed"]


@pytest.mark.parametrize("broken", [True, False])
async def test_held_open_stays_open(traffic: Traffic, *, broken: bool) -> None:
    """Nothing is sent or probed, whatever the state was before, until somebody asks for it."""
    made = await traffic.endpoint()
    event = await traffic.publish()
    if broken:
        await break_down(traffic, made)
    path = f"/v1/endpoints/{made['id']}/circuit"

    for _ in range(2):
        health = (await traffic.post(f"{path}/open", status=200))["health"]

    assert (health["state"], health["reason"], health["next_probe_at"]) == ("open", HELD_OPEN, None)
    assert await traffic.claim(made) == []
    assert (await traffic.delivery_of(event))["waiting"] == {"reason": "circuit_open", "until": None}
    assert (await history(traffic, made))[-1] == ("open" if broken else "closed", "open", True)
    assert len(await history(traffic, made)) == (2 if broken else 1)
    await traffic.post(f"{path}/probe", status=200)
    assert len(await traffic.claim(made)) == 1


async def test_probe_now(traffic: Traffic) -> None:
    """The next delivery goes at once, one alone; while it is under way, asking again changes nothing."""
    made = await traffic.endpoint()
    for _ in range(3):
        await traffic.publish()
    await break_down(traffic, made)
    path = f"/v1/endpoints/{made['id']}/circuit/probe"

    await traffic.post(path, status=200)
    (probe,) = await traffic.claim(made)
    again = await traffic.post(path, status=200)

    assert again["health"]["state"] == "half_open"
    assert await traffic.claim(made) == []
    await traffic.finish(probe)
    assert len(await traffic.claim(made)) == 1
    assert await history(traffic, made) == [
        ("closed", "open", False),
        ("open", "open", True),
        ("open", "half_open", False),
    ]


async def test_closed_circuit_has_nothing_to_probe(traffic: Traffic) -> None:
    """409 says so, and what to do instead."""
    made = await traffic.endpoint()

    problem = await traffic.post(f"/v1/endpoints/{made['id']}/circuit/probe", status=409)

    assert f"POST /v1/endpoints/{made['id']}/test" in problem["detail"]
    assert await history(traffic, made) == []


@pytest.mark.parametrize("through", ["enable", "patch"])
async def test_enabling_closes_the_circuit(traffic: Traffic, through: str) -> None:
    """Who enables an endpoint says that it works again: nothing of its failures is left."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    await break_down(traffic, made)
    await traffic.post(f"{path}/disable", status=200)
    await sql(traffic, "UPDATE endpoint_runtime SET failing_since = now(), failure_warnings = 2")

    if through == "enable":
        await traffic.post(f"{path}/enable", status=200)
    else:
        answer = await traffic.client.patch(path, json={"enabled": True}, headers=traffic.headers)
        assert answer.status_code == 200

    health = (await traffic.get(path))["health"]
    assert (health["state"], health["consecutive_failures"]) == ("closed", 0)
    assert (await history(traffic, made))[-1] == ("open", "closed", True)
    ((since, warnings),) = await sql(traffic, "SELECT failing_since, failure_warnings FROM endpoint_runtime")
    assert (since, warnings) == (None, 0)


async def test_closing_ends_no_pause(traffic: Traffic) -> None:
    """A pause and a `Retry-After` are other people's business."""
    made = await traffic.endpoint()
    await traffic.publish()
    await break_down(traffic, made)
    await traffic.post(f"/v1/endpoints/{made['id']}/pause", status=200)
    await sql(
        traffic,
        "UPDATE endpoint_runtime SET held_until = now() + interval '1 hour', held_reason = 'retry_after'",
    )

    shown = await traffic.post(f"/v1/endpoints/{made['id']}/circuit/close", status=200)

    assert shown["paused"] is True
    assert await traffic.claim(made) == []
    ((reason,),) = await sql(traffic, "SELECT held_reason FROM endpoint_runtime")
    assert reason == "retry_after"


async def test_history_has_pages(traffic: Traffic) -> None:
    """Newest first; cursors lead to the end and back, and a cursor of another list finds nothing wrong."""
    made, other = await traffic.endpoint(), await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}/circuit"
    for _ in range(3):
        await traffic.post(f"{path}/open", status=200)
        await traffic.post(f"{path}/close", status=200)
    await traffic.post(f"/v1/endpoints/{other['id']}/circuit/open", status=200)

    whole = await traffic.get(path)
    first = await traffic.get(f"{path}?limit=4")
    second = await traffic.get(f"{path}?limit=4&cursor={first['next_cursor']}")
    back = await traffic.get(f"{path}?limit=4&cursor={second['prev_cursor']}")

    assert len(whole["data"]) == 6
    assert whole["data"][0]["to_state"] == "closed"
    assert whole["health"]["state"] == "closed"
    assert first["data"] + second["data"] == whole["data"]
    assert (second["next_cursor"], back["data"]) == (None, first["data"])
    foreign = (await traffic.get("/v1/endpoints?limit=1"))["next_cursor"]
    assert len((await traffic.get(f"{path}?cursor={foreign}"))["data"]) == 6
    await traffic.get(f"{path}?cursor=nonsense", status=422)


@pytest.mark.parametrize(("method", "suffix"), ROUTES)
async def test_circuits_of_others_do_not_exist(
    traffic: Traffic, other_admin: dict[str, str], method: str, suffix: str
) -> None:
    """404 for another workspace's endpoint, for a malformed id, and for one that was deleted."""
    made, gone = await traffic.endpoint(), await traffic.endpoint()
    await traffic.client.delete(f"/v1/endpoints/{gone['id']}", headers=traffic.headers)

    for endpoint, headers in (
        (made["id"], other_admin),
        ("ep_nonsense", traffic.headers),
        (gone["id"], traffic.headers),
    ):
        answer = await traffic.client.request(
            method, f"/v1/endpoints/{endpoint}/circuit{suffix}", headers=headers
        )
        assert answer.status_code == 404
    assert await sql(traffic, "SELECT 1 FROM circuit_transitions") == []


async def test_who_may(traffic: Traffic, make_key: MakeKey, headers: Callable[[str], dict[str, str]]) -> None:
    """Operators move circuits, viewers look at them."""
    made = await traffic.endpoint()
    seen = {}
    for role in ("operator", "viewer", "publisher"):
        key = headers(await make_key(role))
        seen[role] = [
            (
                await traffic.client.request(
                    method, f"/v1/endpoints/{made['id']}/circuit{suffix}", headers=key
                )
            ).status_code
            for method, suffix in ROUTES
        ]
    assert seen == {
        "operator": [200, 200, 200, 200],
        "viewer": [200, 403, 403, 403],
        "publisher": [403, 403, 403, 403],
    }


# --- FIFO lines


async def blocked_line(traffic: Traffic) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Make a FIFO endpoint whose first delivery of three is dead; return it and the deliveries."""
    made = await traffic.endpoint(ordering="fifo", fifo_on_dead="block")
    events = [await traffic.publish() for _ in range(3)]
    await traffic.attempt(made, Settle.DEAD)
    return made, [await traffic.delivery_of(event) for event in events]


async def states(traffic: Traffic, deliveries: list[dict[str, Any]]) -> list[str]:
    """Return what became of deliveries: the state, or why they wait."""
    shown = [await traffic.get(f"/v1/deliveries/{item['id']}") for item in deliveries]
    return [item["waiting"]["reason"] if item["waiting"] else item["state"] for item in shown]


async def test_blocked_line_says_so(traffic: Traffic) -> None:
    """What waits behind a dead head has no time, for a person must act; it is not due in the figures."""
    made, deliveries = await blocked_line(traffic)

    assert await traffic.claim(made) == []
    assert await states(traffic, deliveries) == ["dead", "fifo_blocked", "fifo_blocked"]
    shown = await traffic.get(f"/v1/deliveries/{deliveries[1]['id']}")
    assert (shown["waiting"]["until"], shown["next_attempt_at"]) == (None, None)
    assert (await traffic.get("/v1/stats"))["queue"]["due"] == 0


async def test_retried_head_goes_first_and_lets_the_line_go_on(traffic: Traffic) -> None:
    """It keeps its place through failures of its own; its success ends the block, and the order holds."""
    made, deliveries = await blocked_line(traffic)
    order = []
    await traffic.post(f"/v1/deliveries/{deliveries[0]['id']}/retry", status=202)

    for settle in (Settle.RETRY, Settle.SUCCEEDED, Settle.SUCCEEDED, Settle.SUCCEEDED):
        (claimed,) = await traffic.claim(made)
        order.append(claimed.id)
        await traffic.finish(claimed, settle)
        if settle is Settle.RETRY:
            assert await traffic.claim(made) == []
            assert await states(traffic, deliveries) == ["backoff", "fifo_blocked", "fifo_blocked"]
            await sql(traffic, "UPDATE endpoint_runtime SET held_until = now()")

    first, second, third = map(uuid_of, deliveries)
    assert order == [first, first, second, third]


async def test_head_that_dies_again_still_blocks(traffic: Traffic) -> None:
    """A retry that fails for good changes nothing for those behind it."""
    made, deliveries = await blocked_line(traffic)
    await traffic.post(f"/v1/deliveries/{deliveries[0]['id']}/retry", status=202)
    await traffic.attempt(made, Settle.DEAD)

    assert await traffic.claim(made) == []
    assert await states(traffic, deliveries) == ["dead", "fifo_blocked", "fifo_blocked"]


async def test_retried_head_outlasts_a_pause(traffic: Traffic) -> None:
    """While the endpoint is disabled nothing goes; enabled again, the head is still before all others."""
    made, deliveries = await blocked_line(traffic)
    await traffic.post(f"/v1/deliveries/{deliveries[0]['id']}/retry", status=202)
    await traffic.post(f"/v1/endpoints/{made['id']}/disable", status=200)
    assert await traffic.claim(made) == []
    await traffic.post(f"/v1/endpoints/{made['id']}/enable", status=200)

    (claimed,) = await traffic.claim(made)

    assert claimed.id == uuid_of(deliveries[0])


async def test_cancelling_the_retried_head_gives_it_up(traffic: Traffic) -> None:
    """Who cancels the head says that the line need not wait for it."""
    made, deliveries = await blocked_line(traffic)
    await traffic.post(f"/v1/deliveries/{deliveries[0]['id']}/retry", status=202)
    await traffic.post(f"/v1/deliveries/{deliveries[0]['id']}/cancel", status=200)

    (claimed,) = await traffic.claim(made)

    assert claimed.id == uuid_of(deliveries[1])


async def test_other_successes_do_not_end_the_block(traffic: Traffic) -> None:
    """A test that succeeds leaves the line where it is."""
    made, _ = await blocked_line(traffic)
    await traffic.post(f"/v1/endpoints/{made['id']}/test", status=202)
    await traffic.attempt(made)

    assert await traffic.claim(made) == []


@pytest.mark.parametrize("change", ["resume", {"fifo_on_dead": "skip"}, {"ordering": "none"}])
async def test_person_lets_the_line_go_on(traffic: Traffic, change: str | dict[str, Any]) -> None:
    """By resuming, though the endpoint is not paused, or by another setting; the dead delivery stays dead."""
    made, deliveries = await blocked_line(traffic)
    path = f"/v1/endpoints/{made['id']}"

    if isinstance(change, str):
        await traffic.post(f"{path}/{change}", status=200)
    else:
        answer = await traffic.client.patch(path, json=change, headers=traffic.headers)
        assert answer.status_code == 200

    claimed = await traffic.claim(made, most=1)
    assert [item.id for item in claimed] == [uuid_of(deliveries[1])]
    assert (await states(traffic, deliveries))[0] == "dead"


async def test_other_changes_do_not_end_the_block(traffic: Traffic) -> None:
    """Settings that have nothing to do with it leave the line where it is."""
    made, _ = await blocked_line(traffic)

    answer = await traffic.client.patch(
        f"/v1/endpoints/{made['id']}", json={"timeout_seconds": 20}, headers=traffic.headers
    )

    assert answer.json()["fifo_on_dead"] == "block"
    assert await traffic.claim(made) == []
