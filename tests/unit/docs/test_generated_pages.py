"""What the code decides stands in the documentation as the code says it."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from app.core.settings import Settings
from app.deliveries.waiting import WaitReason
from tests.unit.docs.conftest import ROOT, read_page

if TYPE_CHECKING:
    from pathlib import Path


def load_generator():
    """The program behind `make docs`."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = load_generator().pages()


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_a_generated_page_is_current(path: Path) -> None:
    """`make docs` would change nothing."""
    assert path.read_text(encoding="utf-8") == GENERATED[path], "run `make docs` and commit what it changes"


def test_the_environment_of_the_machine_does_not_change_the_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults are the code's, whatever is set where the generator runs."""
    monkeypatch.setenv("BELLWIRE_MAX_BODY_BYTES", "2048")
    monkeypatch.setenv("BELLWIRE_PORT", "9999")

    assert load_generator().pages() == GENERATED


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_explained(name: str) -> None:
    """Each setting has a row with a sentence."""
    row = re.search(
        rf"^\| `BELLWIRE_{name.upper()}` \|.*\| (?P<meaning>[^|]+) \|$",
        read_page("docs/reference/configuration.md").text,
        re.MULTILINE,
    )

    assert row is not None
    assert row["meaning"].rstrip().endswith(".")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_read_somewhere(name: str) -> None:
    """A setting that does nothing would be a promise that is not kept."""
    sources = [path for folder in ("app", "workers") for path in (ROOT / folder).rglob("*.py")]
    readers = [
        path
        for path in sources
        if path.name != "settings.py" and re.search(rf"\.{name}\b", path.read_text(encoding="utf-8"))
    ]
    derived = (ROOT / "app" / "core" / "settings.py").read_text(encoding="utf-8")

    assert readers or f"self.{name}" in derived or f"settings.{name}" in derived


def test_every_reason_for_waiting_is_explained() -> None:
    """The table under "Why a delivery waits" is whole."""
    section = read_page("docs/reference/states.md").text.split("## Why a delivery waits")[1]

    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(WaitReason)


def test_every_dependency_has_a_reason() -> None:
    """The README's table names each runtime dependency, and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        re.split(r"[\[<>=;~! ]", requirement)[0].lower()
        for requirement in project["dependencies"] + project["optional-dependencies"]["embedded"]
    }
    section = read_page("README.md").text.split("### Dependencies")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?P<name>[\w-]+)(?: \(.*?\))? \| (?P<why>.+) \|$", section, re.MULTILINE)

    assert {name.lower() for name, _ in rows} - {"package"} == wanted


def test_every_advisory_lock_is_listed() -> None:
    """Each file that takes an advisory lock of Postgres has a row."""
    takers = {
        str(path.relative_to(ROOT))
        for folder in ("app", "workers", "migrations")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"pg_(try_)?advisory_(xact_)?lock", path.read_text(encoding="utf-8"))
    }

    assert set(re.findall(r"\| `([\w/.]+\.py)` \|", read_page("docs/reference/locks.md").text)) == takers
