"""Showing the logs of a test's processes when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.harness.stack import Stack

if TYPE_CHECKING:
    import pytest


def add_logs(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add the ends of all logs of every stack among the test's fixtures to its report."""
    if not report.failed:
        return
    fixtures: dict[str, object] = getattr(item, "funcargs", {})
    for value in fixtures.values():
        stack = value if isinstance(value, Stack) else getattr(value, "stack", None)
        if isinstance(stack, Stack):
            report.sections.append(("Bellwire's processes", stack.logs()))
            return
