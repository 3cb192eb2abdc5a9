"""What must not be in a log is in none: real processes, everything that goes wrong, and a search for what was planted."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.embedded.kept import choose_port
from tests.faults.harness.scene import Scene, open_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.e2e

BOUND_SECONDS = 60.0

# Planted, each in its own place, so that a find says where it came from.
PAYLOAD = "plantedpayload7f3a"
METADATA = "plantedmetadata7f3a"
URL_QUERY = "plantedquery7f3a"
HEADER_VALUE = "plantedheader7f3a"
ANSWER_BODY = "plantedanswer7f3a"
WRONG_KEY = "bw_plantedkey7f3aplantedkey7f3aplanted"
INSTANCE_KEY = "planted-instance-key-7f3a-7f3a-7f3a"
CALLERS_QUERY = "plantedcaller7f3a"
SECRET = "whsec_" + b64encode(b"planted secret 7f3a, 24b+").decode()


@dataclass
class Planted:
    """A stack in which everything was planted, and what it answered where it refused."""

    scene: Scene
    refusals: list[httpx2.Response] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)

    @property
    def logs(self) -> dict[str, str]:
        """The whole log of each process of ours."""
        processes = self.scene.stack._processes
        return {process.name: process.whole_log() for process in processes}


@pytest.fixture(scope="module")
async def planted() -> AsyncIterator[Planted]:
    """API, worker and beat that log all they can, and have met every kind of trouble."""
    settings = {"BELLWIRE_LOG_LEVEL": "DEBUG", "BELLWIRE_LOG_FORMAT": "json"}
    async with open_scene(settings=settings | {"BELLWIRE_INSTANCE_KEY": INSTANCE_KEY}) as scene:
        found = Planted(scene)
        await deliver(found)
        await refuse(found)
        await break_database(found)
        stack = scene.stack
        found.hidden |= {
            "payload": PAYLOAD,
            "metadata": METADATA,
            "query of an endpoint's URL": URL_QUERY,
            "value of an own header": HEADER_VALUE,
            "body of an answer": ANSWER_BODY,
            "wrong API key": WRONG_KEY,
            "instance key": INSTANCE_KEY,
            "query of a request": CALLERS_QUERY,
            "given secret": SECRET.removeprefix("whsec_"),
            "receiver's secret": scene.receiver.secret.removeprefix("whsec_"),
            "bootstrap key": stack.api_key,
            "encryption key": stack.environment["BELLWIRE_ENCRYPTION_KEYS"],
            "database's password": str(httpx2.URL(stack.database_url).password),
            "broker's password": str(httpx2.URL(stack.broker_url).password),
        }
        yield found


async def deliver(planted: Planted) -> None:
    """Send events that succeed, fail, cannot be sent at all; look at secrets, rotate them, roll keys."""
    stack, client = planted.scene.stack, planted.scene.stack.client
    headers = {"Authorization": f"Bearer {HEADER_VALUE}", "X-Api-Key": HEADER_VALUE}
    query = f"?token={URL_QUERY}"
    await planted.scene.receiver.behave("/failing" + query, statuses=[500], headers={"X-Said": ANSWER_BODY})
    for name in ("good", "failing"):
        await stack.create_endpoint(
            f"/{name}{query}", event_types=[f"{name}.*"], headers=headers, retry_schedule=[1]
        )
    away = await stack.create_endpoint(
        "/away",
        url=f"http://127.0.0.1:{choose_port()}/away{query}",
        event_types=["away.*"],
        headers=headers,
        retry_schedule=[1],
    )
    given = await stack.create_endpoint("/given" + query, secret=SECRET, event_types=["given.*"])
    for event_type in ("good.one", "failing.one", "away.one", "given.one"):
        answer = await client.post(
            "/v1/events", json=event(event_type), headers={"Idempotency-Key": event_type}
        )
        assert answer.status_code == 202
    await planted.scene.receiver.wait_for(
        lambda: stack.number("SELECT count(*) FROM deliveries WHERE state = 'pending'") == 0,
        seconds=BOUND_SECONDS,
        what="all deliveries end",
    )
    planted.hidden["revealed secret"] = (await client.get(f"/v1/endpoints/{away.id}/secret")).json()["secret"]
    rotated = (await client.post(f"/v1/endpoints/{given.id}/secret/rotate")).json()["secret"]
    planted.hidden["rotated secret"] = rotated.removeprefix("whsec_")
    made = (await client.post("/v1/api-keys", json={"name": "CI", "role": "viewer"})).json()
    planted.hidden["new API key"] = made["key"]
    assert (
        await client.post(f"/v1/endpoints/{given.id}/test", json={"data": {"card": PAYLOAD}})
    ).status_code == 202


async def refuse(planted: Planted) -> None:
    """Ask for everything that is refused, with something planted in each request."""
    client = planted.scene.stack.client
    wrong = {"Authorization": f"Bearer {WRONG_KEY}"}
    as_json = {"Content-Type": "application/json"}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/events", {"json": event("a.b"), "headers": wrong}),
        ("GET", f"/v1/events?token={CALLERS_QUERY}", {"headers": wrong}),
        ("GET", f"/nowhere?token={CALLERS_QUERY}", {}),
        ("GET", f"/v1/endpoints?token={CALLERS_QUERY}", {}),
        ("POST", "/v1/events", {"content": f'{{"type": "a.b", "data": "{PAYLOAD}', "headers": as_json}),
        ("POST", "/v1/events", {"json": event("not a type")}),
        ("POST", "/v1/events", {"json": event("a.b") | {"unknown": PAYLOAD}}),
        ("POST", "/v1/events", {"json": event("a.b"), "headers": {"Content-Type": "text/plain"}}),
        ("POST", "/v1/endpoints", {"json": {"url": f"ftp://a.example/?token={URL_QUERY}"}}),
        ("POST", "/v1/endpoints", {"json": {"url": f"https://10.0.0.1/?token={URL_QUERY}"}}),
        ("POST", "/v1/endpoints", {"json": {"url": "https://a.example", "headers": {"Host": HEADER_VALUE}}}),
        (
            "POST",
            "/v1/endpoints",
            {"json": {"url": "https://a.example", "secret": SECRET.replace("whsec", "sec")}},
        ),
        ("POST", "/v1/workspaces", {"json": {"name": "W"}}),
    ]
    for method, path, options in asked:
        answer = await client.request(method, path, **options)
        assert answer.status_code >= 400, (method, path)
        planted.refusals.append(answer)


async def break_database(planted: Planted) -> None:
    """Let a statement fail whose error repeats the row that it would have written, then lose the whole server."""
    stack, client = planted.scene.stack, planted.scene.stack.client
    stack.sql("ALTER TABLE events ADD CONSTRAINT poison CHECK (type <> 'poison.pill') NOT VALID")
    stack.sql("ALTER TABLE applications ADD CONSTRAINT poison CHECK (name <> 'poison') NOT VALID")
    bodies = [
        ("/v1/events", event("poison.pill")),
        ("/v1/events/batch", {"events": [event("poison.pill")]}),
        ("/v1/applications", {"name": "poison", "metadata": {"note": METADATA}}),
    ]
    for path, body in bodies:
        answer = await client.post(path, json=body)
        assert answer.status_code >= 400 or answer.json()["rejected"] == 1, answer.text
        planted.refusals.append(answer)
    stack.kill_postgres()
    for _ in range(2):
        answer = await client.post("/v1/events", json=event("good.two"))
        assert answer.status_code == 503, answer.text
        planted.refusals.append(answer)
    stack.start_postgres()
    await planted.scene.receiver.wait_for(
        lambda: "database" in planted.logs["worker-1"] or "drain" in planted.logs["worker-1"],
        seconds=BOUND_SECONDS,
        what="the worker has noticed",
    )


def event(event_type: str) -> dict[str, Any]:
    """An event with something planted in its data and its metadata."""
    return {"type": event_type, "data": {"card": PAYLOAD}, "metadata": {"note": METADATA}}


async def test_there_is_something_to_search(planted: Planted) -> None:
    """What was planted was sent, and the processes did log: each refusal, and the statement that failed, with its traceback."""
    logs = planted.logs
    lines = [json.loads(line) for line in logs["api-1"].splitlines() if line.startswith("{")]

    assert {"api-1", "worker-1", "beat-1"} <= logs.keys()
    assert all(logs.values())
    assert {line.get("status") for line in lines} >= {400, 401, 403, 404, 415, 422, 500, 503}
    assert any("poison" in json.dumps(line.get("exception", "")) for line in lines)
    planted.scene.receiver.refresh()
    sent = planted.scene.receiver.receipts
    assert any(URL_QUERY in receipt.path for receipt in sent)
    assert any(PAYLOAD in receipt.body for receipt in sent)
    assert any(receipt.status == 500 for receipt in sent)
    assert len(planted.refusals) > 15


async def test_nothing_planted_is_in_a_log(planted: Planted) -> None:
    """Not as it is, and not as the hexadecimal digits in which Postgres repeats bytes."""
    found = [
        (name, what)
        for name, log in planted.logs.items()
        for what, text in planted.hidden.items()
        if text in log or text.encode().hex() in log
    ]

    assert found == []


async def test_nothing_planted_is_in_an_error_answer(planted: Planted) -> None:
    """What was refused is told without repeating it."""
    found = [
        (answer.request.method, answer.request.url.path, answer.status_code, what)
        for answer in planted.refusals
        for what, text in planted.hidden.items()
        if text in answer.text or text.encode().hex() in answer.text or text in str(answer.headers)
    ]

    assert found == []
