"""Settings: typed values with units, read once from the environment and passed down.

Every setting is an environment variable with the prefix `BELLWIRE_`. A value that cannot be used stops the
start with one sentence (see `load_settings`); nothing is read later or anywhere else.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.core.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT = 8400
DEFAULT_DEMO_PORT = 8401

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Settings(BaseSettings):
    """All settings of the API, the workers, beat, and the command line."""

    model_config = SettingsConfigDict(env_prefix="BELLWIRE_", extra="ignore", frozen=True)

    environment: Literal["development", "production"] = Field(
        default="production",
        description="`development` is what `bellwire dev` sets: a key is made, loopback may be delivered to.",
    )

    # --- Where things are
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="`postgresql://user:password@host:port/name`, Postgres 15 or newer.",
    )
    broker_url: SecretStr = Field(
        default=SecretStr(""), description="`redis://...` or `amqp://...`; carries wake-ups only."
    )
    host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535, description="Port that the API listens on.")
    demo_port: int = Field(
        default=DEFAULT_DEMO_PORT, ge=0, le=65535, description="Port of the demo receiver."
    )
    base_url: str = Field(
        default="", description="Public address of the API; made from host and port if absent."
    )
    data_dir: str = Field(default=".bellwire", description="Folder of the embedded services' data.")

    # --- Secrets
    encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="AES-256 keys, base64, newest first, separated by commas."
    )
    bootstrap_key: SecretStr = Field(
        default=SecretStr(""), description="At the first start: the admin API key of the first workspace."
    )
    instance_key: SecretStr = Field(
        default=SecretStr(""), description="Key for `/v1/workspaces` only; at least 32 characters."
    )

    # --- People
    session_hours: float = Field(
        default=168, gt=0, le=8_760, description="A person is signed in for at most so many hours: 7 days."
    )
    session_idle_hours: float = Field(
        default=12, gt=0, description="A session that is not used for so many hours is over."
    )
    dashboard_read_only: bool = Field(
        default=False, description="People may look at everything their role allows, and change nothing."
    )
    oidc_issuer: str = Field(
        default="",
        description="Issuer of an OpenID provider through which people may sign in, as its description has it.",
    )
    oidc_client_id: str = Field(default="", description="Bellwire's client id at that provider.")
    oidc_client_secret: SecretStr = Field(
        default=SecretStr(""), description="Its secret; none for a public client."
    )
    oidc_name: str = Field(
        default="your identity provider", description="What the button on the sign-in page calls it."
    )
    oidc_domains: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Domains whose verified addresses may sign in, unknown ones too; none: only people who were added.",
    )
    oidc_role: Literal["viewer", "operator", "admin"] = Field(
        default="viewer", description="Role of people who come in unknown, from one of these domains."
    )
    oidc_workspace: str = Field(
        default="", description="Id of the workspace that they come into; not needed if there is one."
    )

    # --- The API
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(),
        description="Ranges of the reverse proxies in front of the API, whose `X-Forwarded-For` is believed.",
    )
    max_body_bytes: int = Field(default=1_048_576, ge=1_024, description="Largest request body, bytes.")
    max_batch_body_bytes: int = Field(default=10_485_760, ge=1_024, description="Largest batch body, bytes.")
    api_rate: float = Field(default=0, ge=0, description="Requests per second and API key; 0 is no limit.")
    auth_failures_per_minute: int = Field(
        default=300,
        ge=0,
        description="Requests with a wrong key that one address may send before it gets 429; 0 is no limit.",
    )
    workspace_events_per_second: float = Field(
        default=0, ge=0, description="Events that a workspace may publish per second; 0 is no limit."
    )
    workspace_payload_bytes_per_second: int = Field(
        default=0, ge=0, description="Bytes of bodies that a workspace may publish per second; 0 is no limit."
    )
    workspace_endpoints: int = Field(
        default=0, ge=0, description="Endpoints that a workspace may have; 0 is no limit."
    )
    api_pool_size: int = Field(default=10, ge=1, description="Connections for requests, per API process.")
    publish_pool_size: int = Field(
        default=3, ge=1, description="Connections for publishing: two flushes overlap, one looks things up."
    )
    database_connect_timeout_seconds: float = Field(
        default=3.0, gt=0, description="Longest wait for a connection, new or from the pool."
    )
    database_statement_timeout_seconds: float = Field(
        default=15.0, gt=0, description="Postgres ends a statement that takes longer."
    )
    ingest_max_waiting: int = Field(
        default=4_000, ge=1, description="Publish requests that may wait for a flush; above it 503."
    )
    ingest_flush_events: int = Field(default=500, ge=1, description="Most events written by one statement.")
    ingest_flush_bytes: int = Field(
        default=8_388_608, ge=1, description="Most payload bytes in one statement."
    )
    ingest_deadline_seconds: float = Field(
        default=10.0, gt=0, description="A publish not committed by then: 503."
    )
    ingest_max_deliveries_inline: int = Field(
        default=1_000, ge=1, description="Fan-outs above it are expanded by a worker."
    )
    wake_interval_seconds: float = Field(default=0.02, ge=0, description="At most one wake-up in this time.")
    wake_by_notify: bool = Field(
        default=True,
        description="Wake workers through Postgres, too; `false` where a proxy swallows its notifications.",
    )

    # --- The workers
    worker_processes: int = Field(default=0, ge=0, description="Prefork processes; 0 is one per two cores.")
    worker_slots: int = Field(default=256, ge=1, description="Requests in flight, per worker process.")
    worker_claim_batch: int = Field(default=200, ge=1, description="Most deliveries taken by one claim.")
    worker_poll_seconds: float = Field(
        default=2.0, gt=0, description="Without a wake-up look every so often."
    )
    worker_flush_seconds: float = Field(
        default=0.002, ge=0, description="Wait of a result for others that share its flush."
    )
    worker_grace_seconds: float = Field(
        default=45.0, ge=0, description="On a stop: time for requests in flight before they are handed back."
    )
    worker_host_limit: int = Field(
        default=128, ge=1, description="Requests in flight to one target host, per worker process."
    )
    worker_transport: Literal["engine", "stock"] = Field(
        default="engine", description="`stock` sends with httpx2's own transport instead of Bellwire's."
    )
    lease_margin_seconds: float = Field(
        default=10.0, gt=0, description="A lease is the endpoint's timeout plus this."
    )
    sweep_seconds: float = Field(
        default=2.0,
        gt=0,
        description="Expired leases, and events of Bellwire's own to publish, are looked for so often.",
    )

    # --- Delivery
    egress_allow: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(), description="Ranges that deliveries may go to although the policy forbids them."
    )
    egress_deny: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(),
        description="Ranges that deliveries may not go to, whatever else allows them: your own public addresses.",
    )
    egress_proxy: SecretStr = Field(
        default=SecretStr(""),
        description="`http://user:password@host:port` of a proxy that all deliveries go through, by CONNECT.",
    )
    retry_schedule: Annotated[tuple[int, ...], NoDecode] = Field(
        default=(5, 30, 120, 600, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        description="Default delays in seconds: 12 attempts over about 3.2 days.",
    )
    max_age_seconds: int = Field(default=432_000, ge=60, description="Deadline of a delivery: 5 days.")
    retention_days: int = Field(
        default=30, ge=7, description="Events, deliveries and attempts are kept so long."
    )
    audit_retention_days: int = Field(
        default=365, ge=30, description="Entries of the audit log are kept so long."
    )

    # --- Logs and signs of life
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto`: console on a terminal, else JSON."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lines below it are not written."
    )
    beat_file: str = Field(
        default="",
        description="Beat touches this file after each wake-up that the broker took; for health checks.",
    )

    @field_validator(
        "egress_allow",
        "egress_deny",
        "encryption_keys",
        "retry_schedule",
        "trusted_proxies",
        "oidc_domains",
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("encryption_keys")
    @classmethod
    def _keys_are_aes_256(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            try:
                length = len(base64.b64decode(key.get_secret_value(), validate=True))
            except ValueError:
                length = -1
            if length != 32:  # noqa: PLR2004 - AES-256
                raise ValueError(
                    "each key must be 32 random bytes in base64; make one with: openssl rand -base64 32"
                )
        return value

    @field_validator("retry_schedule")
    @classmethod
    def _schedule_is_sane(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(value) <= 20 or any(not 0 <= delay <= 604_800 for delay in value):  # noqa: PLR2004
            raise ValueError("a retry schedule has 1 to 20 delays of 0 to 604800 seconds")
        return value

    @field_validator("oidc_domains")
    @classmethod
    def _domains_are_plain(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        domains = tuple(domain.lower().lstrip("@") for domain in value)
        if any(not domain.isascii() or "*" in domain or "@" in domain for domain in domains):
            raise ValueError("each must be a whole domain, such as example.com; write xn-- for other letters")
        return domains

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer_is_protected(cls, value: str) -> str:
        parts = urlsplit(value)
        on_this_machine = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if value and not (parts.hostname and (parts.scheme == "https" or on_this_machine)):
            raise ValueError("an issuer is an https:// address, such as https://accounts.example.com")
        return value

    @field_validator("base_url")
    @classmethod
    def _base_url_is_an_address(cls, value: str) -> str:
        # Whether cookies are for https alone, and HSTS, hang on it: what is no address must not pass for http.
        if not value:
            return value
        try:
            parts = urlsplit(value)
            good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good or parts.username is not None or parts.query or parts.fragment or not value.isprintable():
            raise ValueError("the public address must look like https://hooks.example.com")
        return parts.geturl()

    @field_validator("instance_key")
    @classmethod
    def _instance_key_is_long(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value()
        if key and (len(key) < 32 or not key.isascii() or not key.isprintable() or " " in key):  # noqa: PLR2004
            raise ValueError(
                "the instance key must have at least 32 visible ASCII characters; make one with: openssl rand -hex 32"
            )
        return value

    @field_validator("bootstrap_key")
    @classmethod
    def _bootstrap_key_is_long(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value()
        if key and (not key.startswith("bw_") or len(key) < 32):  # noqa: PLR2004
            raise ValueError("the bootstrap key must begin with bw_ and have at least 32 characters")
        return value

    @field_validator("egress_proxy")
    @classmethod
    def _proxy_is_an_http_address(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if not url:
            return value
        # Nothing of it goes into the message: it may hold a password.
        fault = "the proxy must look like http://host:port or http://user:password@host:port"
        try:
            parts = urlsplit(url)
            good = parts.scheme == "http" and parts.hostname and parts.port != 0
        except ValueError:
            raise ValueError(fault) from None
        if not good or parts.path not in {"", "/"} or parts.query or parts.fragment or not url.isprintable():
            raise ValueError(fault)
        return value

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address with SQLAlchemy's driver name in it."""
        url = self.database_url.get_secret_value()
        for prefix in ("postgresql+psycopg://", "postgresql://", "postgres://"):
            if url.startswith(prefix):
                return "postgresql+psycopg://" + url.removeprefix(prefix)
        return url

    @property
    def public_url(self) -> str:
        """The address under which people and receivers know this server, without a final slash."""
        return (self.base_url or f"http://{self.host}:{self.port}").rstrip("/")

    @cached_property
    def worker_name(self) -> str:
        """Host and process id: what `attempts.worker` shows."""
        return f"{socket.gethostname()}:{os.getpid()}"


