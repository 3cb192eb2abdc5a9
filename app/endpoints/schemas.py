"""Endpoints and their secrets as the API takes and shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from app.api.pages import Page
from app.api.schemas import Answer, Metadata, Model, Patch, Timestamp
from app.core import ids
from app.endpoints.headers import masked, open_headers
from app.endpoints.patterns import EVERYTHING
from app.endpoints.queries import MAX_BACKLOG
from app.endpoints.secrets import DEFAULT_GRACE_SECONDS, MAX_GRACE_SECONDS, public_key_of
from app.endpoints.targets import shown_url

if TYPE_CHECKING:
    from app.core.context import Caller
    from app.core.runtime import Runtime
    from app.endpoints.queries import EndpointView
    from app.models import CircuitTransition, EndpointRuntime

MAX_DELAYS = 20
MAX_DELAY_SECONDS = 604_800
MAX_DESCRIPTION_CHARS = 1_024
MAX_SECRET_CHARS = 256

Ordering = Literal["none", "fifo"]
Format = Literal["standard", "cloudevents"]
SignatureName = Literal["hmac-sha256", "ed25519"]
FifoOnDead = Literal["skip", "block"]
HealthState = Literal["closed", "open", "half_open"]

Description = Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARS)]
MaxInFlight = Annotated[int, Field(ge=1, le=1_000)]
TimeoutSeconds = Annotated[int, Field(ge=1, le=30)]
MaxAgeSeconds = Annotated[int, Field(ge=60)]
Delay = Annotated[int, Field(ge=0, le=MAX_DELAY_SECONDS)]
RetrySchedule = Annotated[list[Delay], Field(min_length=1, max_length=MAX_DELAYS)]
SecretText = Annotated[str, Field(min_length=1, max_length=MAX_SECRET_CHARS)]

_EXAMPLE: dict[str, JsonValue] = {
    "url": "https://shop.example.com/webhooks",
    "description": "The shop's orders",
    "event_types": ["order.*"],
    "filter": "data.amount > 100 && data.currency == 'EUR'",
    "headers": {"Authorization": "Bearer 8f1c"},
    "rate_limit": {"per_second": 50, "burst": 100},
}
_SHOWN: dict[str, JsonValue] = {
    "id": "ep_01kb2m9w4e8f3tq6v7xz1y5n0r",
    "application": "app_01kb2m9w4e8f3tq6v7xz1y5n0s",
    "application_uid": "default",
    **_EXAMPLE,
    "headers": {"Authorization": "***"},
    "max_in_flight": 10,
    "timeout_seconds": 15,
    "retry_schedule": [5, 30, 120],
    "ordering": "none",
    "fifo_on_dead": "skip",
    "format": "standard",
    "signature": "hmac-sha256",
    "public_key": None,
    "max_age_seconds": 432000,
    "enabled": True,
    "disabled_reason": None,
    "paused": False,
    "metadata": {},
    "created_at": "2026-01-31T12:00:00.123456Z",
    "updated_at": "2026-01-31T12:00:00.123456Z",
    "health": {
        "state": "closed",
        "reason": None,
        "consecutive_failures": 0,
        "opened_at": None,
        "next_probe_at": None,
        "last_success_at": "2026-01-31T12:00:00.123456Z",
        "last_failure_at": None,
    },
    "filter_errors": 0,
    "last_filter_error": None,
    "backlog": 0,
    "backlog_capped": False,
}

_TRANSITION: dict[str, JsonValue] = {
    "at": "2026-01-31T12:00:00.123456Z",
    "from_state": "closed",
    "to_state": "open",
    "reason": "10 requests in a row failed.",
    "actor": None,
}


class RateLimit(Model):
    """A token bucket."""

    per_second: float = Field(gt=0, le=100_000, description="Requests per second, on average.")
    burst: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Requests at once; `per_second`, rounded up, if left out.",
    )


class EndpointCreate(Model):
    """A new endpoint: where and how to deliver."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    application: str | None = Field(
        default=None, min_length=1, max_length=128, description="Id or uid; `default`, if left out."
    )
    url: str = Field(min_length=1, max_length=2_048, description="http or https, an address that is allowed.")
    description: Description | None = None
    event_types: list[str] = Field(
        default_factory=lambda: [EVERYTHING],
        description="Patterns such as `order.*`; all events, if left out.",
    )
    filter: str | None = Field(default=None, description="CEL over `type`, `data` and `metadata`.")
    secret: SecretText | None = Field(default=None, description="A secret of yours; made, if left out.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers to send with each request.")
    rate_limit: RateLimit | None = None
    max_in_flight: MaxInFlight = Field(default=10, description="Requests under way at a time.")
    timeout_seconds: TimeoutSeconds = Field(default=15, description="For the whole attempt.")
    retry_schedule: RetrySchedule | None = Field(
        default=None, description="Delays in seconds, each after the end of the attempt before."
    )
    ordering: Ordering = Field(
        default="none", description="`fifo`: one at a time, in the order of acceptance."
    )
    fifo_on_dead: FifoOnDead = Field(
        default="skip",
        description="With `fifo`, what becomes of the line when its first delivery is dead: it goes on (`skip`), or "
        "waits (`block`) until that delivery is retried and succeeds, or the endpoint is resumed.",
    )
    format: Format = "standard"
    signature: SignatureName = "hmac-sha256"
    max_age_seconds: MaxAgeSeconds | None = Field(
        default=None, description="A delivery older than this is dead."
    )
    enabled: bool = True
    metadata: Metadata = Field(default_factory=dict)


