"""What the delivery page shows, put together from what was read. No SQL and no HTML here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core import ids
from app.dashboard.delivery import queries
from app.dashboard.delivery.advice import Advice, advise
from app.dashboard.delivery.curl import curl_command
from app.dashboard.delivery.deeds import list_deeds
from app.dashboard.delivery.diff import Comparison, Side, compare
from app.dashboard.delivery.exchange import (
    Received,
    Sent,
    bodies_of,
    format_of,
    headers_of,
    received_by,
    sent_by,
)
from app.dashboard.delivery.signature import SignatureCheck, check_signature
from app.dashboard.delivery.snippets import Snippet, snippets
from app.dashboard.delivery.steps import Step, key_of, trigger_words
from app.dashboard.delivery.timeline import timeline
from app.dashboard.delivery.waterfall import Phase, waterfall
from app.deliveries.state import FINAL, State
from app.deliveries.waiting import LEASED
from app.endpoints.targets import shown_url

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.core.context import Caller
    from app.core.runtime import Runtime
    from app.dashboard.delivery.deeds import Deed
    from app.dashboard.delivery.queries import FoundDelivery
    from app.dashboard.page import OpenPage
    from app.models import Attempt

_KEY = re.compile(r"(?P<number>[1-9][0-9]{0,8})(?P<late>-late)?")


@dataclass(frozen=True, slots=True)
class ShownAttempt:
    """One attempt with everything that is known about it."""

    attempt: Attempt
    key: str
    trigger: str
    sent: Sent
    received: Received | None
    advice: Advice | None
    signature: SignatureCheck | None
    phases: Sequence[Phase]
    curl: str


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """The page: head, timeline, the attempt that is shown, and a comparison if one was asked for."""

    found: FoundDelivery
    id: str
    event_id: str
    endpoint_id: str
    application_id: str
    endpoint_url: str
    state: str
    final: bool
    steps: Sequence[Step]
    attempts: Sequence[Attempt]
    earlier: int | None
    shown: ShownAttempt | None
    comparison: Comparison | None
    snippets: Sequence[Snippet]
    # What will be sent, while nothing was.
    body: bytes | None


def attempt_number(key: str | None) -> int | None:
    """Return the number in an attempt's key; None for none, or for what is no key."""
    found = _KEY.fullmatch(key or "")
    return int(found["number"]) if found else None


async def read_page(opened: OpenPage, reference: str) -> DeliveryPage:
    """Read a delivery and make its page: three statements, two where nobody has a hand in it or may know of it.

    Raises:
        NotFound: there is no such delivery.

    """
    query = opened.query
    wanted = query.get("attempt")
    pair = [part.strip() for part in query.get("compare", "").split(",")][:2]
    numbers = {number for key in (wanted, *pair) if (number := attempt_number(key)) is not None}
    until = attempt_number(query.get("until"))
    found = await queries.require_delivery(opened.session, opened.caller, reference)
    attempts = await queries.list_attempts(opened.session, found, shown=numbers, until=until)
    deeds: list[Deed] = []
    if opened.may_see("audit") or opened.may.operate:
        deeds = await list_deeds(opened.session, found)
    return _page(found, attempts, deeds, wanted=wanted, pair=pair, until=until, opened=opened)


async def read_attempt(opened: OpenPage, reference: str, key: str) -> ShownAttempt | None:
    """Read one attempt, for downloads; None if it is not there."""
    number = attempt_number(key)
    found = await queries.require_delivery(opened.session, opened.caller, reference)
    if number is None:
        return None
    attempts = await queries.list_attempts(opened.session, found, shown={number}, until=number)
    attempt = next((each for each in attempts if key_of(each) == key), None)
    if attempt is None:
        return None
    return show(found, attempt, (), caller=opened.caller, runtime=opened.runtime, now=opened.now)


