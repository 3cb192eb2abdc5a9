"""One attempt: what is sent, and how each outcome settles the delivery."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import pytest

from app.core import ids
from app.core.clock import DatabaseClock
from app.core.error_classes import ErrorClass
from app.deliveries.claim import Claimed
from app.deliveries.record import TRIGGERS, Settle
from app.deliveries.retry import JITTER_HIGH, JITTER_LOW
from app.endpoints.secrets import Signature, make_secret
from app.endpoints.trial import FORGED_TYPE
from bellwire import Signer, Webhook, WebhookVerificationError
from workers.endpoint_settings import EndpointSettings
from workers.event_bodies import EventBody
from workers.http1.errors import EngineSaturated
from workers.sender import OWN_FAULT_SECONDS, Sender, cancelled, released
from workers.transport import (
    BlockedAddress,
    ConnectionInfo,
    ConnectRefused,
    DnsError,
    Exchange,
    HeadersTooLarge,
    ProtocolError,
    ReadTimeout,
    Target,
    Timings,
)

if TYPE_CHECKING:
    from app.deliveries.record import Finished

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + "b2xk" * 8
CONNECTION = ConnectionInfo(
    ip="192.0.2.7",
    reused=True,
    http_version="1.1",
    tls_version="TLSv1.3",
    certificate_expires_at=1_900_000_000,
)
TIMINGS = Timings(dns_ms=1.0, connect_ms=2.0, tls_ms=3.0, send_ms=4.0, wait_ms=5.0, receive_ms=6.0)
SCHEDULE = [10, 20, 30]


@dataclass
class BoringEngine:
    """Answers with what it was given, and keeps what it was asked to send."""

    outcome: Exchange | Exception
    headers: bytes = b""
    body: bytes = b""
    deadlines: list[float] = field(default_factory=list)

    async def post(self, _target: Target, *, headers: Any, body: bytes, deadline: float) -> Exchange:
        """Take a request."""
        self.headers, self.body = headers, body
        self.deadlines.append(deadline)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def response(
    status: int, *headers: tuple[bytes, bytes], body: bytes = b"", note: str | None = None
) -> Exchange:
    """Return an exchange that ended with this response."""
    return Exchange(
        status=status,
        headers=list(headers),
        body=body,
        body_truncated=False,
        timings=TIMINGS,
        connection=CONNECTION,
        note=note,
    )


def claim_of(**changes: Any) -> Claimed:
    """Return a leased delivery."""
    values = {
        "id": UUID(int=1),
        "token": 7,
        "endpoint_id": UUID(int=2),
        "workspace_id": UUID(int=3),
        "application_id": UUID(int=4),
        "event_id": UUID(int=5),
        "settings_version": 1,
        "timeout_seconds": 15,
        "fifo": False,
        "trigger": 0,
        "attempt_count": 4,
        "schedule_step": 0,
        "blocked_count": 0,
        "lost_count": 0,
        "due_at": datetime(2026, 1, 31, tzinfo=UTC),
        "queue_ms": 12.25,
    }
    return Claimed(**(values | changes))


def settings_of(**changes: Any) -> EndpointSettings:
    """Return an endpoint's settings."""
    values = {
        "id": UUID(int=2),
        "version": 1,
        "url": "https://receiver.example.com/hooks",
        "target": Target.from_url("https://receiver.example.com/hooks"),
        "schedule": SCHEDULE,
        "format": "standard",
        "header_lines": b"content-type: application/json\r\nx-own: secret\r\n",
        "shown_headers": [("content-type", "application/json"), ("x-own", "***")],
        "secrets": [(SECRET, None)],
    }
    return EndpointSettings(**(values | changes))


def event_of(*, traceparent: str | None = None, **changes: Any) -> EventBody:
    """Return an event."""
    values = {
        "id": UUID(int=5),
        "text_id": ids.to_text(ids.EVENT, UUID(int=5)),
        "type": "order.placed",
        "data": b'{"n":1.10}',
        "occurred_at": datetime(2026, 1, 31, tzinfo=UTC),
        "application_id": UUID(int=4),
        "traceparent": traceparent,
        "test": False,
    }
    return EventBody(**(values | changes))


