"""Dead deliveries that somebody dealt with by other means: marked as resolved, one by one or several at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from app.deliveries.record import Settle
from tests.integration.api.traffic import Traffic, uuid_of
from tests.integration.dashboard.test_dead_letters import LIST, dead
from tests.integration.dashboard.test_delivery import path_of, text_of

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

# Where the question is asked, and answered.
RESOLVE = LIST


async def test_only_a_dead_delivery_is_resolved(owner: Browser, traffic: Traffic) -> None:
    """One that waits, is being sent, has arrived or was cancelled stays as it is: 409, and a page that says why."""
    endpoint = await traffic.endpoint()
    waiting = await traffic.delivery_of(await traffic.publish())
    answer = await owner.submit(path_of(waiting, "/resolve"), at=path_of(waiting))
    assert answer.status_code == 409
    assert "The delivery is on its way" in text_of(answer.text)
    (claimed,) = await traffic.claim(endpoint)
    assert (await owner.submit(path_of(waiting, "/resolve"), at=path_of(waiting))).status_code == 409
    await traffic.finish(claimed)
    answer = await owner.submit(path_of(waiting, "/resolve"), at=path_of(waiting))
    assert answer.status_code == 409
    assert "The delivery is succeeded" in text_of(answer.text)
    assert "Mark resolved" not in (await owner.get(path_of(waiting))).text
    assert (await traffic.delivery_of({"id": waiting["event"]["id"]}))["state"] == "succeeded"


async def test_a_reason_that_cannot_be_kept_is_refused(owner: Browser, traffic: Traffic) -> None:
    """Too long, or with characters that nobody can read; nothing is marked."""
    event = await dead(traffic, await traffic.endpoint())
    delivery = await traffic.delivery_of(event)

    for reason in ("x" * 201, "a\x00b", "a\x1b[31mb", "\u202eabc"):
        answer = await owner.submit(path_of(delivery, "/resolve"), at=path_of(delivery), reason=reason)
        assert answer.status_code == 422, reason
        answer = await owner.submit(RESOLVE, at=LIST, one=delivery["id"], sure="1", reason=reason)
        assert answer.status_code == 422, reason
        # No form may hold a NUL; for the others the question is asked again, with what was typed.
        assert ('aria-invalid="true"' in answer.text) is ("\0" not in reason)
    assert (await traffic.delivery_of(event))["state"] == "dead"


async def test_a_viewer_resolves_nothing(browse_as: BrowseAs, traffic: Traffic) -> None:
    """No buttons; the forms are refused."""
    event = await dead(traffic, await traffic.endpoint())
    delivery = await traffic.delivery_of(event)
    viewer = await browse_as("viewer")

    for path in (LIST, f"{LIST}?flat=1", path_of(delivery)):
        page = (await viewer.get(path)).text
        assert "Mark resolved" not in page
        assert "Resolve…" not in page
    assert (await viewer.submit(path_of(delivery, "/resolve"), at=LIST)).status_code == 403
    assert (await viewer.submit(RESOLVE, at=LIST, one=delivery["id"], sure="1")).status_code == 403
    assert (await traffic.delivery_of(event))["state"] == "dead"


async def test_another_workspaces_delivery_is_not_resolved(
    owner: Browser, app: FastAPI, client: httpx2.AsyncClient, other_admin: dict[str, str]
) -> None:
    """Neither by its page nor by a list's form."""
    other = Traffic(app=app, client=client, headers=other_admin)
    endpoint = await other.endpoint()
    event = await dead(other, endpoint)
    delivery = await other.delivery_of(event)

    answer = await owner.submit(path_of(delivery, "/resolve"), at="/dashboard/")
    assert answer.status_code == 404
    for fields in ({"one": delivery["id"]}, {"group": f"{endpoint['id']} http_5xx"}):
        answer = await owner.submit(RESOLVE, at="/dashboard/", sure="1", **fields)
        assert answer.headers["location"].partition("n=")[2].startswith("0")
    assert (await other.delivery_of(event))["state"] == "dead"


async def test_resolved_it_is_no_dead_letter_and_says_who_and_how(
    browse_as: BrowseAs, traffic: Traffic
) -> None:
    """It leaves list and count, is cancelled on record, and its timeline has the reason."""
    operator = await browse_as("operator")
    event = await dead(traffic, await traffic.endpoint())
    delivery = await traffic.delivery_of(event)
    assert "gave up" in (await operator.get(LIST)).text

    answer = await operator.submit(
        path_of(delivery, "/resolve"), at=path_of(delivery), reason="  resent <b>by hand</b>,\n ticket 4711 "
    )

    assert answer.headers["location"] == path_of(delivery, "?done=resolved")
    page = (await operator.get(answer.headers["location"])).text
    shown = text_of(page)
    assert "marked as resolved: no dead letter any more" in shown
    assert "Marked as resolved" in shown
    assert "by operator@example.com: resent <b>by hand</b>, ticket 4711" in shown
    assert "resent <b>" not in page
    assert "Settled by other means" in shown
    page = (await operator.get(LIST)).text
    assert "Nothing has exhausted its retries" in page
    assert "Last one: never." not in page
    assert "gave up" not in page
    assert (await traffic.delivery_of(event))["state"] == "cancelled"
    (entry,) = (await traffic.get("/v1/audit-log?action=delivery.resolved"))["data"]
    assert entry["before"] == {"state": "dead"}
    assert entry["after"] == {"state": "cancelled", "reason": "resent <b>by hand</b>, ticket 4711"}


