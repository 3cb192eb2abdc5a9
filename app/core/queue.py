"""The broker carries wake-ups: hints without payload, that may be lost, doubled or late.

This is the only module of `app` that knows Celery. Wake-ups are sent by name from a thread of their own, at
most one in a while, and nobody waits for them: a broker that refuses or hangs costs latency, nothing else.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import structlog
from celery import Celery
from kombu import Queue

from app.core import metrics

if TYPE_CHECKING:
    from app.core.settings import Settings

log = structlog.get_logger(__name__)

QUEUE = "bellwire"
DRAIN_TASK = "bellwire.drain"
UPKEEP_TASK = "bellwire.upkeep"
# A wake-up that waited longer says nothing that the workers' own look has not found out.
WAKE_EXPIRES_SECONDS = 2
UPKEEP_EXPIRES_SECONDS = 55
DRAIN_EVERY_SECONDS = 1.0
UPKEEP_EVERY_SECONDS = 60.0
# Without workers wake-ups pile up; above this number they are thrown away.
MOST_WAITING = 1_000
CHECK_LENGTH_SECONDS = 5.0
SOCKET_SECONDS = 1.0
AFTER_FAILURE_SECONDS = 0.5


def make_celery(settings: Settings) -> Celery:
    """Make the Celery application, the same for those who send wake-ups and those who take them."""
    url = settings.broker_url.get_secret_value()
    app = Celery("bellwire", broker=url, set_as_current=False)
    amqp = url.startswith(("amqp", "pyamqp"))
    app.conf.update(
        task_default_queue=QUEUE,
        # Taken is done: an acknowledgement that fails, because the broker died meanwhile, would hold the prefetch for
        # good, and a worker that may take nothing more does not notice that its connection is gone.
        task_queues=[
            Queue(QUEUE, durable=True, no_ack=True, queue_arguments=_amqp_arguments() if amqp else None)
        ],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_serializer="json",
        accept_content=["json"],
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=settings.worker_grace_seconds,
        worker_enable_soft_shutdown_on_idle=True,
        worker_max_memory_per_child=None,
        worker_proc_alive_timeout=30,
        # Quorum queues refuse a prefetch that holds for the whole connection.
        worker_detect_quorum_queues=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=SOCKET_SECONDS,
        broker_pool_limit=2,
        broker_heartbeat=10,
        task_publish_retry=False,
        broker_transport_options=_amqp_options() if amqp else _redis_options(),
        beat_scheduler="celery.beat:Scheduler",
        beat_schedule={
            "drain": {
                "task": DRAIN_TASK,
                "schedule": DRAIN_EVERY_SECONDS,
                "options": {"expires": WAKE_EXPIRES_SECONDS, "queue": QUEUE},
            },
            "upkeep": {
                "task": UPKEEP_TASK,
                "schedule": UPKEEP_EVERY_SECONDS,
                "options": {"expires": UPKEEP_EXPIRES_SECONDS, "queue": QUEUE},
            },
        },
        timezone="UTC",
    )
    return app


def check_broker(settings: Settings) -> str | None:
    """Return None if the broker answers, else a sentence that says what is the matter. May take 1 s."""
    if not settings.broker_url.get_secret_value():
        return "BELLWIRE_BROKER_URL is not set: workers look for work every 2 seconds by themselves."
    app = make_celery(settings)
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=int(SOCKET_SECONDS))
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        return (
            f"The broker cannot be reached ({type(error).__name__}). Publishing and delivery go on; "
            "check that it runs and that BELLWIRE_BROKER_URL is right."
        )
    finally:
        app.close()
    return None


class Waker:
    """Sends wake-ups from a thread. `wake` returns at once and never raises."""

    def __init__(self, settings: Settings, *, interval_seconds: float) -> None:
        """At most one wake-up is sent in `interval_seconds`."""
        self._settings = settings
        self._interval_seconds = interval_seconds
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_check = 0.0

    def start(self) -> None:
        """Begin to send; without a broker's address wake-ups are simply not sent."""
        if self._settings.broker_url.get_secret_value():
            # The first one connects and loads the broker's client, which no event should wait for.
            self._wanted.set()
            self._thread = threading.Thread(target=self._run, name="bellwire-waker", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Ask workers to look for work soon. Safe from any thread and any number of times."""
        self._wanted.set()

    def stop(self) -> None:
        """Stop sending; a wake-up that was asked for just now is still sent if the broker answers."""
        self._stopped.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * SOCKET_SECONDS)

    def _run(self) -> None:
        app = make_celery(self._settings)
        try:
            while True:
                self._wanted.wait()
                self._wanted.clear()
                self._send(app)
                if self._stopped.is_set():
                    return
                self._stopped.wait(self._interval_seconds)
        finally:
            app.close()

    def _send(self, app: Celery) -> None:
        started = time.monotonic()
        try:
            if started >= self._next_check:
                self._next_check = started + CHECK_LENGTH_SECONDS
                _throw_away_pile(app)
            app.send_task(
                DRAIN_TASK, queue=QUEUE, expires=WAKE_EXPIRES_SECONDS, ignore_result=True, retry=False
            )
            metrics.WAKES_SENT.inc()
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises: a hint was not sent
            metrics.WAKES_FAILED.inc()
            log.warning("wake.failed", error=type(error).__name__)
            app.close()
            self._stopped.wait(AFTER_FAILURE_SECONDS)


def _throw_away_pile(app: Celery) -> None:
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        waiting = app.amqp.queues[QUEUE](channel).queue_declare(passive=False)
        if waiting is not None and _count(waiting) > MOST_WAITING:
            channel.queue_purge(QUEUE)


def _count(declared: Any) -> int:
    return int(getattr(declared, "message_count", 0) or 0)


def _amqp_arguments() -> dict[str, Any]:
    return {"x-queue-type": "quorum", "x-max-length": MOST_WAITING, "x-overflow": "drop-head"}


def _amqp_options() -> dict[str, Any]:
    return {
        "confirm_publish": True,
        "connect_timeout": SOCKET_SECONDS,
        "read_timeout": None,
        "write_timeout": SOCKET_SECONDS,
        "max_retries": 1,
    }


def _redis_options() -> dict[str, Any]:
    return {
        "socket_connect_timeout": SOCKET_SECONDS,
        "socket_timeout": 5.0,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "max_retries": 1,
    }
