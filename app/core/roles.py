"""What an API key may do, and what a person may do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Of keys, from most to least; a publisher publishes and reads nothing."""

    ADMIN = "admin"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    VIEWER = "viewer"


class PersonRole(StrEnum):
    """Of people, from most to least. An owner is an admin who also decides who the owners are."""

    OWNER = "owner"
    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"

    @property
    def as_role(self) -> Role:
        """What this person may do with everything but people."""
        return Role.ADMIN if self is PersonRole.OWNER else Role(self.value)
