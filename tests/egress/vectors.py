"""The table of egress vectors, as the tests walk it; the data is vectors.toml beside this file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PUBLIC_ADDRESS = "93.184.216.34"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One target; the fields are explained at the head of the data."""

    target: str
    refused: Literal["save", "connect", "never"]
    why: str
    answers: tuple[str, ...] = (PUBLIC_ADDRESS,)
    rebound: tuple[str, ...] = ()
    redirect: str = ""
    form: bool = False
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the test's report calls it."""
        return ascii(self.target)[1:-1] + (" " + self.why if self.answers != (PUBLIC_ADDRESS,) else "")


def _read() -> list[Vector]:
    with Path(__file__).with_name("vectors.toml").open("rb") as file:
        groups: list[dict[str, Any]] = tomllib.load(file)["groups"]
    return [
        Vector(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()},
            settings=group.get("with", {}),
        )
        for group in groups
        for found in group["vectors"]
    ]


VECTORS = _read()
