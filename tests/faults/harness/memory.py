"""The memory of a process: not how much it has now, but the most it had since a moment, as Linux counts it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil  # type: ignore[import-untyped]

MIB = 2**20
FORGET_PEAK = "5"  # See proc(5), clear_refs.


class PeakMemory:
    """How much a process grew at most since `PeakMemory` was made; no look in between can miss a short peak."""

    def __init__(self, process: psutil.Process) -> None:
        self._folder = Path("/proc") / str(process.pid)
        (self._folder / "clear_refs").write_text(FORGET_PEAK)
        self._before = self._bytes("VmRSS")

    def growth(self) -> int:
        """Return the bytes between the resident memory at first and its highest mark since."""
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        raise RuntimeError(f"{self._folder}/status has no {name}: peaks can be measured on Linux only.")
