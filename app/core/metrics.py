"""What Bellwire counts about itself, for Prometheus at `/metrics`. All names begin with `bellwire_`.

Labels have few values: no ids, no URLs, no names that a caller chooses.
"""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

# Our own, so that a library's metrics never come along by accident.
REGISTRY = CollectorRegistry(auto_describe=True)
MEDIA_TYPE = CONTENT_TYPE_LATEST

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

HTTP_REQUESTS = Counter(
    "bellwire_http_requests",
    "Requests answered by the API, by method, route and status.",
    ("method", "route", "status"),
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "bellwire_http_request_seconds",
    "Time from the first byte of a request to the end of its answer.",
    ("method", "route"),
    buckets=_REQUEST_BUCKETS,
    registry=REGISTRY,
)

ProcessCollector(namespace="bellwire", registry=REGISTRY)
PlatformCollector(registry=REGISTRY)


def render() -> bytes:
    """Return all metrics of this process in Prometheus' text format."""
    return generate_latest(REGISTRY)


# --- Publishing
EVENTS_ACCEPTED = Counter("bellwire_events_accepted", "Events stored.", registry=REGISTRY)
EVENTS_REPLAYED = Counter(
    "bellwire_events_replayed", "Publishes whose uid and content had come before.", registry=REGISTRY
)
EVENTS_CONFLICTING = Counter(
    "bellwire_events_conflicting",
    "Publishes refused because their uid stands for other content.",
    registry=REGISTRY,
)
PUBLISH_REFUSED = Counter(
    "bellwire_publish_refused", "Publishes answered 503 because too many were waiting.", registry=REGISTRY
)
FILTER_ERRORS = Counter(
    "bellwire_filter_errors", "Content filters that erred on an event.", registry=REGISTRY
)
SCHEMA_VIOLATIONS = Counter(
    "bellwire_schema_violations", "Events that broke their type's schema.", ("validation",), registry=REGISTRY
)
INGEST_FLUSH_SECONDS = Histogram(
    "bellwire_ingest_flush_seconds",
    "Time of one accept statement.",
    buckets=_REQUEST_BUCKETS,
    registry=REGISTRY,
)
INGEST_FLUSH_EVENTS = Histogram(
    "bellwire_ingest_flush_events",
    "Events written by one accept statement.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500),
    registry=REGISTRY,
)
WAKES_SENT = Counter("bellwire_wakes_sent", "Wake-ups handed to the broker.", registry=REGISTRY)
WAKES_FAILED = Counter("bellwire_wakes_failed", "Wake-ups that the broker did not take.", registry=REGISTRY)
NOTIFIES_SENT = Counter("bellwire_notifies_sent", "Wake-ups sent through Postgres.", registry=REGISTRY)
NOTIFIES_HEARD = Counter("bellwire_notifies_heard", "Wake-ups that came through Postgres.", registry=REGISTRY)

# --- Delivering
CLAIMED = Counter("bellwire_deliveries_claimed", "Deliveries leased.", registry=REGISTRY)
ATTEMPTS = Counter(
    "bellwire_attempts",
    "Attempts made, by outcome and error class.",
    ("outcome", "error_class"),
    registry=REGISTRY,
)
ATTEMPT_SECONDS = Histogram(
    "bellwire_attempt_seconds", "Time of one attempt.", buckets=_REQUEST_BUCKETS, registry=REGISTRY
)
RECORD_SECONDS = Histogram(
    "bellwire_record_seconds", "Time of one record statement.", buckets=_REQUEST_BUCKETS, registry=REGISTRY
)
STALE_RESULTS = Counter(
    "bellwire_stale_results", "Results that came after their lease had ended.", registry=REGISTRY
)
RESULTS_REFUSED = Counter(
    "bellwire_results_refused", "Results that Postgres refused to store.", registry=REGISTRY
)
LEASES_LOST = Counter("bellwire_leases_lost", "Leases that ended without a result.", registry=REGISTRY)
DRAIN_FAILURES = Counter(
    "bellwire_drain_failures", "Faults of our own in the drain: bugs.", registry=REGISTRY
)
CIRCUITS_OPENED = Counter(
    "bellwire_circuits_opened",
    "Circuits of endpoints that opened, probes that failed included.",
    registry=REGISTRY,
)
CIRCUITS_CLOSED = Counter(
    "bellwire_circuits_closed", "Circuits of endpoints that closed after good probes.", registry=REGISTRY
)
CIRCUITS_NOT_SETTLED = Counter(
    "bellwire_circuits_not_settled",
    "Looks at circuits after a result that failed; the next result looks again.",
    registry=REGISTRY,
)
COUNTERS_WRONG = Counter(
    "bellwire_counters_wrong", "In-flight counters that upkeep had to correct: bugs.", registry=REGISTRY
)
NOTICES_PUBLISHED = Counter(
    "bellwire_notices_published",
    "Events of Bellwire's own, published to an application `operations`.",
    registry=REGISTRY,
)
NOTICES_DROPPED = Counter(
    "bellwire_notices_dropped",
    "Events of Bellwire's own for which the workspace has no application `operations`: somebody removed it.",
    registry=REGISTRY,
)
PARTITION_DAYS_AHEAD = Gauge(
    "bellwire_partition_days_ahead", "Days after today for which all partitions exist.", registry=REGISTRY
)


_attempts: dict[tuple[str, str], Counter] = {}


def note_attempt(*, outcome: str, error_class: str | None, duration_ms: float | None) -> None:
    """Count one attempt."""
    key = outcome, error_class or ""
    counter = _attempts.get(key)
    if counter is None:
        # Looking a labelled counter up costs more than counting.
        counter = _attempts[key] = ATTEMPTS.labels(*key)
    counter.inc()
    if duration_ms is not None:
        ATTEMPT_SECONDS.observe(duration_ms / 1000)
