"""The benchmark works: every scenario, in a size that takes seconds."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from bench.measure import Latency
from bench.scenarios import SCENARIOS
from tests.faults.harness.stack import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# They share one stack, and still each starts and stops workers.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# What counts requests or latencies has these charts; all have one of the CPU time.
CHARTS = {
    "publish": {"latency", "throughput"},
    "steady": {"latency"},
    "idle": {"latency"},
    "batch": {"latency"},
    "drain": {"throughput"},
    "workers": {"throughput"},
    "lanes": {"throughput"},
    "old": {"throughput"},
    "fanout": {"latency", "throughput"},
    "memory": {"memory", "throughput"},
    "hang": {"latency", "throughput"},
    "flood": {"latency"},
    "dashboard": {"latency"},
}
MOST_BYTES = 100_000
MOST_STATEMENTS = 5


async def test_quick_benchmark_measures_everything_and_loses_nothing(tmp_path: Path) -> None:
    """The quick run writes figures and charts of each scenario, with nothing lost, doubled, unsigned or unlogged."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--quick", "--results", str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    results = {result["scenario"]: result for result in _read_results(tmp_path)}
    assert list(results) == list(SCENARIOS) == list(CHARTS)
    pages = results.pop("dashboard")
    for result in results.values():
        _check_counts(result)
    _check_pages(pages)
    _check_files(tmp_path)
    hanging = _figures(results["hang"])
    assert 0 < hanging["hanging requests at once, most"] <= 10
    assert _figures(results["flood"])["requests of the flood at once, most"] <= 10


def _check_counts(result: dict[str, Any]) -> None:
    tally = result["tally"]
    assert tally["accepted"] == tally["received"] == result["attempts_logged"] > 0
    assert tally["lost"] == tally["duplicate"] == tally["unsigned"] == tally["unknown"] == 0
    assert {ceiling["kind"] for ceiling in result["ceilings"]} == {"http", "commit", "rows", "hmac", "python"}
    assert all(ceiling["value"] > 0 for ceiling in result["ceilings"])
    assert all(figure["share"] > 0 for figure in result["figures"] if figure["ceiling"])
    assert result["cpu_seconds_per_1000"]["worker"] > 0
    assert all(Latency.decode(encoded).count > 0 for encoded in result["histograms"].values())


def _check_pages(result: dict[str, Any]) -> None:
    """Nothing is delivered: pages are asked for, and none may fail or run more statements than is promised."""
    figures = _figures(result)
    assert figures["pages that were not answered with 200"] == 0
    assert 0 < figures["most statements of a page"] <= MOST_STATEMENTS
    assert figures["GET /dashboard/deliveries, p95"] > 0


def _figures(result: dict[str, Any]) -> dict[str, float]:
    return {figure["name"]: figure["value"] for figure in result["figures"]}


def _check_files(folder: Path) -> None:
    charts = {f"{name}-{chart}.svg" for name, charts in CHARTS.items() for chart in {*charts, "cpu"}}
    files = list(folder.iterdir())
    assert {file.name for file in files} == {*charts, "results.json"}
    for file in files:
        assert file.stat().st_size < MOST_BYTES
        if file.suffix == ".svg":
            ET.parse(file)  # noqa: S314 - we wrote it


def _read_results(folder: Path) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())["results"]
    return results
