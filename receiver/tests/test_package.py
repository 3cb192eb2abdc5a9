"""The package as an installed thing: its surface, its Python versions, and that it needs nothing."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bellwire

RECEIVER = Path(__file__).parents[1]
SOURCES = sorted((RECEIVER / "src" / "bellwire").glob("*.py"))
OLDEST = (3, 9)

# Run by bare interpreters: no site-packages, no environment, no pytest.
ALONE = f"""
import sys
sys.path.insert(0, {str(RECEIVER / "src")!r})
import bellwire

def check(truth, name):
    if not truth:
        raise SystemExit(name + " failed on " + sys.version)

secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
signature = bellwire.Signer(secret).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{{"test": 2432232314}}')
check(signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "the vector")

webhook = bellwire.Webhook([bellwire.generate_secret(), secret])
body = b'{{"type":"a.b","timestamp":"2026-01-02T03:04:05.678Z","data":{{"n":1}}}}'
message = webhook.verify(body, webhook.signed_headers("evt_1", body))
check((message.type, message.data, message.occurred_at.microsecond) == ("a.b", {{"n": 1}}, 678000), "the message")

try:
    webhook.verify(body + b" ", webhook.signed_headers("evt_1", body))
except bellwire.WebhookVerificationError as error:
    check(error.reason == "signature_mismatch", "the reason")
else:
    check(False, "the refusal")

for needs_ed25519 in (
    bellwire.generate_keypair,
    lambda: bellwire.Webhook("whpk_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="),
    lambda: bellwire.public_key("whsk_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="),
):
    try:
        needs_ed25519()
    except ImportError as error:
        check("pip install 'bellwire[ed25519]'" in str(error), "the hint")
    else:
        check(False, "the missing package")

print("%d.%d" % sys.version_info[:2])
"""


def run_alone(python):
    return subprocess.run(
        [python, "-I", "-S", "-W", "error", "-c", ALONE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_needs_the_standard_library_only():
    """With no third-party package in reach, everything but ed25519 works, and ed25519 says what to install."""
    done = run_alone(sys.executable)

    assert (done.returncode, done.stderr) == (0, "")


def test_works_on_every_python_of_this_machine():
    """Each interpreter that is installed here, of a supported version, runs the same check."""
    names = [f"python3.{minor}" for minor in range(OLDEST[1], 20)]
    found = {shutil.which(name) for name in names} - {None}
    found |= {str(python) for python in (Path.home() / ".pyenv" / "versions").glob("3.*/bin/python3")}
    supported = [python for python in sorted(found) if version_of(python) >= OLDEST]

    failures = {python: done.stderr for python in supported if (done := run_alone(python)).returncode != 0}

    assert failures == {}


def version_of(python):
    """Return (major, minor), or (0, 0) for a name that is there and does not start, as a version manager's shim."""
    done = subprocess.run(
        [python, "-c", "import sys; print(*sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tuple(int(part) for part in done.stdout.split()) if done.returncode == 0 else (0, 0)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_is_written_in_the_oldest_supported_syntax(source):
    """Every module parses as Python 3.9, and leaves its annotations unevaluated."""
    tree = ast.parse(source.read_text(encoding="utf-8"), feature_version=OLDEST)

    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert [name.name for node in futures for name in node.names] == ["annotations"]


def test_the_oldest_version_is_the_declared_one():
    """What these tests call the oldest is what pip is told."""
    declared = re.search(
        r'requires-python = ">=(\d+)\.(\d+)"', (RECEIVER / "pyproject.toml").read_text("utf-8")
    )

    assert tuple(int(part) for part in declared.groups()) == OLDEST


def test_importing_loads_no_framework_and_no_cryptography():
    """Start-up stays quick, and ed25519 costs only those who use it."""
    code = "import bellwire, sys; print(sorted({name.split('.')[0] for name in sys.modules}))"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    loaded = set(ast.literal_eval(done.stdout))
    assert loaded.isdisjoint({"cryptography", "fastapi", "flask", "django", "starlette"})


def test_the_public_names_are_these():
    """Adding or removing a public name is a decision, made here too."""
    assert sorted(bellwire.__all__) == [
        "InvalidSecretError",
        "Reason",
        "Signer",
        "VerifiedMessage",
        "Webhook",
        "WebhookVerificationError",
        "generate_keypair",
        "generate_secret",
        "public_key",
    ]
