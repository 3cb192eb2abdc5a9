"""Raw ceilings, measured in the same run: what this machine does now without Bellwire.

A figure means little without them: the same code is twice as fast on a quiet machine.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING

from app.embedded.postgres_binaries import find_binaries
from bellwire import Webhook
from bench.machine import thread_ceilings
from bench.result import Ceiling
from bench.rig import DATA_BYTES

if TYPE_CHECKING:
    from bench.rig import Rig
    from bench.sizes import Size

HTTP_CONNECTIONS = 50
INSERT_CLIENTS = 8
BATCH_ROWS = 500
QUICK_TRANSACTIONS = 50

_TABLE = "CREATE TABLE IF NOT EXISTS bench_ceiling (id uuid PRIMARY KEY, data bytea, at timestamptz)"
_ROWS = (
    "INSERT INTO bench_ceiling SELECT gen_random_uuid(), decode(repeat('78', {bytes}), 'hex'), now()"
    " FROM generate_series(1, {rows});\n"
)
_RATE = re.compile(r"tps = ([0-9.]+)")


async def measure_ceilings(rig: Rig, size: Size, *, when: str = "before") -> list[Ceiling]:
    """Measure all of them; where before and after differ, the machine was not the same all the time."""
    http = await http_ceiling(rig, seconds=size.ceiling_seconds)
    single, rows = await insert_ceilings(rig, seconds=size.ceiling_seconds)
    return [
        Ceiling("http", f"generator → receiver, signed POSTs ({when})", http, "requests/s", when),
        Ceiling("commit", f"Postgres, one durable row a commit ({when})", single, "rows/s", when),
        Ceiling("rows", f"Postgres, {BATCH_ROWS} durable rows a commit ({when})", rows, "rows/s", when),
        *thread_ceilings(seconds=size.probe_seconds, when=when),
    ]


async def http_ceiling(rig: Rig, *, seconds: float) -> float:
    """Return signed POSTs per second from the load generator straight to the receiver, which verifies them."""
    body = '{"type":"bench","timestamp":"2026-01-01T00:00:00.000Z","data":"' + "x" * DATA_BYTES + '"}'
    signed = Webhook(rig.secret).signed_headers("evt_raw", body)
    headers = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    load = await rig.load(
        port=rig.receiver_port,
        head=f"POST /raw HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{headers}",
        bodies=[body],
        connections=HTTP_CONNECTIONS,
        seconds=seconds,
        keep_ids=False,
    )
    receipts = await rig.receipts()
    await rig.forget()
    if receipts.unsigned or set(load.statuses) != {"200"}:
        raise RuntimeError(f"The receiver refused the raw requests: {load.statuses}")
    return load.events / load.seconds


async def insert_ceilings(rig: Rig, *, seconds: float) -> tuple[float, float]:
    """Return durable rows per second by Postgres' own pgbench: one row a commit, and BATCH_ROWS a commit."""
    rig.stack.sql(_TABLE)
    single = await _pgbench(rig, rows=1, clients=INSERT_CLIENTS, seconds=seconds)
    batch = await _pgbench(rig, rows=BATCH_ROWS, clients=2, seconds=seconds)
    rig.stack.sql("DROP TABLE bench_ceiling")
    return single, batch * BATCH_ROWS


async def _pgbench(rig: Rig, *, rows: int, clients: int, seconds: float) -> float:
    script = rig.stack.folder / "pgbench.sql"
    script.write_text(_ROWS.format(bytes=DATA_BYTES, rows=rows), encoding="ascii")
    process = await asyncio.create_subprocess_exec(
        str(find_binaries() / "pgbench"),
        *("--no-vacuum", "--protocol=prepared", f"--file={script}", f"--client={clients}", "--jobs=1"),
        # It measures whole seconds only; a quick look makes do with a few transactions.
        f"--time={round(seconds)}" if seconds >= 1 else f"--transactions={QUICK_TRANSACTIONS}",
        rig.stack.database_url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
    )
    output, errors = await process.communicate()
    found = _RATE.search(output.decode())
    if found is None:
        raise RuntimeError(f"pgbench measured nothing: {errors.decode()}")
    return float(found[1])
