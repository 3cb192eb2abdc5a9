"""The health check of beat, and how the program answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from app.core.settings import Settings
from workers.alive import SILENT_SECONDS, fault_of_beat, main, mark_beat

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000.0


@pytest.mark.parametrize(("age", "alive"), [(0, True), (SILENT_SECONDS, True), (SILENT_SECONDS + 1, False)])
def test_beat_is_alive_while_its_file_is_fresh(tmp_path: Path, *, age: int, alive: bool) -> None:
    """A file that was touched lately says that the broker takes wake-ups."""
    file = tmp_path / "beat"
    file.touch()
    os.utime(file, (NOW - age, NOW - age))

    assert (fault_of_beat(str(file), now=NOW) is None) is alive


def test_a_beat_that_left_no_sign_is_not_alive(tmp_path: Path) -> None:
    """A file that is not there is named, with what it may mean."""
    fault = fault_of_beat(str(tmp_path / "none"), now=NOW)

    assert fault is not None
    assert "none" in fault
    assert "sent nothing yet" in fault


def test_a_check_without_a_file_says_what_to_set() -> None:
    """Without the setting the check cannot know anything."""
    fault = fault_of_beat("", now=NOW)

    assert fault is not None
    assert "Set it" in fault


def test_beat_marks_its_file(tmp_path: Path) -> None:
    """Each wake-up makes the file new."""
    file = tmp_path / "beat"
    settings = Settings.model_construct(beat_file=str(file))
    mark_beat(settings)
    os.utime(file, (0, 0))

    mark_beat(settings)

    assert file.stat().st_mtime > 0


@pytest.mark.parametrize("place", ["", "/nowhere/at/all/beat"])
def test_beat_goes_on_where_it_cannot_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """No file wanted, or a place that cannot be written: beat is not stopped by it, and writes nowhere else."""
    monkeypatch.chdir(tmp_path)
    mark_beat(Settings.model_construct(beat_file=place))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["api"], ["worker", "beat"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It takes `worker` or `beat`, and says so."""
    assert main(arguments) == 2
    assert "worker|beat" in capsys.readouterr().err


def test_a_setting_that_cannot_be_used_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback: the sentence that names the variable."""
    monkeypatch.setenv("BELLWIRE_PORT", "web")

    assert main(["beat"]) == 1
    assert "BELLWIRE_PORT" in capsys.readouterr().err
