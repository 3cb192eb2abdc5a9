"""`bellwire sign` and `bellwire verify`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from standardwebhooks import Webhook as ReferenceWebhook

from bellwire import generate_secret

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import RunOnTerminal, RunPiped

# The vector of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = '{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def as_options(headers: dict[str, str]) -> list[str]:
    """Return headers as `-H` options."""
    return [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]


VECTOR = as_options({"webhook-id": ID, "webhook-timestamp": str(TIMESTAMP), "webhook-signature": SIGNATURE})


def test_sign_makes_the_signature_of_the_standard(piped: RunPiped) -> None:
    """The vector of Standard Webhooks comes out, as JSON when piped."""
    result = piped("sign", "--secret", SECRET, "--id", ID, "--timestamp", str(TIMESTAMP), "--body", BODY)

    assert json.loads(result.stdout) == {
        "webhook-id": ID,
        "webhook-timestamp": str(TIMESTAMP),
        "webhook-signature": SIGNATURE,
    }
    assert result.exit_code == 0


def test_sign_prints_headers_on_a_terminal(on_terminal: RunOnTerminal) -> None:
    """A person sees three headers that can be pasted."""
    code, shown = on_terminal(
        "sign", "--secret", SECRET, "--id", ID, "--timestamp", str(TIMESTAMP), "--body", BODY
    )

    assert shown.splitlines() == [
        f"webhook-id: {ID}",
        f"webhook-timestamp: {TIMESTAMP}",
        f"webhook-signature: {SIGNATURE}",
    ]
    assert code == 0


def test_sign_takes_the_bytes_of_standard_input_as_they_are(piped: RunPiped) -> None:
    """A final newline and bytes that are not text belong to the body; the reference library agrees."""
    body = b"\xff\x00 line\n"
    result = piped("sign", "--secret", SECRET, stdin=body)

    checked = piped("verify", "--secret", SECRET, *as_options(json.loads(result.stdout)), stdin=body)
    assert json.loads(checked.stdout)["verified"] is True
    assert json.loads(checked.stdout)["bytes"] == len(body)


def test_what_sign_makes_the_reference_library_accepts(piped: RunPiped) -> None:
    """Without --id and --timestamp it is a fresh message, good for any Standard Webhooks receiver."""
    result = piped("sign", "--secret", SECRET, "--body", BODY)

    assert ReferenceWebhook(SECRET).verify(BODY, json.loads(result.stdout)) == json.loads(BODY)


def test_verify_accepts_a_genuine_request(piped: RunPiped) -> None:
    """A request that was signed now is genuine: exit code 0."""
    headers = {
        "webhook-id": ID,
        "webhook-timestamp": str(int(time.time())),
        "webhook-signature": "",
    }
    signed = piped(
        "sign", "--secret", SECRET, "--id", ID, "--timestamp", headers["webhook-timestamp"], "--body", BODY
    )

    result = piped("verify", "--secret", SECRET, "--body", BODY, *as_options(json.loads(signed.stdout)))

    assert result.exit_code == 0
    assert json.loads(result.stdout)["id"] == ID


def test_verify_refuses_an_old_request_unless_told_not_to(piped: RunPiped) -> None:
    """The age counts, with a reason for programs; --any-age is for requests that were kept."""
    old = piped("verify", "--secret", SECRET, "--body", BODY, *VECTOR)
    kept = piped("verify", "--secret", SECRET, "--body", BODY, *VECTOR, "--any-age")

    assert (old.exit_code, json.loads(old.stdout)["reason"]) == (1, "timestamp_too_old")
    assert (kept.exit_code, json.loads(kept.stdout)["timestamp"]) == (0, "2021-02-25T15:02:10Z")


def test_verify_refuses_a_body_that_was_changed(on_terminal: RunOnTerminal) -> None:
    """One other byte: exit code 1, and the person reads why."""
    code, shown = on_terminal("verify", "--secret", SECRET, "--body", BODY + " ", *VECTOR, "--any-age")

    assert code == 1
    assert "✗ not verified (signature_mismatch)" in shown


def test_verify_takes_several_secrets(piped: RunPiped) -> None:
    """While a rotation lasts, either secret will do."""
    result = piped(
        "verify", "--secret", generate_secret(), "--secret", SECRET, "--body", BODY, *VECTOR, "--any-age"
    )

    assert result.exit_code == 0


def test_the_secret_may_stay_out_of_the_command_line(
    piped: RunPiped, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A variable or a file holds it, so that the list of processes and the shell's history do not."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    from_file = piped("verify", "--secret", "@secret", "--body", BODY, *VECTOR, "--any-age")
    monkeypatch.setenv("BELLWIRE_WEBHOOK_SECRET", SECRET)
    from_variable = piped("verify", "--body", BODY, *VECTOR, "--any-age")

    assert (from_file.exit_code, from_variable.exit_code) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sign", "--body", "x"], "There is no secret. Set BELLWIRE_WEBHOOK_SECRET"),
        (["sign", "--secret", "whsec_short", "--body", "x"], "Copy it again"),
        (["sign", "--secret", SECRET, "--body", "x", "--id", "a.b"], "Use letters, digits"),
        (["sign", "--secret", SECRET, "--body", "x", "--timestamp", "-1"], "whole number of Unix seconds"),
        (["sign", "--secret", "@nowhere", "--body", "x"], "cannot be read"),
        (["sign", "--secret", SECRET, "--body", "@nowhere"], "Check its name"),
        (["verify", "--secret", SECRET, "--body", "x", "-H", "webhook-id"], "has no colon"),
    ],
)
def test_what_cannot_be_used_is_wrong_usage(piped: RunPiped, arguments: list[str], says: str) -> None:
    """A secret, a file or a header that cannot be read: exit code 2, a next step, nothing on standard output."""
    result = piped(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert "whsec_short" not in result.stderr
