"""Reads the table of who may call what."""

from __future__ import annotations

from pathlib import Path

POLICY_FILE = "docs/reference/roles.txt"


def read_policy() -> dict[str, dict[str, str]]:
    """Return for each route (`GET /v1/events`) what stands in its row, by the heads of the columns."""
    lines = (Path(__file__).parents[4] / POLICY_FILE).read_text(encoding="utf-8").splitlines()
    heads, *rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {f"{row[0]} {row[1]}": dict(zip(heads[1:], row[2:], strict=True)) for row in rows}
