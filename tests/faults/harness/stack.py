"""Everything that Bellwire is, as real processes: Postgres, broker, API, workers, beat.

Leases, polls and retries are short by settings, so that a test sees in a second what takes a minute in
production. Each process can be killed, frozen and started again by its own handle.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx2
import psutil  # type: ignore[import-untyped]
import psycopg

from app.core.migrate import upgrade
from app.embedded.broker import EmbeddedBroker
from app.embedded.kept import choose_port
from app.embedded.postgres import EmbeddedPostgres
from tests.faults.harness.ledger import LedgerReceiver
from tests.faults.harness.processes import ManagedProcess
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[3]
READY_SECONDS = 60.0
REQUEST_SECONDS = 30.0

# A lease is the endpoint's timeout plus the margin: with a timeout of 2 s a lost delivery is found after 4 s.
SHORT_SETTINGS: Mapping[str, str] = {
    "BELLWIRE_LEASE_MARGIN_SECONDS": "2",
    "BELLWIRE_SWEEP_SECONDS": "0.5",
    "BELLWIRE_WORKER_POLL_SECONDS": "1",
    "BELLWIRE_WORKER_GRACE_SECONDS": "5",
    "BELLWIRE_WORKER_PROCESSES": "1",
    "BELLWIRE_RETRY_SCHEDULE": "1,1,1,1,1,1",
    "BELLWIRE_DATABASE_CONNECT_TIMEOUT_SECONDS": "2",
}
ENDPOINT_TIMEOUT_SECONDS = 2
LEASE_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that the test created, and the receiver's path behind it."""

    id: str
    path: str
    body: dict[str, Any]


