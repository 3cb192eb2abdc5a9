"""An attempt as a command, and code to verify it with: a shell reads data as data, and the code does what it says."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from app.dashboard.delivery.curl import BODY_FILE, MOST_INLINE_BYTES, curl_command
from app.dashboard.delivery.exchange import Sent
from app.dashboard.delivery.snippets import snippets
from bellwire import Webhook, generate_secret

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def sent(url: str, headers: list[tuple[str, str]], body: bytes | None) -> Sent:
    """Return a request with these parts."""
    return Sent(method="POST", url=url, request_line="", headers=headers, body=body, trace_id=None)


def read_by_a_shell(command: str) -> list[str]:
    """Return the arguments that curl would get from a shell."""
    script = f"curl() {{ printf '%s\\0' \"$@\"; }}\n{command}"
    read = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    return read.stdout.decode().split("\0")[:-1]


@settings(max_examples=50, deadline=None)
@given(url=TEXT, value=TEXT, body=TEXT)
def test_a_shell_reads_every_part_as_one_argument(url: str, value: str, body: str) -> None:
    """Whatever stands in URL, header or body, nothing of it is run."""
    command = curl_command(sent(url, [("x-own", value)], body.encode()))

    words = read_by_a_shell(command)

    assert words[:4] == ["--globoff", "--request", "POST", url]
    assert words[4:6] == ["--header", "accept:"]
    shown = "<x-own>" if value == "***" else value
    assert words[6:] == ["--header", f"x-own: {shown}", "--data-raw", body]


def test_what_is_masked_is_to_be_filled_in_and_what_is_long_comes_from_a_file() -> None:
    """A masked value is no value to send, and no shell takes an argument of any length."""
    words = read_by_a_shell(
        curl_command(
            sent(
                "https://a.example/",
                [("authorization", "***"), ("host", "a.example")],
                b"1" * (MOST_INLINE_BYTES + 1),
            )
        )
    )

    assert "authorization: <authorization>" in words
    assert not any(word.startswith("host:") for word in words)
    assert words[-2:] == ["--data-binary", f"@{BODY_FILE}"]


def test_the_shells_code_makes_the_signature(tmp_path: Path) -> None:
    """With openssl alone, over the bytes of a file."""
    secret, body = generate_secret(), b'{"price":1.10,"note":"\xc3\xa9"}\n'
    (tmp_path / BODY_FILE).write_bytes(body)
    headers = Webhook(secret).signed_headers("evt_1", body)
    (code,) = [snippet.code for snippet in snippets("hmac") if snippet.key == "shell"]

    made = subprocess.run(
        ["sh", "-c", code],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "BELLWIRE_SECRET": secret,
            "WEBHOOK_ID": headers["webhook-id"],
            "WEBHOOK_TIMESTAMP": headers["webhook-timestamp"],
        },
        capture_output=True,
        check=True,
        text=True,
    )

    assert f"v1,{made.stdout.strip()}" == headers["webhook-signature"]


def test_the_languages_that_are_promised_are_there() -> None:
    """Nine for a shared secret, three for a public key."""
    assert [snippet.key for snippet in snippets("hmac")] == [
        "python",
        "shell",
        "node",
        "go",
        "ruby",
        "php",
        "java",
        "csharp",
        "rust",
    ]
    assert [snippet.key for snippet in snippets("ed25519")] == ["python", "node", "go"]
