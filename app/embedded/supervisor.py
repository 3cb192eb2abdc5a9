"""The development supervisor: Postgres, broker, migrations and all processes of Bellwire, from one command.

It owns what it starts. Ctrl-C, SIGTERM and a closed terminal stop everything in order; if it is killed itself,
its children end with it (on Linux), and the next start ends whatever is left and recovers the data.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
import psutil  # type: ignore[import-untyped]

from app.embedded.broker import EmbeddedBroker
from app.embedded.child import MARKER, Child, ChildSpec
from app.embedded.errors import AlreadyRunning, EmbeddedError, PortTaken
from app.embedded.folder_lock import FolderLock
from app.embedded.kept import port_is_free
from app.embedded.output import Output
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.processes import end_processes, processes_with_environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

READY_SECONDS = 60.0  # From the start of the children until the last of them is ready.
LEFTOVER_SECONDS = 5.0  # For what an earlier, killed supervisor left; leases repair what it cuts short.
CHECK_SECONDS = 0.5  # Postgres and the broker are looked at so often.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0  # Before a dead child is started again; doubling.
STEADY_SECONDS = 60.0  # A child that ran so long has earned a fresh, short pause.

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that one of the children listens on, and the setting that changes it."""

    host: str
    port: int
    what: str
    setting: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where database and broker are, once they run."""

    database_url: str
    broker_url: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run. `children` are started in this order and stopped in the order of `stop_order`.

    `database_url` and `broker_url` name services of the user's own; None starts the embedded ones. `prepare`
    (migrations) runs to its end before the children start; both are made when the addresses are known.
    `make_secrets` is called with the folder locked, before there is any data that needs them. `when_ready` returns what the user is told once everything is ready.
    """

    folder: Path
    listeners: Sequence[Listener]
    database_url: str | None
    broker_url: str | None
    make_secrets: Callable[[], None]
    prepare: Callable[[Addresses], ChildSpec]
    children: Callable[[Addresses], Sequence[ChildSpec]]
    stop_order: Sequence[str]
    when_ready: Callable[[], Awaitable[str]]


def run(plan: Plan, *, output: Output | None = None) -> int:
    """Run until told to stop; return the exit code. Call it on the main thread.

    Raises EmbeddedError, with everything stopped again, if the start fails.
    """
    return asyncio.run(Supervisor(plan, output=output or Output()).run())


