"""The measure of memory itself: a peak that is over before anybody looks must not be missed."""

from __future__ import annotations

import asyncio
import sys

import psutil  # type: ignore[import-untyped]
import pytest

from tests.faults.harness.memory import MIB, PeakMemory

pytestmark = pytest.mark.faults

# Each line it reads makes it take 50 MiB and give it back before it answers.
GROWING = """
for line in iter(input, "end"):
    taken = b"x" * (50 * 2**20)
    del taken
    print("done", flush=True)
"""


async def test_a_peak_that_is_over_is_seen() -> None:
    """What a process took and gave back since the measure began counts; what it did before does not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", GROWING, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"grow\n")
    await process.stdout.readline()

    memory = PeakMemory(psutil.Process(process.pid))
    before = memory.growth()
    process.stdin.write(b"grow\n")
    await process.stdout.readline()
    after = memory.growth()

    process.stdin.write(b"end\n")
    await process.wait()
    assert before < 5 * MIB
    assert 45 * MIB < after < 60 * MIB
