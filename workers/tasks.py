"""The tasks: doorways. Each kicks the resident loop of its process and returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core.queue import DRAIN_TASK, UPKEEP_TASK

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from workers.resident import Resident


def register(celery: Celery, *, resident: Callable[[], Resident | None]) -> None:
    """Register the tasks; `resident` returns the loop of the process that a task runs in."""

    def drain() -> None:
        """Look for due deliveries now."""
        here = resident()
        if here is not None:
            here.kick()

    def upkeep() -> None:
        """Run the upkeep duties that are due."""
        here = resident()
        if here is not None:
            here.upkeep()

    celery.task(name=DRAIN_TASK, ignore_result=True)(drain)
    celery.task(name=UPKEEP_TASK, ignore_result=True)(upkeep)
