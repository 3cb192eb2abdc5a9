"""Small real processes for the tests of the embedded services."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.integration.embedded.started import Started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def start_python(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Starts Python programs in sessions of their own; those that still run in the end are killed."""
    all_started: list[Started] = []

    def start(*arguments: str, **options: object) -> Started:
        written = tmp_path / f"output-{len(all_started)}.txt"
        all_started.append(Started.start(*arguments, written=written, **options))
        return all_started[-1]

    yield start
    for started in all_started:
        with contextlib.suppress(ProcessLookupError):
            started.process.kill()
        started.process.wait()
