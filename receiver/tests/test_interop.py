"""Both ways with the reference libraries of Standard Webhooks: PyPI's, npm's, and Node's own ed25519.

They are judges here and nothing else: the package shares no code with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
import standardwebhooks
from hypothesis import given, settings
from hypothesis import strategies as st

from bellwire import Webhook, generate_keypair, generate_secret

NODE = Path(__file__).parent / "node"
INSTALL_SECONDS = 100
RUN_SECONDS = 60
CASES = 50
INSTALL_HINT = (
    "This test compares with the npm package standardwebhooks and needs `node` and `npm` on PATH. "
    "Install them, on Debian with: apt-get install --no-install-recommends nodejs npm"
)

ids = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)
secrets = st.integers(24, 64).map(lambda size: generate_secret(size=size))


@settings(max_examples=100, deadline=None)
@given(secret=secrets, message_id=ids, body=st.text())
def test_the_python_reference_accepts_what_we_sign(secret, message_id, body):
    """Every text body that we sign verifies there."""
    headers = Webhook(secret).signed_headers(message_id, body)

    accepted = standardwebhooks.Webhook(secret).verify(body, headers, json_parse=False)

    assert accepted is None  # It raises when it refuses.


@settings(max_examples=100, deadline=None)
@given(secret=secrets, message_id=ids, body=st.text(), timestamp=st.integers(0, 4_102_444_800))
def test_we_accept_what_the_python_reference_signs(secret, message_id, body, timestamp):
    """Every text body that it signs verifies here, and both give one signature."""
    moment = datetime.fromtimestamp(timestamp, tz=timezone.utc)
    theirs = standardwebhooks.Webhook(secret).sign(message_id, moment, body)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": theirs}

    message = Webhook(secret).verify(body, headers, now=timestamp)

    assert message.payload == body.encode()
    assert Webhook(secret).sign(message_id, timestamp, body) == theirs


def test_the_python_reference_finds_its_token_in_a_rotation():
    """A receiver with either secret accepts a header with both tokens."""
    secrets = [generate_secret(), generate_secret()]
    headers = Webhook(secrets).signed_headers("evt_1", "{}")

    payloads = [standardwebhooks.Webhook(secret).verify("{}", headers) for secret in secrets]

    assert payloads == [{}, {}]


@pytest.fixture(scope="session")
def node(request, tmp_path_factory):
    """Return a function that puts cases through Node. The locked packages are installed once and kept."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.fail(INSTALL_HINT)
    # pytest's cache lasts from run to run; a run without it installs again.
    kept = getattr(request.config, "cache", None)
    modules = _install(kept.mkdir("npm") if kept else tmp_path_factory.mktemp("npm")) / "node_modules"

    def run(cases):
        done = subprocess.run(
            ["node", str(NODE / "cross_check.cjs")],
            input=json.dumps(cases),
            env={**os.environ, "NODE_PATH": str(modules)},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def _install(cache):
    lock = (NODE / "package-lock.json").read_bytes()
    ready = cache / f"standardwebhooks-{hashlib.sha256(lock).hexdigest()[:12]}"
    if ready.is_dir():
        return ready
    making = Path(tempfile.mkdtemp(dir=cache))
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NODE / name, making)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=making,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(making)
        pytest.fail(
            f"`npm ci` could not install what {NODE.name}/package-lock.json names:\n{done.stderr[-2000:]}"
        )
    try:
        making.rename(ready)
    except OSError:  # Another test process was faster; its copy is as good.
        shutil.rmtree(making)
    return ready


@pytest.fixture
def samples():
    """JSON bodies of many shapes and sizes, with ids and secrets, the same on every run."""
    source = random.Random(20210225)  # noqa: S311 - variety, not secrecy.
    alphabet = 'aé€😀"\\\n\u2028 {}.,'
    return [
        {
            "secret": generate_secret(size=source.randint(24, 64)),
            "id": f"evt_{source.getrandbits(64):x}",
            "timestamp": int(time.time()),
            "body": json.dumps(
                {
                    "text": "".join(source.choices(alphabet, k=source.randint(0, 400))),
                    "number": source.random(),
                },
                ensure_ascii=number % 2 == 0,
            ),
        }
        for number in range(CASES)
    ]


def test_npm_accepts_what_we_sign_and_signs_alike(node, samples):
    """The JavaScript reference verifies every signature of ours and computes the same one itself."""
    for sample in samples:
        sample["signature"] = Webhook(sample["secret"]).sign(
            sample["id"], sample["timestamp"], sample["body"]
        )

    answers = node(samples)

    assert answers == [{"signature": sample["signature"], "error": None} for sample in samples]


def test_npm_refuses_a_forgery_of_ours(node, samples):
    """The comparison can fail: a signature with another secret is refused there."""
    for sample in samples:
        sample["signature"] = Webhook(generate_secret()).sign(
            sample["id"], sample["timestamp"], sample["body"]
        )

    answers = node(samples)

    assert {answer["error"] for answer in answers} == {"No matching signature found"}


def test_we_accept_what_npm_signs(node, samples):
    """Every signature of the JavaScript reference verifies here."""
    answers = node([{**sample, "signature": "v1,none"} for sample in samples])

    messages = [
        Webhook(sample["secret"]).verify(
            sample["body"],
            {
                "webhook-id": sample["id"],
                "webhook-timestamp": str(sample["timestamp"]),
                "webhook-signature": answer["signature"],
            },
        )
        for sample, answer in zip(samples, answers)
    ]
    assert [message.id for message in messages] == [sample["id"] for sample in samples]


def test_node_and_we_agree_on_ed25519(node, samples):
    """Node's own ed25519 verifies our tokens, and makes the same ones: ed25519 is deterministic."""
    for sample in samples:
        sample["private_key"], sample["public_key"] = generate_keypair()
        sample["signature"] = Webhook(sample["private_key"]).sign(
            sample["id"], sample["timestamp"], sample["body"]
        )

    answers = node(samples)

    assert answers == [{"signature": sample["signature"], "error": None} for sample in samples]