class Stack:
    """The whole service in one temporary folder. As an async context manager it starts and stops everything.

    Args:
        settings: environment variables on top of SHORT_SETTINGS, for every process.
        short: False runs with the settings as shipped.
        broker_url: a broker that somebody else runs; without it an embedded one is started.
        workers, beats: how many of each to start at first.
        receives: False starts no receiver; then endpoints are created by other means than `create_endpoint`.

    """

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        short: bool = True,
        broker_url: str | None = None,
        workers: int = 1,
        beats: int = 1,
        receives: bool = True,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bellwire-stack-"))
        self.postgres = EmbeddedPostgres(self.folder / "postgres", settings=postgres_settings)
        self.broker = None if broker_url else EmbeddedBroker(self.folder / "broker")
        self.api_key = "bw_" + secrets.token_hex(32)
        # Held until the API takes it: what starts before the API chooses ports of its own in the same range.
        self._held_port = _hold_port()
        self.api_port = int(self._held_port.getsockname()[1])
        self.workers: list[ManagedProcess] = []
        self.beats: list[ManagedProcess] = []
        self._broker_url = broker_url
        self._wanted = (workers, beats)
        self._receives = receives
        self._settings = {**(SHORT_SETTINGS if short else {}), **(settings or {})}
        self._processes: list[ManagedProcess] = []
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self.environment: dict[str, str] = {}

    @property
    def base_url(self) -> str:
        """Where the API listens."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def database_url(self) -> str:
        """The database, in libpq's form."""
        return self.postgres.url.replace("postgresql+psycopg", "postgresql", 1)

    @property
    def broker_url(self) -> str:
        """The broker that all processes use."""
        return self._broker_url or self._embedded_broker().url

    async def start(self) -> Self:
        """Start everything and wait until it works."""
        self.postgres.start()
        if self.broker is not None:
            self.broker.start()
        upgrade(self.postgres.url)
        self.environment = self._environment()
        self.client = httpx2.AsyncClient(
            base_url=self.base_url,
            headers={"authorization": f"Bearer {self.api_key}"},
            timeout=REQUEST_SECONDS,
            trust_env=False,
        )
        self.receiver = LedgerReceiver(self.folder, root=ROOT, environment=self.environment)
        if self._receives:
            await self.receiver.start()
        workers, beats = self._wanted
        self.start_api()
        self.workers = [self.start_worker() for _ in range(workers)]
        self.beats = [self.start_beat() for _ in range(beats)]
        await self.wait_for_api()
        for worker in self.workers:
            await self.wait_for_worker(worker)
        return self

    async def stop(self) -> None:
        """End every process and remove the folder."""
        self._held_port.close()
        await self.client.aclose()
        for process in self._processes:  # A clean stop takes seconds, and there is nothing left to lose.
            process.kill_tree()
        self.receiver.stop()
        if self._connection is not None:
            self._connection.close()
        if self.broker is not None:
            self.broker.stop()
        self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            sys.stderr.write(self.logs())
            with suppress(Exception):
                await self.stop()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stderr.write(self.logs())
        await self.stop()

    # --- Processes

    def start_worker(self, **settings: str) -> ManagedProcess:
        """Start one more worker, with settings of its own; see `wait_for_worker`."""
        process = self._process("worker", settings=settings)
        process.start()
        return process

    def start_beat(self) -> ManagedProcess:
        """Start one more beat."""
        process = self._process("beat")
        process.start()
        return process

    def start_api(self, **settings: str) -> ManagedProcess:
        """Start the API (again), with settings of its own; see `wait_for_api`."""
        self._held_port.close()
        self.api = self._process("api", settings=settings)
        self.api.start()
        return self.api

    async def wait_for_api(self) -> None:
        """Wait until the API answers."""

        async def answers() -> bool:
            if not self.api.is_running():
                raise RuntimeError(f"the API ended with {self.api.exit_code}; see its log")
            with suppress(httpx2.HTTPError):
                return (await self.client.get("/healthz")).status_code == httpx2.codes.OK
            return False

        await wait_until(answers, seconds=READY_SECONDS, what="the API answers", state=self.api.tail)

    async def wait_for_worker(self, worker: ManagedProcess) -> None:
        """Wait until a child of this worker has finished a claim (its heartbeat says so)."""

        def works() -> bool:
            if not worker.is_running():
                raise RuntimeError(f"{worker.name} ended with {worker.exit_code}; see its log")
            return bool(self.drains_of(worker))

        await wait_until(works, seconds=READY_SECONDS, what=f"{worker.name} claims", state=worker.tail)

    def drains_of(self, worker: ManagedProcess) -> list[psutil.Process]:
        """Return the processes of this worker that claim and send: those with a heartbeat."""
        names = {name for (name,) in self.sql("SELECT name FROM worker_heartbeats")}
        pids = {int(name.rsplit(":", 1)[-1]) for name in names}
        return [process for process in worker.children() if process.pid in pids]

    async def restore_workers(self, *, count: int = 1) -> None:
        """See to it that `count` workers run and work, whatever a test did to them."""
        self.workers = [worker for worker in self.workers if worker.is_running()]
        while len(self.workers) < count:
            self.workers.append(self.start_worker())
        for worker in self.workers:
            await self.wait_for_worker(worker)

    def kill_broker(self, *, forget: bool = True) -> None:
        """SIGKILL the broker; with `forget` its files go too, so that it comes back empty."""
        broker = self._embedded_broker()
        _kill(broker.pid)
        if forget:
            shutil.rmtree(broker.folder / "appendonlydir", ignore_errors=True)

    def freeze_broker(self) -> None:
        """SIGSTOP the broker: the kernel still takes connections and bytes for it, and nothing answers."""
        psutil.Process(self._embedded_broker().pid).suspend()

    def thaw_broker(self) -> None:
        """SIGCONT the broker."""
        psutil.Process(self._embedded_broker().pid).resume()

    def start_broker(self) -> None:
        """Start the broker again on its old port."""
        self._embedded_broker().start()

    def kill_postgres(self) -> None:
        """SIGKILL the postmaster and all its backends at once."""
        pid = self.postgres.pid
        if pid is not None:
            family = psutil.Process(pid).children(recursive=True)
            _kill(pid)
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def start_postgres(self) -> None:
        """Start Postgres again on its old port; it recovers."""
        self.postgres.start()

    # --- What the database says

    def sql(self, query: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[Any]:
        """Run a statement in a transaction of its own and return its rows."""
        for again in (True, False):
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)
            try:
                cursor = self._connection.execute(query, parameters or None)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:  # Postgres was killed since.
                self._connection.close()
                if not again:
                    raise
        raise AssertionError("unreachable")

    def number(self, query: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> int:
        """Run a statement whose answer is one number."""
        return int(self.sql(query, parameters)[0][0] or 0)

    # --- Through the API

    async def create_endpoint(self, path: str, **body: Any) -> Endpoint:
        """Create an endpoint that leads to a path of the receiver; `body` overrides the short defaults."""
        answer = await self.client.post(
            "/v1/endpoints",
            json={
                "url": self.receiver.url(path),
                "secret": self.receiver.secret,
                "timeout_seconds": ENDPOINT_TIMEOUT_SECONDS,
                **body,
            },
        )
        assert answer.status_code == httpx2.codes.CREATED, answer.text
        return Endpoint(id=answer.json()["id"], path=path, body=answer.json())

    async def list_all(self, path: str, **parameters: str | int) -> list[dict[str, Any]]:
        """Return all items of a list, page after page."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            query = {**parameters, **({"cursor": cursor} if cursor else {})}
            answer = await self.client.get(path, params=query)
            assert answer.status_code == httpx2.codes.OK, answer.text
            page = answer.json()
            items += page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    async def metric(self, name: str) -> float:
        """Return the value of one of the API's metrics that has no labels."""
        lines = (await self.client.get("/metrics")).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    # --- For people

    def logs(self) -> str:
        """Return the ends of all logs, to be shown when a test fails."""
        parts = [f"----- {process.name}\n{process.tail()}" for process in self._processes]
        return "\n".join([f"Logs are in {self.folder}", *parts]) + "\n"

    def worker_logs(self) -> list[str]:
        """Return the whole logs of all workers that ever ran."""
        return [process.whole_log() for process in self._processes if process.name.startswith("worker")]

    def cpu_groups(self) -> dict[str, list[int]]:
        """Return the process ids by role, to measure CPU time."""
        return {
            "api": [self.api.pid],
            "worker": [worker.pid for worker in self.workers if worker.is_running()],
            "beat": [beat.pid for beat in self.beats if beat.is_running()],
            "postgres": [pid for pid in [self.postgres.pid] if pid],
            "broker": [pid for pid in [self.broker.pid if self.broker else None] if pid],
        }

    def _embedded_broker(self) -> EmbeddedBroker:
        if self.broker is None:
            raise RuntimeError("this stack uses a broker that somebody else runs")
        return self.broker

    def _process(self, command: str, *, settings: Mapping[str, str] | None = None) -> ManagedProcess:
        count = sum(process.name.startswith(command) for process in self._processes)
        process = ManagedProcess(
            f"{command}-{count + 1}",
            [str(Path(sys.executable).with_name("bellwire")), command],
            environment={**self.environment, **(settings or {})},
            folder=self.folder,
            cwd=ROOT,
        )
        self._processes.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        # Compiled modules are kept: a process that compiles all it imports takes four seconds to start.
        others = ("BELLWIRE_", "PG", "CELERY", "PYTHONDONTWRITEBYTECODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        return {
            **inherited,
            "BELLWIRE_DATABASE_URL": self.database_url,
            "BELLWIRE_BROKER_URL": self.broker_url,
            "BELLWIRE_PORT": str(self.api_port),
            "BELLWIRE_BOOTSTRAP_KEY": self.api_key,
            "BELLWIRE_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
            "BELLWIRE_EGRESS_ALLOW": "127.0.0.0/8",
            "BELLWIRE_DATA_DIR": str(self.folder / "data"),
            **self._settings,
        }


def monotonic() -> float:
    """Return the machine's monotonic clock in seconds: the ledger's times are of the same clock."""
    return time.monotonic()


def _hold_port() -> socket.socket:
    """Return a socket that keeps a port from all who look for a free one; without SO_REUSEADDR they see it taken."""
    while True:
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", choose_port()))
        except OSError:
            held.close()
        else:
            return held


def _kill(pid: int | None) -> None:
    if pid is not None:
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            process.wait(READY_SECONDS)
