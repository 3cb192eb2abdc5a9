"""What Bellwire counts about itself, for Prometheus at `/metrics`. All names begin with `bellwire_`.

Labels have few values: no ids, no URLs, no names that a caller chooses.
"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
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
