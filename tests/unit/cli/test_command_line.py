"""The command as a whole: help, version, reference, start-up, and failures before anything runs."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app import __version__
from app.cli.outcome import ExitCode
from app.cli.reference import reference

if TYPE_CHECKING:
    from tests.unit.cli.conftest import RunPiped

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
KEY = base64.b64encode(bytes(32)).decode()
# Port 1 of this machine: reserved, and nobody listens there.
AWAY = "postgresql://user:pgword@127.0.0.1:1/bellwire"
# What costs a tenth of a second or more to import, and is of no use to `--help`.
HEAVY = (
    "sqlalchemy",
    "fastapi",
    "pydantic",
    "celery",
    "kombu",
    "alembic",
    "httpx2",
    "psycopg",
    "uvicorn",
    "rich",
)


def test_the_reference_is_what_the_code_says() -> None:
    """docs/reference/cli.md is current; `python -m app.cli.reference > docs/reference/cli.md` makes it so."""
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_the_reference_names_every_exit_code() -> None:
    """The table of exit codes is whole."""
    assert re.findall(r"^\| ([0-9]) \|", reference(), re.MULTILINE) == [str(code.value) for code in ExitCode]


def test_version(piped: RunPiped) -> None:
    """`--version` is one line."""
    assert piped("--version").stdout == f"bellwire {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    """Start-up stays fast because commands import what they need when they run."""
    program = (
        "import sys\n"
        "from app.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "deliveries" in done.stdout
    assert set(HEAVY) & set(done.stderr.split()) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["deliveries", "list", "--state", "lost"],
        ["deliveries", "list", "--limit", "0"],
        ["keys", "revoke"],
    ],
)
def test_wrong_usage_is_2(piped: RunPiped, arguments: list[str]) -> None:
    """Unknown commands and values: exit code 2, and help is named."""
    result = piped(*arguments)

    assert result.exit_code == 2
    assert "--help" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "setting", "next_step"),
    [
        (["migrate"], {}, "Set it to postgresql://"),
        (["keys", "list"], {}, "Set it to postgresql://"),
        (["api"], {}, "Set it to postgresql://"),
        (["worker"], {}, "Set it to postgresql://"),
        (["beat"], {}, "Set it to postgresql://"),
        (["api"], {"DATABASE_URL": AWAY}, "openssl rand -base64 32"),
        (["worker"], {"DATABASE_URL": AWAY}, "openssl rand -base64 32"),
        (["api"], {"DATABASE_URL": "mysql://u:pgword@h/x", "ENCRYPTION_KEYS": KEY}, "It must look like"),
        (
            ["api"],
            {"DATABASE_URL": "postgresql://u:pgword@h:x/x", "ENCRYPTION_KEYS": KEY},
            "It must look like",
        ),
        (["api"], {"DATABASE_URL": AWAY, "ENCRYPTION_KEYS": "c2hvcnQ="}, "openssl rand -base64 32"),
        (["api"], {"DATABASE_URL": AWAY, "ENCRYPTION_KEYS": KEY, "PORT": "web"}, "Correct it"),
        (["api"], {"DATABASE_URL": AWAY, "ENCRYPTION_KEYS": KEY}, "Start Postgres"),
        (["worker"], {"DATABASE_URL": AWAY, "ENCRYPTION_KEYS": KEY}, "Set it to redis://"),
        (
            ["worker"],
            {"DATABASE_URL": AWAY, "ENCRYPTION_KEYS": KEY, "BROKER_URL": "redis://127.0.0.1:1/0"},
            "Start Postgres",
        ),
        (
            ["beat"],
            {"DATABASE_URL": AWAY, "ENCRYPTION_KEYS": KEY, "BROKER_URL": "redis://127.0.0.1:1/0"},
            "Start Postgres",
        ),
        (["migrate"], {"DATABASE_URL": AWAY}, "Start Postgres"),
        (["keys", "list"], {"DATABASE_URL": AWAY}, "Start Postgres"),
        (["demo-receiver"], {}, "Set BELLWIRE_DEMO_SECRET"),
    ],
)
def test_a_start_that_fails_says_why_and_what_to_do(
    piped: RunPiped,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    setting: dict[str, str],
    next_step: str,
) -> None:
    """Exit code 3, one line on standard error that names the next step, and no password in it."""
    for name, value in setting.items():
        monkeypatch.setenv(f"BELLWIRE_{name}", value)

    result = piped(*arguments)

    assert (result.exit_code, result.stdout) == (3, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("bellwire: ")
    assert next_step in result.stderr
    assert "pgword" not in result.stderr


def test_an_expected_failure_has_no_traceback() -> None:
    """The same through the real program: the exit code reaches the shell."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BELLWIRE_")}
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "migrate"],
        env={**environment, "BELLWIRE_DATABASE_URL": AWAY},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_doctor_goes_on_without_a_database(piped: RunPiped, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not need the database is checked all the same; whatever is wrong has advice."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", AWAY)
    monkeypatch.setenv("BELLWIRE_ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv("BELLWIRE_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("BELLWIRE_URL", "http://127.0.0.1:1")

    result = piped("doctor")

    report = json.loads(result.stdout)
    found = {check["name"]: check["ok"] for check in report["checks"]}
    assert (result.exit_code, report["ok"]) == (1, False)
    assert {name for name, ok in found.items() if ok} == {
        "settings",
        "addresses",
        "egress policy",
        "egress guard",
    }
    assert {name for name, ok in found.items() if ok is False} == {"database", "broker", "api"}
    assert all(check["advice"] for check in report["checks"] if check["ok"] is False)


def test_doctor_warns_of_an_egress_range_that_holds_cloud_credentials(
    piped: RunPiped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening everything opens the metadata address too, and doctor says so."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", AWAY)
    monkeypatch.setenv("BELLWIRE_ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv("BELLWIRE_EGRESS_ALLOW", "0.0.0.0/0")

    report = json.loads(piped("doctor").stdout)

    (egress,) = [check for check in report["checks"] if check["name"] == "egress policy"]
    assert egress["ok"] is False
    assert "169.254.169.254" in egress["detail"]


def test_doctor_says_which_setting_is_wrong(piped: RunPiped, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that cannot be used is a finding, not a failure of doctor itself."""
    monkeypatch.setenv("BELLWIRE_PORT", "web")

    result = piped("doctor")

    (check,) = json.loads(result.stdout)["checks"]
    assert (result.exit_code, check["name"], check["ok"]) == (1, "settings", False)
    assert "BELLWIRE_PORT" in check["detail"]
