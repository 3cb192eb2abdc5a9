"""The built-in receiver: what it answers, and what it prints."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import httpx2
import pytest

from app.core.errors import StartupError
from app.demo_receiver import MAX_BODY_BYTES, DemoReceiver, serve
from bellwire import Webhook, generate_secret

SECRET = generate_secret()
BODY = json.dumps(
    {"type": "order.placed", "timestamp": "2026-01-31T12:00:00.000Z", "data": {"n": 1}}
).encode()


class Visit:
    """A receiver, and the lines that it has printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.application = DemoReceiver(SECRET, say=self.lines.append)

    async def post(self, body: bytes, *, headers: dict[str, str], path: str = "/webhooks") -> httpx2.Response:
        transport = httpx2.ASGITransport(app=self.application)
        async with httpx2.AsyncClient(transport=transport, base_url="http://demo") as client:
            return await client.post(path, content=body, headers=headers)


@pytest.fixture
def visit() -> Visit:
    return Visit()


def signed(body: bytes = BODY, *, message_id: str = "evt_1", secret: str = SECRET) -> dict[str, str]:
    return Webhook(secret).signed_headers(message_id, body)


async def test_a_genuine_webhook_is_answered_200_and_printed(visit: Visit) -> None:
    """The line says what came: type, id, when it was sent, and its size."""
    response = await visit.post(BODY, headers=signed())

    assert response.status_code == 200
    (line,) = visit.lines
    assert re.fullmatch(
        rf"✓ verified  order\.placed  evt_1  sent \d\d:\d\d:\d\d UTC  {len(BODY)} bytes", line
    )


async def test_a_wrong_signature_is_answered_400_with_the_reason(visit: Visit) -> None:
    """What was not signed with the secret is refused, and the line says why."""
    response = await visit.post(BODY, headers=signed(secret=generate_secret()))

    assert response.status_code == 400
    (line,) = visit.lines
    assert line.startswith("✗ refused (signature_mismatch): No signature fits")


async def test_a_request_without_signature_is_refused(visit: Visit) -> None:
    """A curl without the headers shows a newcomer what a receiver must not accept."""
    response = await visit.post(BODY, headers={})

    assert response.status_code == 400
    assert visit.lines[0].startswith("✗ refused (missing_header)")


async def test_a_duplicate_is_answered_200_and_dropped(visit: Visit) -> None:
    """At least once means that an id may come again: it is acknowledged, and not acted upon."""
    statuses = [
        (await visit.post(BODY, headers=signed(message_id=name))).status_code
        for name in ("evt_1", "evt_2", "evt_1")
    ]

    assert statuses == [200, 200, 200]
    assert [line.split("  ")[0] for line in visit.lines] == [
        "✓ verified",
        "✓ verified",
        "= duplicate, dropped (number 2)",
    ]


async def test_a_refused_request_does_not_use_up_its_id(visit: Visit) -> None:
    """Only what is genuine counts as seen, or anybody could suppress a webhook."""
    await visit.post(BODY, headers=signed(secret=generate_secret()))

    await visit.post(BODY, headers=signed())

    assert visit.lines[-1].startswith("✓ verified")


async def test_escape_sequences_do_not_reach_the_terminal(visit: Visit) -> None:
    """What a sender writes is shown, never obeyed."""
    body = json.dumps({"type": "a\x1b[2Jb", "data": None}).encode()

    await visit.post(body, headers=signed(body))

    assert "\x1b" not in visit.lines[0]
    assert "a\N{REPLACEMENT CHARACTER}[2Jb" in visit.lines[0]


async def test_a_body_without_end_is_not_kept(visit: Visit) -> None:
    """More than Bellwire ever sends is refused before it is looked at."""
    response = await visit.post(b"x" * (MAX_BODY_BYTES + 1), headers={})

    assert response.status_code == 413


async def test_another_path_says_where_webhooks_go(visit: Visit) -> None:
    """A wrong path in an endpoint's URL is told apart from a wrong secret."""
    response = await visit.post(BODY, headers=signed(), path="/webhook")

    assert (response.status_code, "POST /webhooks" in response.text) == (404, True)


async def test_a_sender_that_goes_away_half_way_is_no_webhook(visit: Visit) -> None:
    """Half a body is neither verified nor answered."""
    messages = iter([{"type": "http.request", "body": BODY, "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    await visit.application(
        {"type": "http", "method": "POST", "path": "/webhooks", "headers": []}, receive, send
    )

    assert (sent, visit.lines) == ([], [])


def test_a_secret_that_cannot_be_used_stops_the_start() -> None:
    """The sentence names the setting."""
    with pytest.raises(StartupError, match="Set BELLWIRE_DEMO_SECRET to the endpoint's secret"):
        serve(port=0, secret="not a secret")


def test_a_port_in_use_stops_the_start() -> None:
    """The sentence names the port and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]

        with pytest.raises(StartupError, match=rf"{port}: Address already in use.*BELLWIRE_DEMO_PORT"):
            serve(port=port, secret=SECRET)
