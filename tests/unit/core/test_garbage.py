"""The garbage collector of a process that has started."""

from __future__ import annotations

import subprocess
import sys

from app.core.garbage import THRESHOLDS

SHOW = """
import gc
from app.core import garbage
garbage.settle()
print(gc.get_freeze_count() > 10_000, gc.get_count()[2], *gc.get_threshold())
"""


def test_what_the_start_made_is_out_of_sight() -> None:
    """All that is alive is frozen, and the collector comes seldom."""
    shown = subprocess.run([sys.executable, "-c", SHOW], check=True, capture_output=True, text=True)

    assert shown.stdout.split() == ["True", "0", *map(str, THRESHOLDS)]
