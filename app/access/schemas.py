"""API keys, workspaces and the audit log as the API takes and shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from app.access.audit import AUDIT_ENTRY
from app.access.keys import MAX_OVERLAP_SECONDS, IssuedKey
from app.api.schemas import Answer, Model, Name, Patch, Timestamp
from app.core import ids

if TYPE_CHECKING:
    from app.access.workspaces import NewWorkspace
    from app.models import ApiKey, AuditEntry, Workspace

RoleName = Literal["admin", "operator", "publisher", "viewer"]

_KEY_EXAMPLE: dict[str, JsonValue] = {
    "name": "Shop backend",
    "role": "publisher",
    "application": None,
    "expires_at": None,
}
_KEY_SHOWN: dict[str, JsonValue] = {
    "id": "key_01kb2m9w4e8f3tq6v7xz1y5n0r",
    **_KEY_EXAMPLE,
    "key_id": "5f2b9c0d1e3a4b6c",
    "created_at": "2026-01-31T12:00:00.123456Z",
    "last_used_at": None,
}
MAX_QUOTA = 1_000_000_000_000
_SHOWN_ONCE = "The key itself. It is shown now and never again: only its hash is stored."


class ApiKeyCreate(Model):
    """A new API key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Shop backend", "role": "publisher"}]})

    name: Name
    role: RoleName = Field(
        description="`admin`: everything in the workspace; `operator`: read and repair; `publisher`: publish "
        "events and nothing else; `viewer`: read, but no secrets."
    )
    application: str | None = Field(
        default=None, description="Id or uid of the one application that the key is bound to."
    )
    expires_at: Timestamp | None = None


class ApiKeyRoll(Model):
    """How a key is replaced."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": 86400}]})

    overlap_seconds: int = Field(
        default=86_400, ge=0, le=MAX_OVERLAP_SECONDS, description="How long the old key still works."
    )


class ApiKeyAnswer(Answer):
    """An API key, without the key itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY_SHOWN]})

    id: str
    name: str
    role: RoleName
    application: str | None = Field(description="Id of the application that it is bound to.")
    key_id: str = Field(description="The part of the key that follows `bw_`, to tell keys apart.")
    created_at: Timestamp
    expires_at: Timestamp | None
    last_used_at: Timestamp | None = Field(description="To the minute.")

    @classmethod
    def of(cls, row: ApiKey) -> ApiKeyAnswer:
        """Show a row."""
        return cls(**_key_members(row))


class IssuedKeyAnswer(ApiKeyAnswer):
    """A key that was just made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_KEY_SHOWN, "key": "bw_5f2b9c0d1e3a4b6c_..."}]}
    )

    key: str = Field(description=_SHOWN_ONCE)

    @classmethod
    def issued(cls, issued: IssuedKey) -> IssuedKeyAnswer:
        """Show a new key."""
        return cls(**_key_members(issued.row), key=issued.text)


class RolledKeyAnswer(IssuedKeyAnswer):
    """The key that takes over, and when the old one ends."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_KEY_SHOWN,
                    "key": "bw_5f2b9c0d1e3a4b6c_...",
                    "replaces": {
                        "id": "key_01kb2m9w4e8f3tq6v7xz1y5n0q",
                        "expires_at": "2026-02-01T12:00:00.123456Z",
                    },
                }
            ]
        }
    )

    replaces: ReplacedKey

    @classmethod
    def rolled(cls, issued: IssuedKey, old: ApiKey) -> RolledKeyAnswer:
        """Show the new key and the old one's end."""
        return cls(
            **_key_members(issued.row),
            key=issued.text,
            replaces=ReplacedKey(id=ids.to_text(ids.API_KEY, old.id), expires_at=old.expires_at),
        )


class ReplacedKey(Answer):
    """The key that was rolled."""

    id: str
    expires_at: Timestamp | None


