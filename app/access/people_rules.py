"""Rules about people, without a database: addresses, who manages whom, how long links and sessions last."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from app.core.roles import PersonRole

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from app.core.context import Caller

MAX_EMAIL_CHARS = 254
# Long enough to come by mail and be opened after a weekend's Friday, short enough to be forgotten about.
INVITATION_LASTS = timedelta(days=3)
# Somebody waits for it.
LINK_LASTS = timedelta(hours=1)
# After a link was used the person may set a password without knowing an earlier one.
LINK_SETS_PASSWORD = timedelta(minutes=30)
# What runs on the machine that holds the database may do anything.
COMMAND_LINE = "command_line"

# ASCII only: other letters have forms that look, or fold, like these, and an address is proof of who somebody is.
_EMAIL = re.compile(r"[!#-'*+\-./0-9=?A-Z^-~]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


def normalise_email(text: str) -> str | None:
    """Return the form in which an address is stored and compared, or None if it is none."""
    stripped = text.strip()
    if len(stripped) > MAX_EMAIL_CHARS or not _EMAIL.fullmatch(stripped) or ".." in stripped:
        return None
    return stripped.lower()


def standing_of(caller: Caller) -> PersonRole | None:
    """Return as whom somebody manages people: an admin key as an admin, the command line as an owner."""
    if caller.person is not None:
        return caller.person.role
    if caller.actor_kind == COMMAND_LINE:
        return PersonRole.OWNER
    if caller.role.value in set(PersonRole) and caller.application_id is None:
        return PersonRole(caller.role.value)
    return None


def may_manage(standing: PersonRole | None, *, roles: Collection[PersonRole]) -> bool:
    """Tell whether somebody may make, change or remove people who have, or get, these roles."""
    if standing is PersonRole.OWNER:
        return True
    return standing is PersonRole.ADMIN and PersonRole.OWNER not in roles


def leaves_no_owner(*, is_owner_now: bool, is_owner_after: bool, other_owners: int) -> bool:
    """Tell whether a change would leave a workspace without an enabled owner, when it has one."""
    return is_owner_now and not is_owner_after and other_owners == 0


def needs_current_password(*, method: str, signed_in_at: datetime, now: datetime) -> bool:
    """Tell whether a person must give the present password to set a new one: not just after a login link."""
    return method != "link" or now - signed_in_at > LINK_SETS_PASSWORD
