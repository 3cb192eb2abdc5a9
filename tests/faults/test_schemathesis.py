"""Row 30 of the fault tests: Schemathesis over the API's own OpenAPI document, every check, on a real server.

It draws requests from the document, right ones and wrong ones, and holds each answer to it: no 5xx, no status, media
type, header or body that is not described, no wrong request taken, no right one refused, nothing open without a key.
`tests/faults/schemathesis.toml` has what is narrowed, and why.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.harness.stack import ROOT, Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Report

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = ROOT / "tests" / "faults" / "schemathesis.toml"
INSTANCE_KEY = "instance_key_of_the_tests_0123456789"
OPERATIONS = 40  # There are more; fewer would mean that the document was not read.
RUN_SECONDS = 500.0


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    """The API as it is shipped, with Postgres and broker; nothing is delivered."""
    # Nobody's thousands of requests without a key are to be told what they lack, not that they are too many.
    settings = {"BELLWIRE_INSTANCE_KEY": INSTANCE_KEY, "BELLWIRE_AUTH_FAILURES_PER_MINUTE": "0"}
    async with Stack(workers=0, beats=0, receives=False, settings=settings) as stack:
        yield stack


@pytest.mark.parametrize("party", ["admin", "nobody", "instance operator"])
async def test_every_answer_is_one_that_the_document_describes(
    stack: Stack, party: str, report: Report, tmp_path: Path
) -> None:
    """With an admin's key, without any, and with the instance key for its own routes: no check of Schemathesis fails."""
    arguments = {
        "admin": ["--header", f"Authorization: Bearer {stack.api_key}"],
        # Without a key all is 401 before anything else is looked at: few examples show it.
        "nobody": ["--phases", "examples,coverage", "--max-examples", "2"],
        "instance operator": [
            "--header",
            f"Authorization: Bearer {INSTANCE_KEY}",
            "--include-path",
            "/v1/workspaces",
        ],
    }[party]
    process = await asyncio.create_subprocess_exec(
        str(SCHEMATHESIS),
        *("--config-file", str(CONFIG), "run", "--checks", "all", "--no-color", *arguments),
        f"{stack.base_url}/openapi.json",
        cwd=tmp_path,
        env={**stack.environment, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(RUN_SECONDS):
            said = (await process.stdout.read()).decode()
            status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert status == 0, said[-12_000:]
    tested = re.search(r"Tested: (\d+)", said)
    cases = re.search(r"(\d+) generated", said)
    assert tested is not None, said[-2_000:]
    assert cases is not None, said[-2_000:]
    assert int(tested[1]) >= (OPERATIONS if party != "instance operator" else 2)
    assert '"status":500' not in stack.api.whole_log()
    report(f"schemathesis, {party}: {tested[1]} operations, {cases[1]} cases, every check passed")