async def send(
    outcome: Exchange | Exception,
    *,
    claimed: Claimed | None = None,
    settings: EndpointSettings | None = None,
    engine: BoringEngine | None = None,
    traceparent: str | None = None,
    **event: Any,
) -> Finished:
    """Make an attempt with this outcome."""
    sender = Sender(engine=engine or BoringEngine(outcome), clock=DatabaseClock(), worker="host:1")
    return await sender.send(
        claimed or claim_of(),
        settings=settings or settings_of(),
        event=event_of(traceparent=traceparent, **event),
        deadline=99.0,
    )


def lines_of(headers: bytes) -> dict[str, str]:
    """Return header lines as a mapping."""
    return dict(line.split(": ", 1) for line in headers.decode("latin-1").strip().split("\r\n"))


async def test_request_is_signed_over_the_body_that_is_sent() -> None:
    """The receiver's package verifies what left; the deadline is the caller's."""
    engine = BoringEngine(response(200))

    await send(engine.outcome, engine=engine, traceparent="00-a-b-01")

    headers = lines_of(engine.headers)
    verified = Webhook(SECRET).verify(engine.body, headers)
    assert (verified.id, engine.deadlines) == (ids.to_text(ids.EVENT, UUID(int=5)), [99.0])
    assert (headers["x-own"], headers["traceparent"]) == ("secret", "00-a-b-01")


async def test_log_shows_what_was_sent_and_masks_own_values() -> None:
    """The attempt holds the headers as sent, but not the values of the endpoint's own ones."""
    engine = BoringEngine(response(200))

    finished = await send(engine.outcome, engine=engine)

    shown = dict(orjson.loads(finished.request_headers or b""))
    sent = lines_of(engine.headers)
    assert shown == sent | {"x-own": "***"}


async def test_both_secrets_sign_until_the_grace_ends() -> None:
    """A retired secret signs beside the current one, to the second at which its grace ends."""
    engine = BoringEngine(response(200))
    now = DatabaseClock().unix()
    tokens = []

    for ends in (now + 60, now - 1):
        settings = settings_of(secrets=[(SECRET, None), (OTHER_SECRET, ends)])
        await send(engine.outcome, engine=engine, settings=settings)
        tokens.append(len(lines_of(engine.headers)["webhook-signature"].split(" ")))

    assert tokens == [2, 1]


async def test_signer_notices_the_end_of_a_grace() -> None:
    """Settings that a worker has kept since the rotation stop signing with the old secret in time."""
    settings = settings_of(secrets=[(SECRET, None), (OTHER_SECRET, 1_000.0)])

    before, after = (settings.signer(now=now).sign("evt_1", 999, b"") for now in (999.9, 1_000.0))

    assert (len(before.split(" ")), len(after.split(" "))) == (2, 1)


@pytest.mark.parametrize("kind", ["hmac-sha256", "ed25519"])
async def test_a_forged_test_is_signed_with_a_key_that_nobody_has(kind: Signature) -> None:
    """In the form of the endpoint's own signatures, by another key each time; it counts for nothing."""
    secret = make_secret(kind)
    engine = BoringEngine(response(401))
    settings = settings_of(secrets=[(secret, None)])
    claimed = claim_of(trigger=TRIGGERS.index("test"))
    signatures = []

    for _ in range(2):
        finished = await send(
            engine.outcome, engine=engine, settings=settings, claimed=claimed, type=FORGED_TYPE, test=True
        )
        headers = lines_of(engine.headers)
        with pytest.raises(WebhookVerificationError, match="signature"):
            Webhook(secret).verify(engine.body, headers)
        signatures.append(headers["webhook-signature"])
        assert (finished.settle, finished.counts) == (Settle.DEAD, False)

    assert len(set(signatures)) == 2
    genuine = Signer(secret).sign("evt_1", 1, b"")
    assert {each.partition(",")[0] for each in signatures} == {genuine.partition(",")[0]}


