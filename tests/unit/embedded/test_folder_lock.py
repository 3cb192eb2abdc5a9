"""The lock that ends with its holder."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from app.embedded.folder_lock import FolderLock

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import pathlib, signal, sys
from app.embedded.folder_lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1])); lock.acquire(); print("held", flush=True); signal.pause()
"""


def test_only_one_holds_it(tmp_path: Path) -> None:
    """A second one is told no at once, and may have it after the first."""
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    first.acquire()

    refused = second.acquire(wait=False)
    first.release()
    got = second.acquire(wait=False)
    second.release()

    assert (refused, got) == (False, True)


def test_sharers_keep_out_who_wants_it_alone(tmp_path: Path) -> None:
    """Several may share it; it is to be had alone only after the last of them."""
    sharers = [FolderLock(tmp_path / "lock") for _ in range(2)]
    shared = [lock.acquire(shared=True, wait=False) for lock in sharers]
    alone = FolderLock(tmp_path / "lock")

    with_two = alone.acquire(wait=False)
    sharers[0].release()
    with_one = alone.acquire(wait=False)
    sharers[1].release()
    with_none = alone.acquire(wait=False)
    alone.release()

    assert (shared, with_two, with_one, with_none) == ([True, True], False, False, True)


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    """No stale lock file has to be deleted by hand."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with FolderLock(tmp_path / "other"):
            while_held = FolderLock(tmp_path / "lock").acquire(wait=False)
        holder.kill()
        holder.wait()

    lock = FolderLock(tmp_path / "lock")

    assert (while_held, lock.acquire(wait=False)) == (False, True)
    lock.release()


def test_the_holder_leaves_a_note(tmp_path: Path) -> None:
    """Who does not get the lock can say who has it."""
    with FolderLock(tmp_path / "lock") as holder:
        holder.write("process 123456")
        holder.write("process 7")

        assert FolderLock(tmp_path / "lock").read() == "process 7"
