"""The Celery application of the workers: prefork processes, each with one resident event loop.

A task only kicks the process's resident loop and returns. A process that gets no kick looks for itself.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from typing import Any

from celery import signals

from app.core.logging import configure
from app.core.queue import make_celery
from app.core.settings import load_settings
from workers.alive import mark_beat
from workers.resident import Resident
from workers.tasks import register

settings = load_settings()
celery = make_celery(settings)
celery.set_current()

# Prefork children get no notice of a warm shutdown: the parent sets this, and the children look at it.
_shutting_down = multiprocessing.get_context("fork").Event()
_resident: Resident | None = None


def resident() -> Resident | None:
    """Return this process's resident loop; None in the parent and in beat."""
    return _resident


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    configure(settings, process="beat" if "beat" in sys.argv else "worker")
    # Some lines for each wake-up, which says nothing itself.
    for name in ("celery.worker.strategy", "celery.app.trace", "celery.worker.request", "celery.beat"):
        logging.getLogger(name).setLevel(logging.WARNING)


@signals.worker_process_init.connect
def _start_resident(**_: Any) -> None:
    global _resident  # noqa: PLW0603 - one per process, by design
    # Nothing is awaited here: a database that is away must not look like a process that does not start.
    _resident = Resident(settings, failed=_stop_worker)
    _resident.start()
    threading.Thread(target=_watch_for_shutdown, name="bellwire-shutdown", daemon=True).start()


def _stop_worker() -> None:
    # A process whose loop has ended would take wake-ups and do nothing: the whole worker stops, and its log says why.
    os.kill(os.getppid(), signal.SIGTERM)


@signals.worker_shutting_down.connect
def _tell_children(**_: Any) -> None:
    _shutting_down.set()


@signals.worker_process_shutdown.connect
def _stop_resident(**_: Any) -> None:
    if _resident is not None:
        _resident.stop()


@signals.after_task_publish.connect
def _note_wake_up(**_: Any) -> None:
    # Of all processes that load this module only beat sends tasks.
    mark_beat(settings)


def _watch_for_shutdown() -> None:
    _shutting_down.wait()
    if _resident is not None:
        _resident.stop()


register(celery, resident=resident)