class EndpointUpdate(Patch):
    """What to change; fields that are left out stay as they are, null sets a field back to its default."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"max_in_flight": 50, "rate_limit": None}]})

    url: str = Field(default="", min_length=1, max_length=2_048)
    description: Description | None = None
    event_types: list[str] = Field(default_factory=list)
    filter: str | None = None
    headers: dict[str, str] | None = Field(
        default=None, description="Replaces all headers; a value of `***` keeps the stored one."
    )
    rate_limit: RateLimit | None = None
    max_in_flight: MaxInFlight = 10
    timeout_seconds: TimeoutSeconds = 15
    retry_schedule: RetrySchedule | None = None
    ordering: Ordering = "none"
    fifo_on_dead: FifoOnDead = "skip"
    format: Format = "standard"
    signature: SignatureName = "hmac-sha256"
    max_age_seconds: MaxAgeSeconds | None = None
    enabled: bool = True
    metadata: Metadata = Field(default_factory=dict)

    def changes(self) -> dict[str, Any]:
        """Return what was given, by field name, as plain values."""
        return {
            name: value.model_dump() if isinstance(value, Model) else value
            for name, value in super().changes().items()
        }


class Health(Answer):
    """How the endpoint does: its circuit, and its last results. Tests do not count."""

    state: HealthState
    reason: str | None = Field(description="Why the circuit is not closed.")
    consecutive_failures: int
    opened_at: Timestamp | None = Field(description="Since when the circuit has not been closed.")
    next_probe_at: Timestamp | None = Field(
        description="When one request goes out to see how the receiver does; null while a person holds it open."
    )
    last_success_at: Timestamp | None
    last_failure_at: Timestamp | None

    @classmethod
    def of(cls, row: EndpointRuntime) -> Health:
        """Show a runtime row."""
        return cls.model_validate(
            {
                "state": row.circuit_state,
                "reason": row.circuit_reason,
                "consecutive_failures": row.consecutive_failures,
                "opened_at": row.circuit_opened_at,
                "next_probe_at": row.next_probe_at,
                "last_success_at": row.last_success_at,
                "last_failure_at": row.last_failure_at,
            }
        )


class CircuitTransitionAnswer(Answer):
    """One change of an endpoint's circuit."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TRANSITION]})

    at: Timestamp
    from_state: HealthState
    to_state: HealthState
    reason: str
    actor: str | None = Field(description="The API key of the person who did it; null for Bellwire itself.")

    @classmethod
    def of(cls, row: CircuitTransition) -> CircuitTransitionAnswer:
        """Show a transition."""
        return cls.model_validate(
            {
                "at": row.at,
                "from_state": row.from_state,
                "to_state": row.to_state,
                "reason": row.reason,
                "actor": row.actor,
            }
        )


class CircuitAnswer(Page[CircuitTransitionAnswer]):
    """An endpoint's circuit as it is now, and one page of what has happened to it, newest first."""

    health: Health


class RateLimitAnswer(Answer):
    """A token bucket."""

    per_second: float
    burst: int


