"""The benchmark works: every scenario, in a size that takes seconds."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.harness.stack import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SCENARIOS = ["publish", "idle", "drain"]


async def test_quick_benchmark_measures_and_loses_nothing(tmp_path: Path) -> None:
    """The quick run writes figures for each scenario, with nothing lost, doubled, unsigned or unlogged."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--quick", "--results", str(tmp_path), *SCENARIOS),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    results = _read_results(tmp_path)
    assert [result["scenario"] for result in results] == SCENARIOS
    for result in results:
        assert result["tally"]["accepted"] == result["tally"]["received"] == result["attempts_logged"]
        assert result["tally"]["accepted"] > 0
        assert all(figure["value"] > 0 for figure in result["ceilings"])
        assert result["cpu_seconds_per_1000"]["worker"] > 0


def _read_results(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("*.json")
    results: list[dict[str, Any]] = json.loads(file.read_text())["results"]
    return results
