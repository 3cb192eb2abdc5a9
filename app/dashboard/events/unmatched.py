"""Why an endpoint did not get an event, as far as its settings of today tell. Pure.

Settings are not kept as they were: where they were changed after the event, the sentence says so.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.core.errors import Invalid
from app.endpoints.filters import FilterError, compile_filter
from app.endpoints.patterns import compile_patterns
from app.events.matching import MAX_INTEGER_DIGITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.dashboard.events.queries import Outsider
    from app.models import Endpoint, Event, Subscription

# Patterns that a sentence names.
_NAMED = 5
# A person waits: filters that are not run by then are named only.
_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Reason:
    """The kind of a reason, in two words, and a sentence."""

    short: str
    sentence: str


def reasons_of(event: Event, outsiders: Sequence[Outsider]) -> list[Reason]:
    """Return for each endpoint why it did not get the event."""
    data = json.loads(event.data, parse_int=_integer) if event.data is not None else None
    deadline = time.monotonic() + _SECONDS
    return [_reason(event, data, outsider, deadline=deadline) for outsider in outsiders]


def _reason(event: Event, data: Any, outsider: Outsider, *, deadline: float) -> Reason:
    endpoint = outsider.endpoint
    if event.test:
        return Reason("test", "The event is a test of another endpoint; nobody else gets it.")
    if endpoint.created_at > event.created_at:
        return Reason("created later", "The endpoint was made after the event came in.")
    if not endpoint.enabled:
        return _disabled(event, endpoint)
    then = [each for each in outsider.subscriptions if each.created_at <= event.created_at]
    if not then:
        return _nothing_subscribed(outsider.subscriptions)
    matching = [each for each in then if compile_patterns(each.event_types).matches(event.type)]
    if not matching:
        patterns = [pattern for each in then for pattern in each.event_types]
        named = ", ".join(patterns[:_NAMED]) + (", …" if len(patterns) > _NAMED else "")
        return Reason(
            "type filter", f"It takes {named}, which {event.type} is not.{_changed(event, then, endpoint)}"
        )
    return _filtered(event, data, matching, endpoint, deadline=deadline)


def _disabled(event: Event, endpoint: Endpoint) -> Reason:
    if endpoint.updated_at <= event.created_at:
        return Reason("disabled then", "The endpoint was disabled when the event came in.")
    return Reason(
        "disabled",
        "The endpoint is disabled. Its settings were changed after the event, so it may have been then.",
    )


def _nothing_subscribed(subscriptions: Sequence[Subscription]) -> Reason:
    if subscriptions:
        return Reason("subscribed later", "All of its subscriptions were made after the event came in.")
    return Reason("no subscription", "The endpoint has no subscription, so it gets nothing.")


def _filtered(
    event: Event, data: Any, matching: Sequence[Subscription], endpoint: Endpoint, *, deadline: float
) -> Reason:
    changed = _changed(event, matching, endpoint)
    filters = [each.filter for each in matching if each.filter is not None]
    if len(filters) < len(matching):
        return Reason("changed since", f"With its settings of now it would match.{changed}")
    if event.data is None:
        return Reason("filter", f"Its filter decides by the data, which was erased: {filters[0]}{changed}")
    faults = []
    for source in filters:
        if time.monotonic() > deadline:
            return Reason(
                "filter", f"It has a filter, which was not run here: too many others were. {source}"
            )
        try:
            if compile_filter(source).matches(event.type, data, event.custom or {}):
                return Reason("changed since", f"With its filter of now it would match.{changed}")
        except (FilterError, Invalid) as error:
            faults.append(str(error))
    if faults:
        return Reason("filter failed", f"Its filter could not be evaluated: {faults[0]}{changed}")
    return Reason("filter", f"Its filter says no to this event: {filters[0]}{changed}")


def _changed(event: Event, subscriptions: Sequence[Subscription], endpoint: Endpoint) -> str:
    changed = endpoint.updated_at > event.created_at or any(
        each.updated_at > event.created_at for each in subscriptions
    )
    return " (Its settings were changed after the event.)" if changed else ""


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else float(digits)