class Supervisor:
    """One run over one data folder."""

    def __init__(self, plan: Plan, *, output: Output) -> None:
        self._plan = plan
        self._output = output
        self._marker = str(plan.folder.resolve())
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._children: dict[str, Child] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._postgres = EmbeddedPostgres(plan.folder / "postgres") if plan.database_url is None else None
        self._broker = EmbeddedBroker(plan.folder / "broker") if plan.broker_url is None else None

    async def run(self) -> int:
        """Start everything, keep it running, stop it; return the exit code."""
        lock = self._lock_folder()
        self._listen_to_signals()
        try:
            self._end_leftovers()
            self._check_ports()
            self._plan.make_secrets()
            stopper, life = asyncio.create_task(self._stop.wait()), asyncio.create_task(self._live())
            await asyncio.wait({stopper, life}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()  # It never ends but by an error.
            life.cancel()
            await asyncio.wait({life})
        finally:
            await self._stop_everything()
            lock.release()
        return 0

    async def _live(self) -> None:
        """Start everything, then watch over it; ends only by an error or by being cancelled."""
        began = time.monotonic()
        addresses = self._start_services()
        await self._prepare(addresses)
        await self._start_children(addresses)
        self._keepers = [asyncio.create_task(self._keep(child)) for child in self._children.values()]
        words = await self._plan.when_ready()
        self._output.say(f"Everything is ready after {time.monotonic() - began:.1f} s.")
        self._output.block(words)
        await self._watch_services(addresses)

    def _lock_folder(self) -> FolderLock:
        folder = self._plan.folder
        lock = FolderLock(folder / "supervisor.lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            got = lock.acquire(wait=False)
        except OSError as error:
            raise EmbeddedError(
                f"Bellwire cannot use its data folder {folder.resolve()}: {error.strerror}. Start it as the user "
                "that owns the folder, or name another one with BELLWIRE_DATA_DIR."
            ) from error
        if not got:
            raise AlreadyRunning(
                f"Bellwire is already running on {folder.resolve()} (process {lock.read()}). Stop it there with "
                "Ctrl-C, or run a second one beside it: "
                "BELLWIRE_DATA_DIR=.bellwire2 BELLWIRE_PORT=8410 BELLWIRE_DEMO_PORT=8411 make run"
            )
        lock.write(str(os.getpid()))
        return lock

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if self._stop.is_set():
                self._hurry.set()
            self._stop.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop)

    def _end_leftovers(self) -> None:
        leftovers = processes_with_environment(MARKER, self._marker)
        if leftovers:
            self._output.say(
                f"Stopping {len(leftovers)} process{'es' if len(leftovers) > 1 else ''} that an earlier run, "
                "which was killed, left behind."
            )
            end_processes(leftovers, grace_seconds=LEFTOVER_SECONDS)

    def _check_ports(self) -> None:
        for listener in self._plan.listeners:
            if listener.port and not port_is_free(listener.port, host=listener.host):
                raise PortTaken(
                    f"Port {listener.port} on {listener.host} is in use by {_holder(listener.port)}, so "
                    f"{listener.what} cannot listen there. Stop that program, or choose another port: "
                    f"{listener.setting}={listener.port + 10} make run"
                )

    def _start_services(self) -> Addresses:
        if self._postgres is not None:
            is_new = not self._postgres.data.exists()
            self._output.say("Starting Postgres, with new data." if is_new else "Starting Postgres.")
            self._postgres.start()
        if self._broker is not None:
            self._output.say("Starting the broker.")
            self._broker.start()
        return self._addresses()

    def _addresses(self) -> Addresses:
        postgres, broker = self._postgres, self._broker
        return Addresses(
            database_url=postgres.url if postgres else self._plan.database_url or "",
            broker_url=broker.url if broker else self._plan.broker_url or "",
        )

    async def _prepare(self, addresses: Addresses) -> None:
        spec = self._plan.prepare(addresses)
        child = await self._start(spec)
        code = await child.wait()
        del self._children[spec.name]
        if code != 0:
            raise EmbeddedError(
                f"`{spec.name}` {_ended(code)}, so nothing else was started. Its last lines above say why."
            )

    async def _start_children(self, addresses: Addresses) -> None:
        for spec in self._plan.children(addresses):
            await self._start(spec)
        async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as client:
            deadline = time.monotonic() + READY_SECONDS
            for child in self._children.values():
                await self._wait_until_ready(child, client=client, deadline=deadline)

    async def _start(self, spec: ChildSpec) -> Child:
        try:
            child = await Child.start(spec, folder=self._marker, output=self._output)
        except OSError as error:
            raise EmbeddedError(
                f"`{spec.name}` cannot be started: {error}. Run `make install` and start again."
            ) from error
        self._children[spec.name] = child
        return child

    async def _wait_until_ready(self, child: Child, *, client: httpx2.AsyncClient, deadline: float) -> None:
        answer = "nothing"
        while time.monotonic() < deadline:
            for other in self._children.values():
                if other.returncode is not None:
                    await other.wait()
                    raise EmbeddedError(
                        f"`{other.spec.name}` {_ended(other.returncode)} before everything was ready. Its last "
                        "lines above say why."
                    )
            if child.spec.ready_url is None:
                return
            with contextlib.suppress(httpx2.HTTPError):
                response = await client.get(child.spec.ready_url)
                if response.is_success:
                    return
                answer = f"{response.status_code} {response.text[:500]}"
            await asyncio.sleep(_POLL_SECONDS)
        raise EmbeddedError(
            f"`{child.spec.name}` was not ready within {READY_SECONDS:.0f} s: {child.spec.ready_url} answered "
            f"{answer}. The lines above may say why."
        )

    async def _keep(self, child: Child) -> None:
        """Start a child again whenever it ends by itself, with growing pauses."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            code = await child.wait()
            await child.stop(hurry=self._hurry)  # Whatever it left of its group goes as well.
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._output.say(f"`{child.spec.name}` {_ended(code)}; starting it again in {pause:g} s.")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            child = await self._start(child.spec)

    async def _watch_services(self, addresses: Addresses) -> None:
        """Start Postgres or the broker again when one has died."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            for keeper in self._keepers:
                if keeper.done():
                    keeper.result()  # It never ends but by an error.
            died = [
                (name, service)
                for name, service in (("Postgres", self._postgres), ("The broker", self._broker))
                if service is not None and not service.is_running()
            ]
            for name, service in died:
                self._output.say(f"{name} has died; starting it again. Nothing that was accepted is lost.")
                service.start()
                self._output.say(f"{name} is back.")
            if self._addresses() != addresses:
                raise EmbeddedError(
                    "A service came back on another port, because its own had been taken meanwhile. "
                    "Start Bellwire again; its data is safe."
                )
            if died:  # One that dies again at once must not keep us from everything else.
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _stop_everything(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        running = {name: child for name, child in self._children.items() if child.returncode is None}
        if running:
            self._output.say("Stopping. Press Ctrl-C again to stop at once.")
        order = [name for name in self._plan.stop_order if name in self._children]
        for name in order + [name for name in self._children if name not in order]:
            if not await self._children[name].stop(hurry=self._hurry):
                self._output.say(f"`{name}` did not stop in time and was killed.")
        # Nothing should be left now; if something is, it has left its group and our order.
        end_processes(processes_with_environment(MARKER, self._marker), grace_seconds=1.0)
        if self._broker is not None:
            self._broker.stop()
        if self._postgres is not None:
            self._postgres.stop()
        if running:
            self._output.say("Everything has stopped. The data stays in " + str(self._plan.folder.resolve()))


def _ended(code: int) -> str:
    """Return "ended with 1" or "was ended by SIGKILL"."""
    if code >= 0:
        return f"ended with {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _holder(port: int) -> str:
    """Return who listens on a port, as far as this user may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                return f"another program ({psutil.Process(found.pid).name()}, process {found.pid})"
    return "another program"
