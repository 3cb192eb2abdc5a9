"""What a duty returns that works in several short transactions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """How much was done, and whether there is more to do at once, in a transaction of its own."""

    count: int
    more: bool