async def test_an_event_that_has_the_name_of_a_forgery_is_signed_like_all_others() -> None:
    """Only tests are forged: nobody can publish something that arrives unsigned."""
    engine = BoringEngine(response(200))

    await send(engine.outcome, engine=engine, type=FORGED_TYPE)

    assert Webhook(SECRET).verify(engine.body, lines_of(engine.headers)).type == FORGED_TYPE


async def test_success() -> None:
    """A 2xx ends the delivery, whatever came behind the status line."""
    finished = await send(response(204, note="The body broke off."))

    assert (finished.settle, finished.outcome, finished.delay_seconds) == (
        Settle.SUCCEEDED,
        "succeeded",
        None,
    )
    assert (finished.response_status, finished.error_class, finished.note) == (
        204,
        None,
        "The body broke off.",
    )
    assert finished.counts


async def test_attempt_tells_all_that_is_known() -> None:
    """Numbers, times, phases, connection and response are in the attempt."""
    claimed = claim_of(trigger=TRIGGERS.index("manual"))

    finished = await send(response(503, (b"X-A", b"\xff"), body=b"\0busy"), claimed=claimed)

    assert (finished.id, finished.token, finished.number, finished.trigger) == (claimed.id, 7, 5, "manual")
    phases = ("dns_ms", "connect_ms", "tls_ms", "send_ms", "wait_ms", "receive_ms")
    assert [getattr(finished, name) for name in phases] == [1, 2, 3, 4, 5, 6]
    assert (finished.queue_ms, finished.worker) == (12.25, "host:1")
    assert (finished.ip, finished.connection_reused, finished.tls_version) == ("192.0.2.7", True, "TLSv1.3")
    assert (finished.http_version, finished.certificate_expires_at) == ("1.1", 1_900_000_000)
    assert orjson.loads(finished.response_headers or b"") == [["X-A", "\xff"]]
    assert (finished.response_body, finished.request_url) == (b"\0busy", "https://receiver.example.com/hooks")
    assert finished.attempt_id is not None


@pytest.mark.parametrize(
    ("outcome", "error_class", "status"),
    [
        (response(302), ErrorClass.HTTP_3XX, 302),
        (response(404), ErrorClass.HTTP_4XX, 404),
        (response(500), ErrorClass.HTTP_5XX, 500),
        (DnsError("no such name"), ErrorClass.DNS_ERROR, None),
        (ConnectRefused("refused"), ErrorClass.CONNECT_REFUSED, None),
        (ReadTimeout("late"), ErrorClass.READ_TIMEOUT, None),
        (ProtocolError("garbage", received=b"garbage"), ErrorClass.PROTOCOL_ERROR, None),
        (HeadersTooLarge("too many", status=200), ErrorClass.HEADERS_TOO_LARGE, 200),
    ],
)
async def test_failure_is_retried_by_the_schedule(
    outcome: Exchange | Exception, error_class: ErrorClass, status: int | None
) -> None:
    """Each failure has its class and counts, and the next attempt comes after the delay of its step."""
    finished = await send(outcome, claimed=claim_of(schedule_step=1))

    assert (finished.settle, finished.error_class, finished.response_status) == (
        Settle.RETRY,
        error_class,
        status,
    )
    assert finished.delay_seconds is not None
    assert 20 * JITTER_LOW <= finished.delay_seconds <= 20 * JITTER_HIGH
    assert (finished.counts, finished.hold_seconds, finished.outcome) == (True, None, "failed")
    assert finished.error_message


@pytest.mark.parametrize("changes", [{"recovering": True}, {"trigger": TRIGGERS.index("replay")}])
async def test_retries_to_a_receiver_that_is_just_back_are_spread_wide(changes: dict[str, Any]) -> None:
    """After its circuit has closed, and in a replay, delays go from a second to their whole length."""
    delays = [
        (await send(response(500), claimed=claim_of(schedule_step=2, **changes))).delay_seconds or 0
        for _ in range(200)
    ]

    assert 1 <= min(delays) < 30 * JITTER_LOW / 2
    assert max(delays) <= 30


