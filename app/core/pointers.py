"""JSON pointers (RFC 6901): where in a document something is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def pointer_to(parts: Iterable[str | int]) -> str:
    """Return the pointer that leads through these keys and indexes; no parts mean the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
