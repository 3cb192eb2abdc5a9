"""What `bellwire dev` runs, and with which secrets: the plan that the supervisor carries out."""

from __future__ import annotations

import base64
import os
import secrets
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from app.core.errors import BellwireError
from app.embedded.child import ChildSpec
from app.embedded.errors import EmbeddedError
from app.embedded.first_owner import first_login_link
from app.embedded.first_run import ensure_demo_endpoint
from app.embedded.kept import keep_text, kept_secret
from app.embedded.supervisor import Addresses, Listener, Plan, run
from bellwire import generate_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.core.settings import Settings
    from app.embedded.output import Output

ENCRYPTION_KEY_FILE = "encryption.key"
API_KEY_FILE = "api.key"
API_URL_FILE = "api.url"  # For the commands that are typed beside `bellwire dev`.
DEMO_SECRET_FILE = "demo.secret"  # noqa: S105 - a file's name
DEMO_PATH = "/webhooks"
LOOPBACK = "127.0.0.0/8,::1/128"
API_SECONDS = 10.0  # For each of the few requests that set up the demo endpoint.

_STOP_MARGIN_SECONDS = 10.0  # A worker first finishes what it has in flight, then hands the rest back.
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - reached, not bound


def run_development(settings: Settings, *, output: Output | None = None) -> int:
    """Start everything, run until Ctrl-C or SIGTERM, stop everything; return the exit code.

    Call it on the main thread. Raises EmbeddedError with a sentence for a person if the start fails.
    """
    return run(plan_development(settings), output=output)


def plan_development(settings: Settings) -> Plan:
    """Return what is to run, over which folder. Nothing is touched yet."""
    development = _Development(settings)
    return Plan(
        folder=development.folder,
        listeners=(
            Listener(settings.host, settings.port, "the API", "BELLWIRE_PORT"),
            Listener("127.0.0.1", settings.demo_port, "the demo receiver", "BELLWIRE_DEMO_PORT"),
        ),
        database_url=settings.database_url.get_secret_value() or None,
        broker_url=settings.broker_url.get_secret_value() or None,
        make_secrets=development.make_secrets,
        prepare=development.migrations,
        children=development.children,
        # First nothing new comes in, then the workers finish what they have, and its receiver goes last.
        stop_order=("beat", "api", "worker", "demo"),
        when_ready=development.set_up,
    )


