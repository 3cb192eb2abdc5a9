"""One attempt: sign, send, and say how the delivery is to be settled. Touches no database."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
import orjson
import structlog

from app.core import ids
from app.deliveries.record import TRIGGERS, Finished, Settle
from app.deliveries.retry import (
    FULL_JITTER_FLOOR_SECONDS,
    MAX_BLOCKED_TRIES,
    draw_full_jitter,
    draw_jitter,
    next_delay_seconds,
)
from app.endpoints.trial import FORGED_TYPE
from workers.outcome import Outcome, classify_error, classify_exchange
from workers.transport import ConnectionInfo, EngineFault, SendError, Timings

if TYPE_CHECKING:
    from app.core.clock import DatabaseClock
    from app.deliveries.claim import Claimed
    from workers.endpoint_settings import EndpointSettings
    from workers.event_bodies import EventBody
    from workers.transport import Sender as HttpSender

log = structlog.get_logger(__name__)

TRIGGER_REPLAY, TRIGGER_TEST = TRIGGERS.index("replay"), TRIGGERS.index("test")
# A delivery that we cannot send (a bug, a secret that cannot be opened) is looked at again so often.
OWN_FAULT_SECONDS = 15.0
# Such a fault is told once in this time, by its kind.
TELL_SECONDS = 10.0


class _Request(msgspec.Struct, gc=False, kw_only=True):
    """What was sent, as the delivery log keeps it."""

    started_at: datetime
    shown_headers: bytes


class Sender:
    """Makes attempts over one engine; safe for any number at once."""

    def __init__(self, *, engine: HttpSender, clock: DatabaseClock, worker: str) -> None:
        self._engine = engine
        self._clock = clock
        self._worker = worker
        self._told_at: dict[type[EngineFault], float] = {}

    async def send(
        self, claimed: Claimed, *, settings: EndpointSettings, event: EventBody, deadline: float
    ) -> Finished:
        """Make the attempt and return its result.

        `deadline` is an instant of `time.monotonic()`. Faults of our own use up no attempt: the delivery is
        given back.
        """
        if settings.target is None or settings.problem is not None:
            return released(claimed, delay_seconds=OWN_FAULT_SECONDS)
        body = event.encoded(settings.format)
        now = self._clock.now()
        unix = int(now.timestamp())
        forged = event.test and event.type == FORGED_TYPE
        signer = settings.forger() if forged else settings.signer(now=unix)
        signature = signer.sign(event.text_id, unix, body)
        own_lines = (
            f"webhook-id: {event.text_id}\r\nwebhook-timestamp: {unix}\r\nwebhook-signature: {signature}\r\n"
        )
        shown = [
            *settings.shown_headers,
            ("webhook-id", event.text_id),
            ("webhook-timestamp", str(unix)),
            ("webhook-signature", signature),
        ]
        if event.traceparent is not None:
            own_lines += f"traceparent: {event.traceparent}\r\n"
            shown.append(("traceparent", event.traceparent))
        request = _Request(started_at=now, shown_headers=orjson.dumps(shown))
        started = time.perf_counter()
        try:
            exchange = await self._engine.post(
                settings.target,
                headers=settings.header_lines + own_lines.encode("latin-1"),
                body=body,
                deadline=deadline,
            )
        except SendError as error:
            took = (time.perf_counter() - started) * 1000
            return self._finish(
                claimed, settings=settings, event=event, request=request, took_ms=took,
                outcome=classify_error(error), timings=error.timings, connection=error.connection,
                headers=error.headers, body=error.received,
            )  # fmt: skip
        except EngineFault as error:
            self._tell(error)
            return released(claimed, delay_seconds=OWN_FAULT_SECONDS)
        took = (time.perf_counter() - started) * 1000
        return self._finish(
            claimed, settings=settings, event=event, request=request, took_ms=took,
            outcome=classify_exchange(exchange, now=self._clock.now()), timings=exchange.timings,
            connection=exchange.connection, headers=exchange.headers, body=exchange.body,
            truncated=exchange.body_truncated,
        )  # fmt: skip

    def _tell(self, fault: EngineFault) -> None:
        """Log a fault of our own, not for every delivery that it stops."""
        now = time.monotonic()
        if now - self._told_at.get(type(fault), -TELL_SECONDS) >= TELL_SECONDS:
            self._told_at[type(fault)] = now
            log.warning("send.own_fault", error=type(fault).__name__, detail=str(fault))

    def _finish(
        self,
        claimed: Claimed,
        *,
        settings: EndpointSettings,
        event: EventBody,
        request: _Request,
        took_ms: float,
        outcome: Outcome,
        timings: Timings,
        connection: ConnectionInfo | None,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        truncated: bool = False,
    ) -> Finished:
        test = claimed.trigger == TRIGGER_TEST
        settle, delay = _decide(claimed, outcome=outcome, settings=settings, test=test)
        hold = None if test or outcome.succeeded else outcome.retry_after_seconds
        return Finished(
            id=claimed.id,
            token=claimed.token,
            settle=settle,
            endpoint_id=claimed.endpoint_id,
            workspace_id=claimed.workspace_id,
            application_id=claimed.application_id,
            event_id=claimed.event_id,
            event_type=event.type,
            attempt_id=ids.uuid7(self._clock.unix_ms()),
            number=claimed.attempt_count + 1,
            trigger=TRIGGERS[claimed.trigger],
            test=test,
            delay_seconds=delay,
            hold_seconds=hold,
            blocked=outcome.blocked,
            counts=not (test or outcome.gone or outcome.blocked),
            outcome="succeeded" if outcome.succeeded else "failed",
            started_at=request.started_at,
            duration_ms=round(took_ms, 3),
            queue_ms=round(claimed.queue_ms, 3),
            dns_ms=timings.dns_ms,
            connect_ms=timings.connect_ms,
            tls_ms=timings.tls_ms,
            send_ms=timings.send_ms,
            wait_ms=timings.wait_ms,
            receive_ms=timings.receive_ms,
            request_url=settings.url,
            # A target that the policy forbids got nothing, so nothing is shown as sent.
            request_headers=None if outcome.blocked else request.shown_headers,
            response_status=outcome.status,
            response_headers=_dump_headers(headers) if outcome.status is not None else None,
            response_body=body or None,
            response_body_truncated=truncated,
            error_class=outcome.error_class,
            error_message=outcome.message,
            note=outcome.note,
            ip=connection.ip if connection else None,
            http_version=connection.http_version if connection else None,
            tls_version=connection.tls_version if connection else None,
            certificate_expires_at=connection.certificate_expires_at if connection else None,
            connection_reused=connection.reused if connection else None,
            worker=self._worker,
            retry_after_seconds=int(hold) if hold is not None else None,
        )


def released(claimed: Claimed, *, delay_seconds: float | None = None) -> Finished:
    """Return the result of a delivery that is given back unsent; after a fault of our own, with a delay."""
    return _without_attempt(claimed, Settle.RELEASED, delay_seconds=delay_seconds)


def cancelled(claimed: Claimed) -> Finished:
    """Return the result of a delivery whose event has nothing left to send."""
    return _without_attempt(claimed, Settle.CANCELLED)


def _without_attempt(claimed: Claimed, settle: Settle, *, delay_seconds: float | None = None) -> Finished:
    return Finished(
        id=claimed.id,
        token=claimed.token,
        settle=settle,
        endpoint_id=claimed.endpoint_id,
        workspace_id=claimed.workspace_id,
        application_id=claimed.application_id,
        event_id=claimed.event_id,
        test=claimed.trigger == TRIGGER_TEST,
        delay_seconds=delay_seconds,
        counts=False,
        outcome="none",
    )


def _decide(
    claimed: Claimed, *, outcome: Outcome, settings: EndpointSettings, test: bool
) -> tuple[Settle, float | None]:
    if outcome.succeeded:
        return Settle.SUCCEEDED, None
    if test or outcome.gone:
        return Settle.DEAD, None
    step = claimed.schedule_step
    if outcome.blocked:
        # Its own count: the schedule's place stays, and the third refusal is the last.
        if claimed.blocked_count + 1 >= MAX_BLOCKED_TRIES:
            return Settle.DEAD, None
        step = min(claimed.blocked_count, len(settings.schedule) - 1)
    # What fails together after a circuit has closed, or in a replay, must not come back together.
    wide = claimed.recovering or claimed.trigger == TRIGGER_REPLAY
    delay = next_delay_seconds(
        settings.schedule,
        step,
        jitter=draw_full_jitter() if wide else draw_jitter(),
        least_seconds=FULL_JITTER_FLOOR_SECONDS if wide else 0.0,
        retry_after_seconds=outcome.retry_after_seconds,
    )
    return (Settle.DEAD, None) if delay is None else (Settle.RETRY, delay)


def _dump_headers(headers: list[tuple[bytes, bytes]]) -> bytes:
    return orjson.dumps([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
