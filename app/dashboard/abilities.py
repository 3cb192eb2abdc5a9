"""What the person who looks may do: a button that they may not press is absent, and its form is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core.errors import Forbidden
from app.core.roles import PersonRole

if TYPE_CHECKING:
    from app.core.context import Caller
    from app.core.settings import Settings

_OPERATORS = frozenset({PersonRole.OPERATOR, PersonRole.ADMIN, PersonRole.OWNER})
ADMINS = frozenset({PersonRole.ADMIN, PersonRole.OWNER})


@dataclass(frozen=True, slots=True)
class Abilities:
    """`operate`: retry, cancel, pause, tests. `administer`: endpoints, secrets, keys, applications, the audit log."""

    operate: bool
    administer: bool
    read_only: bool

    @classmethod
    def of(cls, caller: Caller, settings: Settings) -> Abilities:
        """Return what a caller may do here."""
        role = caller.person.role if caller.person else PersonRole.VIEWER
        read_only = settings.dashboard_read_only
        return cls(
            operate=role in _OPERATORS and not read_only,
            administer=role in ADMINS and not read_only,
            read_only=read_only,
        )

    def require_operate(self) -> None:
        """Refuse who may not retry, cancel, pause or test.

        Raises:
            Forbidden: the role does not allow it, or the dashboard is read only.

        """
        if not self.operate:
            raise self._refusal("operator")

    def require_administer(self) -> None:
        """Refuse who may not change endpoints, secrets, keys or applications.

        Raises:
            Forbidden: the role does not allow it, or the dashboard is read only.

        """
        if not self.administer:
            raise self._refusal("admin")

    def _refusal(self, needed: str) -> Forbidden:
        if self.read_only:
            return Forbidden(
                "This dashboard is read only (BELLWIRE_DASHBOARD_READ_ONLY), so nothing was done. Use the API or the "
                "command line, or ask whoever runs it to change the setting."
            )
        return Forbidden(
            f"This needs the role {needed}, which you do not have, so nothing was done. Ask an owner or admin of your "
            "workspace to do it, or to change your role."
        )