async def test_resolved_it_can_still_be_sent_again(owner: Browser, traffic: Traffic) -> None:
    """As every final one; if it dies again it is a dead letter again."""
    endpoint = await traffic.endpoint()
    event = await dead(traffic, endpoint)
    delivery = await traffic.delivery_of(event)
    await owner.submit(path_of(delivery, "/resolve"), at=path_of(delivery))

    await owner.submit(path_of(delivery, "/retry"), at=path_of(delivery))

    assert (await traffic.delivery_of(event))["state"] == "pending"
    await traffic.attempt(endpoint, Settle.DEAD)
    assert endpoint["id"] in (await owner.get(LIST)).text


async def test_a_line_that_waits_for_a_dead_one_goes_on(owner: Browser, traffic: Traffic) -> None:
    """Its head was dealt with, so what stands behind it may go; a line that waits for another one does not move."""
    endpoint = await traffic.endpoint(ordering="fifo", fifo_on_dead="block")
    held = await traffic.endpoint(ordering="fifo", fifo_on_dead="block")
    head = await traffic.publish()
    await traffic.publish()
    for each in (endpoint, held):
        await traffic.attempt(each, Settle.DEAD)
    assert await traffic.claim(endpoint) == []
    deliveries = (await traffic.get(f"/v1/events/{head['id']}/deliveries"))["data"]
    (mine,) = [each for each in deliveries if each["endpoint"]["id"] == endpoint["id"]]

    await owner.submit(path_of(mine, "/resolve"), at=path_of(mine))

    assert len(await traffic.claim(endpoint)) == 1
    assert await traffic.claim(held) == []
    async with traffic.app.state.runtime.engine.connect() as connection:
        blocked = await connection.scalar(
            text("SELECT fifo_blocked_by FROM endpoint_runtime WHERE endpoint_id = :id"),
            {"id": uuid_of(endpoint)},
        )
    assert blocked is None


async def test_several_are_asked_about_before_they_are_marked(owner: Browser, traffic: Traffic) -> None:
    """A page says how many, takes the reason, and only its own button does it."""
    endpoint = await traffic.endpoint()
    events = [await dead(traffic, endpoint) for _ in range(2)]
    other = await dead(traffic, endpoint, error_class="read_timeout", response_status=None)
    group = f"{endpoint['id']} http_5xx"

    asked = await owner.submit(RESOLVE, at=LIST, group=group, next=f"{LIST}?flat=1")

    assert asked.status_code == 200
    assert "Mark 2 dead letters as resolved?" in asked.text
    assert asked.text.count('name="pick"') == 2
    assert (await traffic.delivery_of(events[0]))["state"] == "dead"

    done = await owner.submit(
        RESOLVE, at=LIST, group=group, sure="1", reason="both by hand", next=f"{LIST}?flat=1"
    )

    assert done.headers["location"] == f"{LIST}?flat=1&done=resolved&n=2&left=0"
    page = (await owner.get(done.headers["location"])).text
    assert "2 deliveries are marked as resolved, and no dead letters any more." in page
    states = [(await traffic.delivery_of(event))["state"] for event in (*events, other)]
    assert states == ["cancelled", "cancelled", "dead"]


async def test_those_that_moved_meanwhile_are_counted_apart(owner: Browser, traffic: Traffic) -> None:
    """One was sent again by somebody: it is left alone, and the sentence says so."""
    endpoint = await traffic.endpoint()
    first, second = await dead(traffic, endpoint), await dead(traffic, endpoint)
    picks = [(await traffic.delivery_of(event))["id"] for event in (first, second)]
    await traffic.post(f"/v1/deliveries/{picks[0]}/retry", status=202)
    page = (await owner.get(f"{LIST}?flat=1")).text
    token = page.partition('name="csrf" value="')[2].partition('"')[0]

    answer = await owner.post(
        RESOLVE,
        content="&".join([f"csrf={token}", "sure=1", *(f"pick={pick}" for pick in picks)]),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )

    assert answer.headers["location"] == f"{LIST}?done=resolved&n=1&left=1"
    said = (await owner.get(answer.headers["location"])).text
    assert "1 delivery is marked as resolved, and no dead letter any more. 1 could not be: sent again" in said


@pytest.mark.parametrize(
    "back", ["https://elsewhere.example.com/", "javascript:alert(1)", "//evil.example.com"]
)
async def test_the_way_back_stays_here(owner: Browser, traffic: Traffic, back: str) -> None:
    """Whatever stands in the form."""
    delivery = await traffic.delivery_of(await dead(traffic, await traffic.endpoint()))

    asked = await owner.submit(RESOLVE, at=LIST, one=delivery["id"], next=back)

    assert back not in asked.text


async def test_nothing_picked_says_so(owner: Browser, traffic: Traffic) -> None:
    """A press without a tick leads back with a sentence, not to a question about none."""
    await dead(traffic, await traffic.endpoint())

    answer = await owner.submit(RESOLVE, at=f"{LIST}?flat=1", next=f"{LIST}?flat=1")

    assert answer.headers["location"] == f"{LIST}?flat=1&done=resolved&n=0&left=0"
    assert "Nothing was picked" in (await owner.get(answer.headers["location"])).text