class _Development:
    """The secrets of one data folder, and the commands that get them."""

    def __init__(self, settings: Settings) -> None:
        self.folder = Path(settings.data_dir)
        self._settings = settings
        host = _WILDCARDS.get(settings.host, settings.host)
        self._api_url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
        self._demo_url = f"http://127.0.0.1:{settings.demo_port}{DEMO_PATH}"
        self._database_url = settings.database_url
        self._uses_own_database = not settings.database_url.get_secret_value()

    def make_secrets(self) -> None:
        """Make all secrets that are not there yet, before there is data that depends on them.

        Raises EmbeddedError if there is data, and the key to it is gone.
        """
        path = self.folder / ENCRYPTION_KEY_FILE
        if not path.exists() and (self.folder / "postgres" / "data").exists() and self._uses_own_database:
            raise EmbeddedError(
                f"{path} is missing, and without it the secrets of the endpoints in {self.folder} cannot be "
                f"read. Put the file back, or delete {self.folder} to begin with an empty database."
            )
        for make in (self._encryption_key, self._api_key, self._demo_secret):
            make()

    def migrations(self, addresses: Addresses) -> ChildSpec:
        """`bellwire migrate`."""
        return ChildSpec("migrate", _bellwire("migrate"), self._environment(addresses))

    def children(self, addresses: Addresses) -> Sequence[ChildSpec]:
        """The four processes of Bellwire."""
        self._database_url = SecretStr(addresses.database_url)
        environment = self._environment(addresses)
        worker_seconds = self._settings.worker_grace_seconds + _STOP_MARGIN_SECONDS
        # Root may run it: Celery's reason against that, messages with code in them, is not there with JSON.
        warnings = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
        receiver = {"BELLWIRE_DEMO_SECRET": self._demo_secret()}
        demo_ready = self._demo_url.removesuffix(DEMO_PATH) + "/healthz"
        return (
            ChildSpec("api", _bellwire("api"), environment, ready_url=f"{self._api_url}/readyz"),
            ChildSpec("worker", _bellwire("worker"), environment | warnings, stop_seconds=worker_seconds),
            ChildSpec("beat", _bellwire("beat"), environment),
            ChildSpec("demo", _bellwire("demo-receiver"), receiver, ready_url=demo_ready),
        )

    async def set_up(self) -> str:
        """Note where the API is, make the demo endpoint, and return the words of welcome."""
        keep_text(self.folder / API_URL_FILE, self._api_url)
        fault = None
        async with httpx2.AsyncClient(
            base_url=self._api_url,
            headers={"authorization": f"Bearer {self._api_key()}"},
            timeout=API_SECONDS,
            trust_env=False,
        ) as client:
            try:
                await ensure_demo_endpoint(client, url=self._demo_url, secret=self._demo_secret())
            except (EmbeddedError, httpx2.HTTPError) as error:
                fault = str(error) or type(error).__name__
        return self._welcome(fault, link=await self._login_link())

    async def _login_link(self) -> str | None:
        settings = self._settings.model_copy(update={"database_url": self._database_url})
        try:
            return await first_login_link(settings, public_url=self._settings.base_url or self._api_url)
        except (BellwireError, SQLAlchemyError):
            # What else was started runs; `bellwire users link` says what is the matter.
            return None

    def _environment(self, addresses: Addresses) -> dict[str, str]:
        """What every process of Bellwire is told. What the user has set by hand is left as it is."""
        own = {
            "BELLWIRE_ENVIRONMENT": "development",
            "BELLWIRE_ENCRYPTION_KEYS": self._encryption_key(),
            "BELLWIRE_BOOTSTRAP_KEY": self._api_key(),
            "BELLWIRE_EGRESS_ALLOW": LOOPBACK,
            "BELLWIRE_LOG_FORMAT": "console",
        }
        return {
            **{name: value for name, value in own.items() if not os.environ.get(name)},
            "BELLWIRE_DATABASE_URL": addresses.database_url,
            "BELLWIRE_BROKER_URL": addresses.broker_url,
        }

    def _encryption_key(self) -> str:
        path = self.folder / ENCRYPTION_KEY_FILE
        return kept_secret(path, make=lambda: base64.b64encode(secrets.token_bytes(32)).decode())

    def _api_key(self) -> str:
        given = self._settings.bootstrap_key.get_secret_value()
        return given or kept_secret(
            self.folder / API_KEY_FILE, make=lambda: f"bw_dev_{secrets.token_hex(24)}"
        )

    def _demo_secret(self) -> str:
        return kept_secret(self.folder / DEMO_SECRET_FILE, make=generate_secret)

    def _welcome(self, fault: str | None, *, link: str | None) -> str:
        key = self._api_key()
        data = shlex.quote('{"type": "order.placed", "data": {"order": 1001, "total": "49.90"}}')
        if fault is None:
            demo = f"{self._demo_url} gets every event of application `default`; watch its lines here"
        else:
            demo = f"not set up: {fault}"
            if not self._uses_own_database:
                demo += " (this database has keys of its own: set BELLWIRE_BOOTSTRAP_KEY to one of its admin keys)"
        return "\n".join(
            (
                "",
                "─" * 78,
                "  Bellwire is ready.",
                "",
                f"  Sign in    {link or f'{self._api_url}/login'}",
                *(("             as owner, once and within an hour; then set a password",) if link else ()),
                f"  API        {self._api_url}   (reference: {self._api_url}/docs)",
                f"  API key    {key}",
                f"             admin of this development workspace, kept in {self.folder / API_KEY_FILE}",
                f"  Receiver   {demo}",
                f"  Egress     deliveries to this machine ({LOOPBACK}) are allowed here; in production they",
                "             are not, unless BELLWIRE_EGRESS_ALLOW says so",
                "",
                "  Publish your first event:",
                "",
                f"curl -X POST {self._api_url}/v1/events \\",
                f"  -H 'Authorization: Bearer {key}' \\",
                "  -H 'Content-Type: application/json' \\",
                f"  -d {data}",
                "",
                f"  Ctrl-C stops everything; the data stays in {self.folder}/ for the next start.",
                "─" * 78,
                "",
            )
        )


def _bellwire(command: str) -> tuple[str, ...]:
    """Return our own command with the Python that runs us, whatever the PATH says."""
    return (sys.executable, "-m", "app.cli", command)
