"""The health checks of docker-compose.yml against a real database and a real beat."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from app.core.settings import Settings
from workers.alive import fault_of_beat, fault_of_worker

if TYPE_CHECKING:
    from pathlib import Path

BEAT_SECONDS = 60.0

_ROW = (
    "INSERT INTO worker_heartbeats (id, name, version, in_flight, skew_seconds, beat_at)"
    " VALUES (gen_random_uuid(), %s, '0', 0, 0, now() - make_interval(secs => %s))"
)


@pytest.fixture
def settings(clean_database: str) -> Settings:
    """The settings of a worker on this test's database."""
    return Settings(environment="development", database_url=clean_database)


def note_beat(url: str, *, name: str, age: float) -> None:
    """Write a worker process's sign of life, `age` seconds old."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql", 1)) as connection:
        connection.execute(_ROW, (name, age))


@pytest.mark.parametrize(
    ("name", "age", "alive"),
    [
        ("box:17", 0, True),
        ("box:17", 10, True),
        ("box:17", 60, False),
        ("box2:17", 0, False),
        ("b_x:17", 0, False),
    ],
)
async def test_a_worker_is_alive_while_a_process_of_its_host_claims(
    settings: Settings, clean_database: str, *, name: str, age: float, alive: bool
) -> None:
    """Only a fresh row of exactly this host counts."""
    note_beat(clean_database, name=name, age=age)

    fault = await fault_of_worker(settings, host="box")

    assert (fault is None) is alive


async def test_a_database_that_is_away_is_said() -> None:
    """The check fails, with a sentence instead of a traceback."""
    away = Settings(environment="development", database_url="postgresql://x@127.0.0.1:1/x")

    fault = await fault_of_worker(away, host="box")

    assert fault is not None
    assert "cannot be asked" in fault


def test_beat_leaves_its_sign(clean_database: str, broker_url: str, tmp_path: Path) -> None:
    """`bellwire beat` touches the file as soon as the broker has taken its first wake-up."""
    file = tmp_path / "beat"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BELLWIRE_")} | {
        "BELLWIRE_DATABASE_URL": clean_database,
        "BELLWIRE_BROKER_URL": broker_url,
        "BELLWIRE_ENCRYPTION_KEYS": base64.b64encode(bytes(32)).decode(),
        "BELLWIRE_BEAT_FILE": str(file),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", "beat"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as beat:
        try:
            deadline = time.monotonic() + BEAT_SECONDS
            while not file.exists() and beat.poll() is None and time.monotonic() < deadline:
                try:
                    beat.wait(timeout=0.05)
                except subprocess.TimeoutExpired:
                    continue
            assert fault_of_beat(str(file), now=time.time()) is None
        finally:
            beat.terminate()
            _, said = beat.communicate(timeout=BEAT_SECONDS)

    assert "Traceback" not in said
