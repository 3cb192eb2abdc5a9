"""What the System page knows, as a file to send along with a question: no secret, no payload, no address of a receiver."""

from __future__ import annotations

import dataclasses
import platform
from typing import TYPE_CHECKING, Any

from app.core.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from app.dashboard.system.configuration import Setting
    from app.dashboard.system.queries import System
    from app.health.checks import Check


def diagnostics_of(
    system: System,
    checks: Mapping[str, Check],
    settings: Sequence[Setting],
    *,
    version: str,
    environment: str,
    now: datetime,
) -> dict[str, Any]:
    """Return all of it, ready to be written as JSON."""
    return {
        "made_at": rfc3339(now),
        "version": version,
        "environment": environment,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "postgres": system.postgres,
        "database_bytes": system.database_bytes,
        "checks": {
            name: {"state": check.state.value, "detail": check.detail} for name, check in checks.items()
        },
        "scheduler": {"counted_until": _time(system.counted_until)},
        "waiting": {
            name: _time(value) if name == "sampled_at" else value
            for name, value in dataclasses.asdict(system.waiting).items()
        },
        "workers": [
            dataclasses.asdict(worker)
            | {"started_at": rfc3339(worker.started_at), "beat_at": rfc3339(worker.beat_at)}
            for worker in system.workers
        ],
        "tables": [dataclasses.asdict(table) for table in system.tables],
        "settings": {each.name: {"value": each.value, "source": each.source} for each in settings},
    }


def _time(value: datetime | None) -> str | None:
    return rfc3339(value) if value is not None else None
