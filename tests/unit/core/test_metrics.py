"""What Bellwire counts about itself."""

from __future__ import annotations

from app.core import metrics


def test_names_begin_with_bellwire():
    """All metrics of ours can be found by their prefix."""
    names = {family.name for family in metrics.REGISTRY.collect()}
    assert {name for name in names if not name.startswith(("bellwire_", "python_"))} == set()


def test_requests_are_rendered_in_prometheus_text():
    """A counted request shows up with its labels."""
    metrics.HTTP_REQUESTS.labels("GET", "/v1/tests", "200").inc()
    text = metrics.render().decode()
    assert 'bellwire_http_requests_total{method="GET",route="/v1/tests",status="200"} 1.0' in text