async def test_used_up_schedule_is_the_end() -> None:
    """After the last delay there is no further attempt."""
    finished = await send(response(500), claimed=claim_of(schedule_step=3))

    assert (finished.settle, finished.delay_seconds) == (Settle.DEAD, None)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_holds_the_endpoint(status: int) -> None:
    """What the receiver asked for is the hold of the endpoint and the least delay of this delivery."""
    finished = await send(response(status, (b"Retry-After", b"3600")))

    assert (finished.hold_seconds, finished.retry_after_seconds, finished.delay_seconds) == (3600, 3600, 3600)


async def test_retry_after_of_a_last_attempt_still_holds_the_endpoint() -> None:
    """The delivery is dead, and the others wait as long as the receiver asked."""
    finished = await send(response(503, (b"Retry-After", b"60")), claimed=claim_of(schedule_step=3))

    assert (finished.settle, finished.hold_seconds) == (Settle.DEAD, 60)


async def test_410_ends_the_delivery_and_is_no_failure_of_health() -> None:
    """The receiver has said that it is gone: nothing is retried."""
    finished = await send(response(410))

    assert (finished.settle, finished.error_class, finished.counts) == (
        Settle.DEAD,
        ErrorClass.HTTP_410,
        False,
    )


@pytest.mark.parametrize(
    ("blocked_count", "settle", "low", "high"),
    [(0, Settle.RETRY, 8, 12), (1, Settle.RETRY, 16, 24), (2, Settle.DEAD, None, None)],
)
async def test_blocked_target_has_three_tries(
    blocked_count: int, settle: Settle, low: float | None, high: float | None
) -> None:
    """A forbidden address gets no signature; the third refusal is the last, wherever the schedule stands."""
    finished = await send(
        BlockedAddress("not allowed"), claimed=claim_of(blocked_count=blocked_count, schedule_step=2)
    )

    assert (finished.settle, finished.blocked, finished.counts) == (settle, True, False)
    assert (finished.request_headers, finished.error_class) == (None, ErrorClass.BLOCKED_ADDRESS)
    if low is not None and high is not None:
        assert finished.delay_seconds is not None
        assert low <= finished.delay_seconds <= high


async def test_blocked_target_with_a_short_schedule() -> None:
    """A schedule of one delay gives a blocked target its tries all the same."""
    finished = await send(
        BlockedAddress("not allowed"), claimed=claim_of(blocked_count=1), settings=settings_of(schedule=[10])
    )

    assert finished.settle is Settle.RETRY


@pytest.mark.parametrize(
    "outcome", [response(503, (b"Retry-After", b"60")), ReadTimeout("late"), response(200)]
)
async def test_test_delivery_has_one_attempt(outcome: Exchange | Exception) -> None:
    """A test is final after one attempt, holds nothing, and counts for nobody's health."""
    finished = await send(outcome, claimed=claim_of(trigger=TRIGGERS.index("test")))

    assert finished.settle in {Settle.SUCCEEDED, Settle.DEAD}
    assert (finished.test, finished.counts, finished.hold_seconds) == (True, False, None)


@pytest.mark.parametrize(
    ("outcome", "settings"),
    [
        (EngineSaturated("full"), settings_of()),
        (response(200), settings_of(problem="The secret cannot be opened.")),
        (response(200), settings_of(target=None)),
    ],
)
async def test_fault_of_our_own_is_no_attempt(
    outcome: Exchange | Exception, settings: EndpointSettings
) -> None:
    """Where we cannot send, the delivery is given back, for a little later, and nothing unsigned leaves."""
    engine = BoringEngine(outcome)

    finished = await send(outcome, settings=settings, engine=engine)

    assert (finished.settle, finished.attempt_id, finished.delay_seconds) == (
        Settle.RELEASED,
        None,
        OWN_FAULT_SECONDS,
    )
    assert engine.body == b"" or isinstance(outcome, EngineSaturated)


def test_given_back_and_cancelled_have_no_attempt() -> None:
    """They name the lease, and write nothing into the log or the endpoint's health."""
    claimed = claim_of()

    for finished, settle in ((released(claimed), Settle.RELEASED), (cancelled(claimed), Settle.CANCELLED)):
        assert (finished.id, finished.token, finished.settle) == (claimed.id, claimed.token, settle)
        assert (finished.attempt_id, finished.counts, finished.delay_seconds) == (None, False, None)
