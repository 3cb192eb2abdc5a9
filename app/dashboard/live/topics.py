"""Topics: what a page asks to be told about, and what in its workspace moves each of them.

A topic is a word (`deliveries`) or a word with an object (`delivery:dlv_...`). Whoever names an object of another
workspace hears nothing about it: it is looked up together with the workspace of who asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core import ids
from app.core.errors import Forbidden, Invalid
from app.core.roles import PersonRole

if TYPE_CHECKING:
    from uuid import UUID

# One page has a handful of regions.
MAX_TOPICS = 20

# The newest rows of a workspace, each of which has one fingerprint (see `look.py`).
ATTEMPTS, DELIVERIES, EVENTS, AUDIT, CIRCUITS = "attempts", "deliveries", "events", "audit", "circuits"
PARTS = (ATTEMPTS, DELIVERIES, EVENTS, AUDIT, CIRCUITS)

# Retries, cancels, pauses and every other act of a person or a key write the audit log in their own transaction, so
# what is done elsewhere is noticed by it. A delivery that gives up without an attempt is told to the operations
# application as an event.
_MOVED_BY: dict[str, frozenset[str]] = {
    "metrics": frozenset({ATTEMPTS, DELIVERIES, EVENTS, AUDIT, CIRCUITS}),
    "deliveries": frozenset({ATTEMPTS, DELIVERIES, AUDIT}),
    "events": frozenset({ATTEMPTS, DELIVERIES, EVENTS, AUDIT}),
    "dead": frozenset({ATTEMPTS, EVENTS, AUDIT, CIRCUITS}),
    "endpoints": frozenset({ATTEMPTS, AUDIT, CIRCUITS}),
    "applications": frozenset({ATTEMPTS, EVENTS, AUDIT}),
    "keys": frozenset({AUDIT}),
    "audit": frozenset({AUDIT}),
    "system": frozenset(),
}
# Topics that grow old although no row changes: rates fall, heartbeats come.
_EVERY_SECONDS = {"metrics": 15.0, "system": 5.0}
_FOR_ADMINS = frozenset({"keys", "audit"})
_ADMINS = frozenset({PersonRole.ADMIN, PersonRole.OWNER})

# Kinds of objects that have topics. All but an application have a fingerprint of their own.
DELIVERY, EVENT, ENDPOINT, APPLICATION = "delivery", "event", "endpoint", "application"
_PREFIXES = {
    DELIVERY: ids.DELIVERY,
    EVENT: ids.EVENT,
    ENDPOINT: ids.ENDPOINT,
    APPLICATION: ids.APPLICATION,
}
# Beside its own rows an endpoint has secrets and subscriptions, whose changes are in the audit log.
_OBJECT_MOVED_BY: dict[str, frozenset[str]] = {
    DELIVERY: frozenset(),
    EVENT: frozenset(),
    ENDPOINT: frozenset({AUDIT}),
    APPLICATION: frozenset({ATTEMPTS, EVENTS, AUDIT}),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that a page is told about. `text` is how the page wrote it."""

    text: str
    kind: str
    object_id: UUID | None = None

    @property
    def moved_by(self) -> frozenset[str]:
        """The parts of the workspace whose change moves this topic."""
        return _OBJECT_MOVED_BY[self.kind] if self.object_id is not None else _MOVED_BY[self.kind]

    @property
    def every_seconds(self) -> float | None:
        """How often it is told although nothing changed."""
        return _EVERY_SECONDS.get(self.kind)


def parse_topics(text: str, *, role: PersonRole) -> tuple[Topic, ...]:
    """Return the topics of a request, without doubles.

    Raises:
        Invalid: there are none, too many, or one that is none.
        Forbidden: one is not for this role.

    """
    names = list(dict.fromkeys(name for name in text.split(",") if name))
    if not names or len(names) > MAX_TOPICS:
        raise Invalid(
            f"A page asks for 1 to {MAX_TOPICS} topics, separated by commas, and this one asked for {len(names)}. "
            "Give `topics`, for example topics=deliveries,metrics."
        )
    return tuple(_parse(name, role=role) for name in names)


def _parse(text: str, *, role: PersonRole) -> Topic:
    kind, colon, shown = text.partition(":")
    if not colon and kind in _MOVED_BY:
        if kind in _FOR_ADMINS and role not in _ADMINS:
            raise Forbidden(
                f"The topic {kind!r} is for admins, so this page is not kept up to date by itself."
            )
        return Topic(text=text, kind=kind)
    object_id = ids.from_text(_PREFIXES[kind], shown) if kind in _PREFIXES else None
    if object_id is None:
        raise Invalid(
            f"There is no topic {text[:64]!r}. There are {', '.join(_MOVED_BY)}, and with the id of an object "
            f"{', '.join(kind + ':' for kind in _PREFIXES)}."
        )
    return Topic(text=text, kind=kind, object_id=object_id)