class EndpointAnswer(Answer):
    """Where and how to deliver."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: str
    application: str
    application_uid: str | None
    url: str = Field(description="Without its query string for viewers.")
    description: str | None
    event_types: list[str] | None = Field(description="Null where there are several subscriptions.")
    filter: str | None = Field(description="Null where there are several subscriptions.")
    headers: dict[str, str] = Field(description="Their values are masked.")
    rate_limit: RateLimitAnswer | None
    max_in_flight: int
    timeout_seconds: int
    retry_schedule: list[int]
    ordering: Ordering
    fifo_on_dead: FifoOnDead
    format: Format
    signature: SignatureName
    public_key: str | None = Field(description="`whpk_...` to verify with, for ed25519.")
    max_age_seconds: int
    enabled: bool
    disabled_reason: str | None
    paused: bool = Field(description="Events keep collecting and wait.")
    metadata: dict[str, str]
    created_at: Timestamp
    updated_at: Timestamp
    health: Health
    filter_errors: int = Field(description="Events for which a filter could not be evaluated: no match.")
    last_filter_error: str | None
    backlog: int = Field(description="Deliveries that wait or are being sent.")
    backlog_capped: bool = Field(description=f"There are more than {MAX_BACKLOG}.")

    @classmethod
    def of(cls, view: EndpointView, *, caller: Caller, runtime: Runtime) -> EndpointAnswer:
        """Show an endpoint to a caller."""
        return cls.model_validate(_members(view, caller=caller, runtime=runtime))


class NewEndpointAnswer(EndpointAnswer):
    """A new endpoint with its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_SHOWN, "secret": "whsec_..."}]})

    secret: str = Field(description="Verifies signatures. In this answer only; admins can ask for it later.")

    @classmethod
    def created(
        cls, view: EndpointView, *, secret: str, caller: Caller, runtime: Runtime
    ) -> NewEndpointAnswer:
        """Show a new endpoint."""
        return cls.model_validate(_members(view, caller=caller, runtime=runtime) | {"secret": secret})


class PreviousSecret(Answer):
    """A secret before the current one, which still signs."""

    expires_at: Timestamp


class SecretAnswer(Answer):
    """The signing secret, and when those before it stop signing."""

    secret: str
    previous: list[PreviousSecret]


class SecretRotate(Model):
    """How to replace the secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace_seconds": 86400}]})

    grace_seconds: int = Field(
        default=DEFAULT_GRACE_SECONDS,
        ge=0,
        le=MAX_GRACE_SECONDS,
        description="How long requests carry the signature of the secret before, too.",
    )
    secret: SecretText | None = Field(default=None, description="A secret of yours; made, if left out.")


class RotatedSecretAnswer(Answer):
    """The new secret."""

    secret: str


class TestSend(Model):
    """What a test delivery carries."""

    __test__ = False  # It is not a class of tests, whatever pytest thinks of its name.
    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "order.placed", "data": {"id": 42}}]})

    type: str | None = Field(
        default=None,
        description="Its event type; `bellwire.test`, if left out. `bellwire.forged` is signed with a key that nobody has: a "
        "receiver that verifies refuses it.",
    )
    data: Any = Field(default=None, description="Any JSON; a short greeting, if left out.")


def _members(view: EndpointView, *, caller: Caller, runtime: Runtime) -> dict[str, Any]:
    row, state, settings = view.endpoint, view.runtime, runtime.settings
    headers = open_headers(row.sealed_headers, keyring=runtime.keyring, endpoint_id=row.id)
    several = len(view.subscriptions) > 1
    only = view.subscriptions[0] if len(view.subscriptions) == 1 else None
    no_types: list[str] | None = None if several else []
    return {
        "id": ids.to_text(ids.ENDPOINT, row.id),
        "application": ids.to_text(ids.APPLICATION, row.application_id),
        "application_uid": view.application_uid,
        "url": shown_url(row.url, caller),
        "description": row.description,
        "event_types": only.event_types if only else no_types,
        "filter": only.filter if only else None,
        "headers": masked(headers),
        "rate_limit": (
            {"per_second": row.rate_per_second, "burst": row.rate_burst} if row.rate_per_second else None
        ),
        "max_in_flight": row.max_in_flight,
        "timeout_seconds": row.timeout_seconds,
        "retry_schedule": row.retry_schedule or list(settings.retry_schedule),
        "ordering": row.ordering,
        "fifo_on_dead": row.fifo_on_dead,
        "format": row.format,
        "signature": row.signature,
        "public_key": public_key_of(view.secret, keyring=runtime.keyring) if view.secret else None,
        "max_age_seconds": row.max_age_seconds or settings.max_age_seconds,
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason,
        "paused": row.paused,
        "metadata": row.custom,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "health": Health.of(state),
        "filter_errors": state.filter_errors,
        "last_filter_error": state.last_filter_error,
        "backlog": min(view.backlog, MAX_BACKLOG),
        "backlog_capped": view.backlog > MAX_BACKLOG,
    }
