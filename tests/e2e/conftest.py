"""Shows the logs of all processes when a test with real processes fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.harness.reporting import add_logs

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs to the report of a failure."""
    report = yield
    add_logs(item, report)
    return report
