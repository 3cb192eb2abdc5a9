"""People as the API takes and shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from app.api.schemas import Answer, Model, Name, Patch, Timestamp
from app.core import ids

if TYPE_CHECKING:
    from app.access.login_links import IssuedLink
    from app.access.users import Invited
    from app.models import User

RoleName = Literal["owner", "admin", "operator", "viewer"]

_USER_EXAMPLE: dict[str, JsonValue] = {
    "id": "usr_01kb2m9w4e8f3tq6v7xz1y5n0r",
    "email": "ada@example.com",
    "name": "Ada",
    "role": "operator",
    "disabled": False,
    "has_password": True,
    "created_at": "2026-01-31T12:00:00.123456Z",
    "last_sign_in_at": None,
}
_LINK_EXAMPLE: dict[str, JsonValue] = {
    "url": "https://hooks.example.com/login/link/3vX0...",
    "expires_at": "2026-02-03T12:00:00.123456Z",
}
_ROLES = (
    "`owner`: as admin, and decides who the owners are; `admin`: everything else in the workspace; `operator`: read "
    "and repair; `viewer`: read, but no secrets."
)


class UserCreate(Model):
    """A person to invite."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@example.com", "role": "operator", "name": "Ada"}]}
    )

    email: str = Field(description="With it the person signs in. One address belongs to one workspace.")
    role: RoleName = Field(description=_ROLES)
    name: Name | None = None


class UserPatch(Patch):
    """What is to change about a person."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "viewer"}]})

    name: Name | None = None
    role: RoleName = Field(default="viewer", description="Another role ends the person's sessions.")
    disabled: bool = Field(
        default=False, description="`true` ends the person's sessions, and nobody signs in as them."
    )


class UserAnswer(Answer):
    """A person of the workspace."""

    model_config = ConfigDict(json_schema_extra={"examples": [_USER_EXAMPLE]})

    id: str
    email: str
    name: str | None
    role: RoleName
    disabled: bool
    has_password: bool = Field(description="False before the first password was set.")
    created_at: Timestamp
    last_sign_in_at: Timestamp | None

    @classmethod
    def of(cls, row: User) -> UserAnswer:
        """Show a row."""
        return cls(**_members(row))


class LoginLinkAnswer(Answer):
    """A login link that was just made."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINK_EXAMPLE]})

    url: str = Field(
        description="Whoever opens it is that person, once. It is shown now and never again: send it to nobody else."
    )
    expires_at: Timestamp

    @classmethod
    def of(cls, issued: IssuedLink, *, public_url: str) -> LoginLinkAnswer:
        """Show a new link."""
        return cls(url=issued.url(public_url), expires_at=issued.expires_at)


class InvitedUserAnswer(UserAnswer):
    """A person who was just added, with their first login link."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**_USER_EXAMPLE, "has_password": False, "login_link": _LINK_EXAMPLE}]
        }
    )

    login_link: LoginLinkAnswer

    @classmethod
    def invited(cls, invited: Invited, *, public_url: str) -> InvitedUserAnswer:
        """Show a new person."""
        link = LoginLinkAnswer.of(invited.link, public_url=public_url)
        return cls(**_members(invited.row), login_link=link)


def _members(row: User) -> dict[str, Any]:
    return {
        "id": ids.to_text(ids.USER, row.id),
        "email": row.email,
        "name": row.name,
        "role": row.role,
        "disabled": row.disabled_at is not None,
        "has_password": row.password_hash is not None,
        "created_at": row.created_at,
        "last_sign_in_at": row.last_sign_in_at,
    }
