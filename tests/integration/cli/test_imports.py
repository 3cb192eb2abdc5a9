"""What the API's process loads: each module costs memory for as long as it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Of a shell for CEL, which the package of the same name brings along.
UNUSED = ("cel.cli", "prompt_toolkit", "wcwidth")


@pytest.mark.parametrize("module", ["app.cli.serve", "workers.drain"])
def test_no_terminal_toolkit_is_loaded(module: str) -> None:
    """A process that serves or delivers loads nothing that only a person at a terminal needs."""
    code = f"import sys, {module}; print([name for name in {UNUSED!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
