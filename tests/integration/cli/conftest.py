"""The command line against a real database: in a folder of its own, with only the settings that a test gives."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Protocol

import pytest
from typer.testing import CliRunner

from app.cli import cli

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

ENCRYPTION_KEY = base64.b64encode(bytes(32)).decode()


class Run(Protocol):
    """Runs a command inside this process, piped."""

    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in an empty folder, with no setting of Bellwire in the environment."""
    for name in list(os.environ):
        if name.startswith("BELLWIRE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Run a command; only what the command line treats as a failure ends with an exit code."""

    def call(*arguments: str) -> Result:
        result = CliRunner().invoke(cli, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def libpq(url: str) -> str:
    """Return a SQLAlchemy URL as psycopg takes it."""
    return url.replace("postgresql+psycopg", "postgresql", 1)
