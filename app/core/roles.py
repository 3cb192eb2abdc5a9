"""What an API key may do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """From most to least; a publisher publishes and reads nothing."""

    ADMIN = "admin"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    VIEWER = "viewer"
