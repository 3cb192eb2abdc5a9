"""What the API's delivery log says of an endpoint's attempts."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.harness.stack import Endpoint, Stack

# An attempt as (outcome, error class).
Verdict = tuple[str, str | None]


async def attempts_to(stack: Stack, endpoint: Endpoint) -> list[list[dict[str, Any]]]:
    """Return, for each delivery to an endpoint, its attempts as the API shows them, in order."""
    deliveries: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for attempt in await stack.list_all("/v1/attempts", endpoint=endpoint.id, limit=100):
        deliveries[attempt["delivery"]].append(attempt)
    return [sorted(attempts, key=lambda attempt: attempt["number"]) for attempts in deliveries.values()]


def verdict(attempt: dict[str, Any]) -> Verdict:
    """Return an attempt's outcome and the class of its error."""
    return attempt["outcome"], attempt["error"] and attempt["error"]["class"]