def load_settings(
    *, need_database: bool = True, need_keys: bool = True, found: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings from the environment.

    `need_keys=False` is for what never opens a secret (migrations, API keys), so that it need not be given one.
    `found` holds values by field name that stand in where the environment says nothing: what `bellwire dev`
    keeps in its data folder.

    Raises:
        StartupError: a value cannot be used, or the database's address is missing; the message names the
            variable, says what is wrong and what to do.

    """
    try:
        settings = Settings(**_unless_in_environment(found or {}))
    except ValidationError as error:
        lines = [
            f"BELLWIRE_{'_'.join(str(part) for part in item['loc'][:1]).upper()}: {item['msg']}"
            for item in error.errors()
        ]
        raise StartupError(
            "A setting cannot be used: "
            + "; ".join(lines)
            + ". Correct it in the environment and start again."
        ) from None
    url = settings.database_url.get_secret_value()
    if need_database and not url:
        raise StartupError(
            "BELLWIRE_DATABASE_URL is not set, so there is nowhere to keep events. Set it to "
            "postgresql://user:password@host:5432/name, or use `bellwire dev`, which brings its own Postgres."
        )
    if need_database and not settings.sqlalchemy_url.startswith("postgresql+psycopg://"):
        raise StartupError(
            "BELLWIRE_DATABASE_URL does not name a Postgres database. "
            "It must look like postgresql://user:password@host:5432/name."
        )
    if settings.oidc_issuer and not settings.oidc_client_id:
        raise StartupError(
            "BELLWIRE_OIDC_ISSUER is set, but BELLWIRE_OIDC_CLIENT_ID is not. Register Bellwire at the provider and "
            "set the id that it gives, or take the issuer away."
        )
    if settings.environment == "production" and need_database and need_keys and not settings.encryption_keys:
        raise StartupError(
            "BELLWIRE_ENCRYPTION_KEYS is not set; endpoint secrets cannot be stored without it. "
            "Make a key with `openssl rand -base64 32`, keep it safe, and set it for the API and the workers."
        )
    return settings


def _unless_in_environment(found: Mapping[str, str]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not os.environ.get(f"BELLWIRE_{name.upper()}")}
