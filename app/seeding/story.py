"""What is told by made-up data: who receives what, how each receiver behaves, and what went wrong when. Pure.

Everything follows from the seed, and all times are shares of the range, so that a day and a week tell the same story.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core.error_classes import ErrorClass

if TYPE_CHECKING:
    from random import Random

# Deliveries are dealt from a pattern of about so many, again and again.
PATTERN_EVENTS = 997


@dataclass(frozen=True, slots=True)
class Fault:
    """Attempts at an endpoint that fail: from when to when (shares of the range), how many of them, and how."""

    since: float
    until: float
    share: float
    error_class: ErrorClass
    status: int | None = None
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Receiver:
    """One endpoint: where it is, what it takes, how fast it answers (median in ms, and spread), what fails."""

    application: str
    path: str
    event_types: tuple[str, ...]
    median_ms: float
    spread: float = 0.35
    faults: tuple[Fault, ...] = ()
    retry_schedule: tuple[int, ...] | None = None
    description: str | None = None
    # From this share of the range on it is paused, or its circuit is open: what is left of its deliveries waits.
    paused_at: float | None = None
    open_at: float | None = None
    tls: bool = True


# Name, domain, and how much of the traffic is its.
APPLICATIONS: tuple[tuple[str, str, int], ...] = (
    ("tidewater-books", "Tidewater Books", 34),
    ("northfield-supply", "Northfield Supply", 21),
    ("alder-and-ash", "Alder & Ash Furniture", 14),
    ("brightline-tickets", "Brightline Tickets", 11),
    ("copper-kettle", "Copper Kettle Coffee", 9),
    ("lumen-clinic", "Lumen Clinic", 6),
    ("harbour-freight", "Harbour Freight Desk", 3),
    ("quarry-labs", "Quarry Labs", 2),
)
# Name, description, and how often it happens.
EVENT_TYPES: tuple[tuple[str, str, int], ...] = (
    ("order.placed", "A customer has placed an order.", 30),
    ("order.paid", "The payment of an order has arrived.", 22),
    ("order.shipped", "A parcel has left the warehouse.", 16),
    ("order.cancelled", "An order was cancelled before it was shipped.", 3),
    ("invoice.created", "An invoice was written.", 9),
    ("invoice.paid", "An invoice was settled.", 7),
    ("customer.created", "A customer has signed up.", 6),
    ("customer.updated", "A customer has changed address or name.", 4),
    ("refund.issued", "Money was sent back.", 2),
    ("stock.low", "An article is running out.", 1),
)
_QUICK_RETRIES = (5, 30, 120, 600)
_OUTAGE = Fault(0.80, 0.83, 1.0, ErrorClass.HTTP_5XX, 503, '{"error":"service unavailable"}')

RECEIVERS: tuple[Receiver, ...] = (
    Receiver("tidewater-books", "/webhooks/orders", ("order.*",), 84, faults=(_OUTAGE,), description="Order desk"),
    Receiver("tidewater-books", "/webhooks/ledger", ("invoice.*", "refund.*"), 142),
    Receiver(
        "tidewater-books", "/webhooks/search", ("*",), 31,
        faults=(Fault(0.0, 1.0, 0.012, ErrorClass.HTTP_429, 429, '{"error":"slow down"}'),),
        description="Search index",
    ),
    Receiver("northfield-supply", "/in/bellwire", ("order.*", "stock.*"), 210, spread=0.6),
    Receiver(
        "northfield-supply", "/in/billing", ("invoice.*", "refund.*"), 320, spread=0.7,
        faults=(Fault(0.0, 1.0, 0.03, ErrorClass.READ_TIMEOUT),),
        description="Billing, slow at the end of the month",
    ),
    Receiver("alder-and-ash", "/api/hooks", ("order.*", "customer.*"), 96),
    Receiver(
        "alder-and-ash", "/api/crm", ("customer.*",), 175, retry_schedule=_QUICK_RETRIES,
        faults=(
            Fault(0.55, 0.97, 0.62, ErrorClass.HTTP_4XX, 422, '{"error":"unknown field: vat_id"}'),
        ),
    ),
    Receiver(
        "brightline-tickets", "/hooks", ("*",), 58,
        faults=(Fault(0.905, 0.915, 0.9, ErrorClass.CONNECT_REFUSED), Fault(0.0, 1.0, 0.004, ErrorClass.HTTP_5XX, 502)),
    ),
    Receiver(
        "copper-kettle", "/webhook", ("order.*",), 66, retry_schedule=_QUICK_RETRIES,
        faults=(
            Fault(0.88, 1.0, 0.66, ErrorClass.HTTP_4XX, 401, '{"error":"invalid signature"}'),
        ),
        description="Till system",
    ),
    Receiver("copper-kettle", "/loyalty", ("customer.*", "order.paid"), 120, paused_at=0.985),
    Receiver(
        "lumen-clinic", "/events/appointments", ("*",), 240, spread=0.5,
        faults=(Fault(0.955, 1.0, 1.0, ErrorClass.TLS_ERROR),), open_at=0.985,
    ),
    Receiver("harbour-freight", "/bellwire", ("order.shipped", "order.cancelled"), 130),
    Receiver(
        "quarry-labs", "/test", ("*",), 12, spread=0.2, tls=False,
        faults=(Fault(0.30, 1.0, 1.0, ErrorClass.DNS_ERROR),), open_at=0.9, retry_schedule=_QUICK_RETRIES,
        description="Old staging machine",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pattern:
    """Events (application, type) and the deliveries of each (event, receiver), both by their places."""

    events: tuple[tuple[str, str], ...]
    deliveries: tuple[tuple[int, int], ...]


def pattern(random: Random) -> Pattern:
    """Draw the events that are dealt, each with the receivers that take it; one that nobody takes is drawn again."""
    names, weights = [name for name, _, _ in APPLICATIONS], [weight for _, _, weight in APPLICATIONS]
    types, often = [name for name, _, _ in EVENT_TYPES], [weight for _, _, weight in EVENT_TYPES]
    events: list[tuple[str, str]] = []
    deliveries: list[tuple[int, int]] = []
    while len(events) < PATTERN_EVENTS:
        (application,), (event_type,) = random.choices(names, weights), random.choices(types, often)
        takers = [
            place
            for place, receiver in enumerate(RECEIVERS)
            if receiver.application == application and takes(receiver, event_type)
        ]
        if takers:
            deliveries += [(len(events), place) for place in takers]
            events.append((application, event_type))
    return Pattern(events=tuple(events), deliveries=tuple(deliveries))


def takes(receiver: Receiver, event_type: str) -> bool:
    """Tell whether a receiver's patterns match a type."""
    return any(
        wanted in {"*", event_type} or (wanted.endswith(".*") and event_type.startswith(wanted[:-1]))
        for wanted in receiver.event_types
    )


def host_of(application: str) -> str:
    """Return a host that no one has: `.example` is kept free of names."""
    return f"hooks.{application}.example"


def url_of(receiver: Receiver) -> str:
    """Return a receiver's address."""
    return f"{'https' if receiver.tls else 'http'}://{host_of(receiver.application)}{receiver.path}"