def show(
    found: FoundDelivery,
    attempt: Attempt,
    deeds: Sequence[Deed],
    *,
    caller: Caller,
    runtime: Runtime,
    now: datetime,
) -> ShownAttempt:
    """Return an attempt as it is shown to a caller."""
    headers = headers_of(attempt.request_headers)
    bodies = bodies_of(found.event)
    check = check_signature(headers, bodies, found.secrets, keyring=runtime.keyring, now=now)
    # The signature knows best which bytes went out.
    body_format = (
        check.body_format
        if check is not None and check.verifies and check.body_format
        else format_of(headers, now=found.endpoint.format)
    )
    sent = sent_by(attempt, body=bodies.get(body_format), caller=caller)
    return ShownAttempt(
        attempt=attempt,
        key=key_of(attempt),
        trigger=trigger_words(attempt, deeds),
        sent=sent,
        received=received_by(attempt, caller=caller),
        advice=advise(attempt, found.endpoint),
        signature=check,
        phases=waterfall(attempt),
        curl=curl_command(sent) if sent.headers else "",
    )


def _page(
    found: FoundDelivery,
    attempts: list[Attempt],
    deeds: Sequence[Deed],
    *,
    wanted: str | None,
    pair: Sequence[str],
    until: int | None,
    opened: OpenPage,
) -> DeliveryPage:
    delivery = found.delivery
    by_key = {key_of(attempt): attempt for attempt in attempts}
    shown = by_key.get(wanted or "") or (attempts[-1] if attempts else None)
    shown_attempt = None
    if shown is not None:
        shown_attempt = show(
            found, shown, deeds, caller=opened.caller, runtime=opened.runtime, now=opened.now
        )
    newest = delivery.attempt_count if until is None else until
    in_timeline = [
        attempt
        for attempt in attempts
        if attempt.number > newest - queries.ATTEMPTS_SHOWN and (until is None or attempt.number <= until)
    ]
    earlier = in_timeline[0].number - 1 if in_timeline else 0
    sending = found.place is not None and found.place.state == LEASED
    ed25519 = found.endpoint.signature == "ed25519"
    if shown_attempt is not None and shown_attempt.signature is not None:
        ed25519 = shown_attempt.signature.ed25519
    return DeliveryPage(
        found=found,
        id=ids.to_text(ids.DELIVERY, delivery.id),
        event_id=ids.to_text(ids.EVENT, delivery.event_id),
        endpoint_id=ids.to_text(ids.ENDPOINT, delivery.endpoint_id),
        application_id=ids.to_text(ids.APPLICATION, delivery.application_id),
        endpoint_url=shown_url(found.endpoint.url, opened.caller),
        state="sending" if sending else delivery.state,
        final=State(delivery.state) in FINAL,
        steps=timeline(
            found,
            in_timeline,
            deeds,
            schedule=found.endpoint.retry_schedule or opened.runtime.settings.retry_schedule,
            now=opened.now,
        ),
        attempts=in_timeline,
        earlier=earlier if earlier > 0 else None,
        shown=shown_attempt,
        comparison=_comparison(by_key, pair, caller=opened.caller, found=found, opened=opened),
        snippets=snippets("ed25519" if ed25519 else "hmac"),
        body=bodies_of(found.event).get(found.endpoint.format) if shown is None else None,
    )


def _comparison(
    by_key: dict[str, Attempt],
    pair: Sequence[str],
    *,
    caller: Caller,
    found: FoundDelivery,
    opened: OpenPage,
) -> Comparison | None:
    """Return the comparison of the two attempts that the address names, if both are there."""
    sides = []
    for key in pair:
        attempt = by_key.get(key)
        if attempt is None:
            return None
        shown = show(found, attempt, (), caller=caller, runtime=opened.runtime, now=opened.now)
        sides.append(Side(attempt=attempt, sent=shown.sent, received=shown.received))
    return compare(*sides) if len(sides) == 2 else None  # noqa: PLR2004 - a pair