class WorkspaceCreate(Model):
    """A new workspace."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Acme"}]})

    name: Name


class QuotasUpdate(Patch):
    """What a workspace may use; null is this server's default, 0 no limit."""

    events_per_second: float | None = Field(
        default=None, ge=0, le=MAX_QUOTA, allow_inf_nan=False, description="Events published per second."
    )
    payload_bytes_per_second: int | None = Field(
        default=None, ge=0, le=MAX_QUOTA, description="Bytes of published bodies per second."
    )
    endpoints: int | None = Field(default=None, ge=0, le=MAX_QUOTA, description="How many endpoints.")


class WorkspaceUpdate(Model):
    """Changes to a workspace."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"quotas": {"events_per_second": 50, "endpoints": 100}}]}
    )

    quotas: QuotasUpdate


class WorkspaceQuotas(Answer):
    """What a workspace may use; null is this server's default, 0 no limit."""

    events_per_second: float | None
    payload_bytes_per_second: int | None
    endpoints: int | None

    @classmethod
    def of(cls, row: Workspace) -> WorkspaceQuotas:
        """Show a row's."""
        return cls(
            events_per_second=row.events_per_second,
            payload_bytes_per_second=row.payload_bytes_per_second,
            endpoints=row.max_endpoints,
        )


class WorkspaceAnswer(Answer):
    """One customer of the service."""

    id: str
    name: str
    quotas: WorkspaceQuotas
    created_at: Timestamp

    @classmethod
    def of(cls, row: Workspace) -> WorkspaceAnswer:
        """Show a row."""
        return cls(
            id=ids.to_text(ids.WORKSPACE, row.id),
            name=row.name,
            quotas=WorkspaceQuotas.of(row),
            created_at=row.created_at,
        )


class NewWorkspaceAnswer(WorkspaceAnswer):
    """A workspace that was just made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "wsp_01kb2m9w4e8f3tq6v7xz1y5n0r",
                    "name": "Acme",
                    "quotas": {
                        "events_per_second": None,
                        "payload_bytes_per_second": None,
                        "endpoints": None,
                    },
                    "created_at": "2026-01-31T12:00:00.123456Z",
                    "api_key": "bw_5f2b9c0d1e3a4b6c_...",
                }
            ]
        }
    )

    api_key: str | None = Field(description=_SHOWN_ONCE)

    @classmethod
    def made(cls, made: NewWorkspace) -> NewWorkspaceAnswer:
        """Show a new workspace with its first admin key."""
        return cls(
            id=ids.to_text(ids.WORKSPACE, made.row.id),
            name=made.row.name,
            quotas=WorkspaceQuotas.of(made.row),
            created_at=made.row.created_at,
            api_key=made.api_key,
        )


class Actor(Answer):
    """Who did it."""

    kind: str = Field(examples=["api_key"])
    id: str = Field(examples=["key_01kb2m9w4e8f3tq6v7xz1y5n0r"])


class AuditedObject(Answer):
    """What it was done to."""

    kind: str = Field(examples=["endpoint"])
    id: str = Field(examples=["ep_01kb2m9w4e8f3tq6v7xz1y5n0r"])


class AuditEntryAnswer(Answer):
    """One change, reveal or repair."""

    id: str
    action: str = Field(examples=["endpoint.updated"])
    actor: Actor
    object: AuditedObject
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    address: str | None = Field(description="The network address that the request came from.")
    request_id: str | None
    created_at: Timestamp

    @classmethod
    def of(cls, row: AuditEntry) -> AuditEntryAnswer:
        """Show a row."""
        return cls(
            id=ids.to_text(AUDIT_ENTRY, row.id),
            action=row.action,
            actor=Actor(kind=row.actor_kind, id=row.actor_id),
            object=AuditedObject(kind=row.object_kind, id=row.object_id),
            before=row.before,
            after=row.after,
            address=row.address,
            request_id=row.request_id,
            created_at=row.created_at,
        )


def _key_members(row: ApiKey) -> dict[str, Any]:
    bound = row.application_id
    return {
        "id": ids.to_text(ids.API_KEY, row.id),
        "name": row.name,
        "role": row.role,
        "application": ids.to_text(ids.APPLICATION, bound) if bound else None,
        "key_id": row.key_id,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
    }


RolledKeyAnswer.model_rebuild()
