"""One event loop per worker process, on a thread of its own, for as long as the process lives.

It holds the engine, the HTTP client and the caches: making them anew for each task would cost more than the
deliveries.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
import uvloop

from app.core import garbage, ids, partitions
from app.core.clock import SKEW_WORTH_REPORTING_SECONDS, DatabaseClock
from app.core.crypto import Keyring
from app.core.db import Autocommit, adjust_clock, close_engine, make_engine
from app.core.outbound import policy_of
from workers.drain import Drain
from workers.endpoint_settings import EndpointCache
from workers.event_bodies import EventCache
from workers.guard import EgressGuard
from workers.heartbeat import beat
from workers.listener import listen
from workers.recorder import Recorder
from workers.resolver import ThreadResolver
from workers.sender import Sender
from workers.transport import EngineLimits, Proxy, make_sender
from workers.upkeep import run_upkeep, unasked

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.core.settings import Settings
    from app.deliveries.record import Finished
    from workers.transport import Sender as HttpSender

log = structlog.get_logger(__name__)

# Claim, record, upkeep, one to spare, and one that listens.
POOL_SIZE = 5
HEARTBEAT_SECONDS = 5.0
CONNECT_RETRY_SECONDS = 1.0
JOIN_MARGIN_SECONDS = 15.0


class Resident:
    """The thread, its loop, and the drain that runs on it."""

    def __init__(self, settings: Settings, *, failed: Callable[[], None] | None = None) -> None:
        """`failed` is called on the resident thread if it ends by a fault: the process cannot work any more."""
        self._settings = settings
        self._failed = failed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: Drain | None = None
        self._engine: AsyncEngine | None = None
        self._clock = DatabaseClock()
        self._ready = threading.Event()
        self._stop_requested: asyncio.Event | None = None
        self._stop_lock = threading.Lock()
        self._upkeep_running = False
        self._clock_is_wrong = False
        self._background: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="bellwire-resident", daemon=True)

    def start(self) -> None:
        """Start the thread; it connects when the database answers."""
        self._thread.start()

    def kick(self) -> None:
        """Look for work now; returns at once."""
        if self._loop is not None and self._drain is not None:
            self._loop.call_soon_threadsafe(self._drain.kick)

    def upkeep(self) -> None:
        """Run the upkeep duties; returns at once, and does nothing while they are still running."""
        if self._loop is not None and self._engine is not None:
            self._loop.call_soon_threadsafe(self._begin_upkeep)

    def stop(self) -> None:
        """Stop claiming, finish what is under way within the grace, hand the rest back. Waits for all that."""
        self._ready.wait(timeout=JOIN_MARGIN_SECONDS)
        with self._stop_lock:
            if self._loop is not None and self._stop_requested is not None and self._thread.is_alive():
                # The loop may be closing this very moment, because it has failed: then there is nothing to stop.
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._stop_requested.set)
        self._thread.join(timeout=2 * self._settings.worker_grace_seconds + JOIN_MARGIN_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._main())
            except Exception:
                log.exception("resident.failed")
                if self._failed is not None:
                    self._failed()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop_requested = asyncio.Event()
        self._ready.set()
        settings = self._settings
        self._engine = engine = make_engine(settings, name="worker", pool_size=POOL_SIZE, few_statements=True)
        try:
            if not await self._connect(engine):
                return
            guard = EgressGuard(policy=policy_of(settings), resolver=ThreadResolver())
            limits = EngineLimits(max_connections=2 * settings.worker_slots, max_idle=settings.worker_slots)
            proxy = Proxy.from_url(settings.egress_proxy.get_secret_value())
            http = make_sender(settings.worker_transport, guard=guard, limits=limits, proxy=proxy)
            try:
                await http.prove_guarded()
                await self._serve(engine, http)
            finally:
                await http.aclose()
        finally:
            await close_engine(engine)

    async def _serve(self, engine: AsyncEngine, http: HttpSender) -> None:
        settings = self._settings
        keyring = Keyring(key.get_secret_value() for key in settings.encryption_keys)
        recorder = Recorder(
            engine=Autocommit(engine),
            transactions=engine,
            flush_seconds=settings.worker_flush_seconds,
            settled=self._note_settled,
        )
        drain = Drain(
            engine=engine,
            clock=self._clock,
            settings=settings,
            endpoints=EndpointCache(keyring=keyring, default_schedule=settings.retry_schedule),
            events=EventCache(),
            sender=Sender(engine=http, clock=self._clock, worker=settings.worker_name),
            recorder=recorder,
            worker=settings.worker_name,
        )
        self._drain = drain
        recorder.start()
        running = asyncio.create_task(drain.run(), name="drain")
        heart = asyncio.create_task(self._heartbeats(engine, drain), name="heartbeat")
        if settings.wake_by_notify:
            self._keep(listen(engine, heard=drain.kick))
        # What lives as long as the process is there by now.
        garbage.settle()
        log.info("worker.started", name=settings.worker_name)
        assert self._stop_requested is not None  # noqa: S101 - set before
        stop = asyncio.create_task(self._stop_requested.wait())
        await asyncio.wait({stop, running}, return_when=asyncio.FIRST_COMPLETED)
        log.info("worker.stopping", in_flight=drain.in_flight)
        await drain.stop(grace_seconds=settings.worker_grace_seconds)
        heart.cancel()
        for task in self._background:
            task.cancel()
        await asyncio.gather(running, heart, *self._background, return_exceptions=True)
        await recorder.stop()
        log.info("worker.stopped")

    async def _connect(self, engine: AsyncEngine) -> bool:
        """Wait until the database answers; return False when a stop came first."""
        assert self._stop_requested is not None  # noqa: S101 - set before
        while not self._stop_requested.is_set():
            try:
                await adjust_clock(engine, self._clock)
                async with engine.begin() as connection:
                    await connection.run_sync(partitions.ensure)
                return True
            except Exception as error:  # noqa: BLE001 - whatever it is, the worker waits and says so
                log.warning(
                    "worker.database_away", error=type(error).__name__, detail=str(error).splitlines()[0]
                )
                await asyncio.sleep(CONNECT_RETRY_SECONDS)
        return False

    async def _heartbeats(self, engine: AsyncEngine, drain: Drain) -> None:
        heart_id: UUID = ids.uuid7(self._clock.unix_ms())
        # Beat may begin later than this process, and asks for the first time a minute after that.
        look_at = time.monotonic() + unasked.FIRST_LOOK_SECONDS
        while True:
            # Alive means that claims finish, not that the process exists.
            if time.monotonic() - drain.last_round_at < 2 * HEARTBEAT_SECONDS:
                try:
                    await adjust_clock(engine, self._clock)
                    self._report_skew()
                    await beat(
                        engine, heart_id=heart_id, name=self._settings.worker_name, in_flight=drain.in_flight,
                        skew_seconds=self._clock.skew_seconds(),
                    )  # fmt: skip
                    if time.monotonic() >= look_at:
                        look_at = time.monotonic() + unasked.LOOK_SECONDS
                        await self._look_after_upkeep(engine)
                except Exception as error:  # noqa: BLE001 - the next beat tries again
                    log.warning("heartbeat.failed", error=type(error).__name__)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _look_after_upkeep(self, engine: AsyncEngine) -> None:
        if not self._upkeep_running and await unasked.is_overdue(engine):
            log.warning(
                "upkeep.unasked",
                detail=f"Upkeep has not been run for {unasked.OVERDUE_MINUTES} minutes, so this worker runs it. "
                "See that `bellwire beat` runs and that the broker answers.",
            )
            self._begin_upkeep()

    def _report_skew(self) -> None:
        """Say it once when this machine's clock goes wrong. Leases, ids and signatures go by the database's."""
        skew = self._clock.skew_seconds()
        wrong = abs(skew) > SKEW_WORTH_REPORTING_SECONDS
        if wrong and not self._clock_is_wrong:
            log.warning("worker.clock_wrong", ahead_seconds=round(skew, 1))
        self._clock_is_wrong = wrong

    def _note_settled(self, finished: Sequence[Finished]) -> None:
        if self._drain is not None:
            self._drain.note_settled(finished)

    def _begin_upkeep(self) -> None:
        if self._upkeep_running or self._engine is None or self._loop is None:
            return
        self._upkeep_running = True
        self._keep(self._upkeep(self._engine))

    async def _upkeep(self, engine: AsyncEngine) -> None:
        try:
            await run_upkeep(engine, settings=self._settings)
        except Exception:
            log.exception("upkeep.failed")
        finally:
            self._upkeep_running = False

    def _keep(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
