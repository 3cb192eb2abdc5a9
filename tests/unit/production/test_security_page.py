"""SECURITY.md names code and tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(
    set(
        re.findall(
            r"`((?:app|workers|receiver|tests|migrations|\.ci)/[^`]+|Dockerfile|docker-compose\.yml)`", TEXT
        )
    )
)
ROWS = re.findall(r"^\| (?P<threat>[^|]+) \| (?P<defence>[^|]+) \| (?P<where>[^|]+) \|$", TEXT, re.MULTILINE)[
    1:
]


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_is_there(name: str) -> None:
    """A module or test that was moved is named by its new place."""
    assert (ROOT / name).exists()


def test_each_defence_names_its_test_or_its_page() -> None:
    """No defence is only claimed."""
    assert len(ROWS) > 15
    for threat, defence, where in ROWS:
        shown = re.findall(r"`(?:receiver/)?tests/\S+`", where)
        pages = re.findall(r"\]\(docs/reference/\w+\.md\)", defence)
        assert shown or pages, threat


@pytest.mark.parametrize(
    "heading",
    [
        "Report a vulnerability",
        "Supported versions",
        "What is worth protecting",
        "Who may try",
        "Where trust ends",
        "What is defended where",
        "What is not defended",
    ],
)
def test_the_threat_model_is_whole(heading: str) -> None:
    """Its parts are all there, and none is empty."""
    _, _, rest = TEXT.partition(f"\n## {heading}\n")
    assert len(rest.partition("\n## ")[0].split()) > 10


def test_nobody_is_invented() -> None:
    """Reports go through the repository; there is no address that nobody reads."""
    assert "private security advisories" in TEXT
    assert not re.search(r"\S+@\S+\.\w+", TEXT)
