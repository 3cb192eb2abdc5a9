"""The resident thread of a worker process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from workers.resident import Resident
from workers.transport import GuardNotInForce

if TYPE_CHECKING:
    import pytest

    from tests.integration.engine.making import Workshop


def test_guard_that_is_not_in_force_stops_the_worker(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose loop cannot run says so to its worker, instead of taking wake-ups and doing nothing."""

    def unguarded(*_: Any, **__: Any) -> None:
        raise GuardNotInForce("The egress guard let 127.0.0.1 pass.")

    monkeypatch.setattr("workers.resident.make_sender", unguarded)
    failed = threading.Event()
    resident = Resident(shop.settings, failed=failed.set)

    resident.start()

    assert failed.wait(timeout=30)
    resident.stop()
