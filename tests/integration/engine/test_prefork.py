"""`bellwire worker` as Celery runs it: prefork children, each with a loop of its own."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from tests.faults.harness.processes import ManagedProcess
from tests.faults.harness.proxy import TcpProxy
from tests.faults.harness.waiting import wait_until
from tests.integration.engine.making import ENCRYPTION_KEY
from tests.integration.engine.receiver import open_receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.engine.making import Workshop

ROOT = Path(__file__).parents[3]
SECONDS = 60.0


@asynccontextmanager
async def open_prefork(shop: Workshop, broker_url: str, folder: Path) -> AsyncIterator[ManagedProcess]:
    """Start a worker with one child; what is left of it in the end is killed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BELLWIRE_")}
    process = ManagedProcess(
        "worker",
        [str(Path(sys.executable).with_name("bellwire")), "worker"],
        environment={
            **inherited,
            "BELLWIRE_DATABASE_URL": shop.url,
            "BELLWIRE_BROKER_URL": broker_url,
            "BELLWIRE_ENCRYPTION_KEYS": ENCRYPTION_KEY,
            "BELLWIRE_EGRESS_ALLOW": "127.0.0.0/8",
            "BELLWIRE_WORKER_PROCESSES": "1",
        },
        folder=folder,
        cwd=ROOT,
    )
    process.start()
    try:
        yield process
    finally:
        process.kill_tree()


async def test_warm_shutdown_reaches_the_loop_of_a_child(
    shop: Workshop, broker_url: str, tmp_path: Path
) -> None:
    """SIGTERM to the parent, whose broker hangs: the child claims nothing more and finishes what it has begun."""
    address = make_url(broker_url)
    broker = await TcpProxy(address.host, address.port).start()
    url = address.set(host="127.0.0.1", port=broker.port).render_as_string(hide_password=False)
    async with open_receiver() as receiver, open_prefork(shop, url, tmp_path) as worker:
        may_answer = receiver.waits("/in")
        endpoint = await shop.endpoint(url=receiver.url("/in"), max_in_flight=4, timeout_seconds=60)
        await shop.publish(endpoint, 10)
        await receiver.until(lambda: receiver.open["/in"] == 4, seconds=SECONDS)

        # Celery takes its leave of the broker before that of its children.
        broker.stall()
        worker.terminate()
        # The requests under way keep the child busy: it has been told all the same.
        await wait_until(
            lambda: "worker.stopping" in worker.tail(),
            seconds=SECONDS,
            what="the child stops",
            state=worker.tail,
        )
        still_running = worker.is_running()
        may_answer.set()
        await wait_until(
            lambda: "worker.stopped" in worker.tail(),
            seconds=SECONDS,
            what="the child has stopped",
            state=worker.tail,
        )
        broker.flow()
        await wait_until(
            lambda: not worker.is_running(), seconds=SECONDS, what="it has ended", state=worker.tail
        )

    await broker.stop()
    assert still_running
    assert worker.exit_code == 0
    assert len(receiver.requests) == 4
    rows = await shop.sql("SELECT state, count(*) FROM deliveries GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in rows] == [("pending", 6), ("succeeded", 4)]
    assert await shop.value("SELECT sum(in_flight) FROM endpoint_runtime") == 0
