"""Who is calling: made by the API from the key or the session, passed to every service, never global."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from app.core.roles import PersonRole, Role


@dataclass(frozen=True, slots=True)
class Person:
    """The person behind a session."""

    user_id: UUID
    session_id: UUID
    role: PersonRole


@dataclass(frozen=True, slots=True)
class Caller:
    """The party behind a request. Every query is scoped to `workspace_id`.

    `application_id` is set where the key is bound to one application: all others do not exist for it. `person` is
    set where a person calls, and `role` is then what that person's role allows.
    """

    workspace_id: UUID
    role: Role
    actor_kind: str
    actor_id: str
    application_id: UUID | None = None
    address: str | None = None
    request_id: str | None = None
    api_key_id: UUID | None = None
    person: Person | None = None
