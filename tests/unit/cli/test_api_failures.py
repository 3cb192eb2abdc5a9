"""What a command says, and ends with, when the API refuses, is away, or is something else."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.conftest import API_KEY

if TYPE_CHECKING:
    from tests.unit.cli.conftest import FakeApi, RunPiped

LIST = ("deliveries", "list")


@pytest.mark.parametrize(
    ("status", "code", "next_step"),
    [
        (401, 4, "Check BELLWIRE_API_KEY"),
        (403, 4, "Use a key with another role"),
        (404, 4, "Check the id"),
        (409, 1, ""),
        (422, 1, ""),
        (429, 1, ""),
        (500, 1, "req_1"),
        (503, 3, ""),
    ],
)
def test_each_status_has_its_exit_code(
    api: FakeApi, piped: RunPiped, status: int, code: int, next_step: str
) -> None:
    """Refused is 4, away is 3, all else 1; the server's own sentence is shown, with a next step added."""
    api.refuse("GET", "/v1/deliveries", status=status, detail="This is why.", request_id="req_1")

    result = piped(*LIST)

    assert (result.exit_code, result.stdout) == (code, "")
    assert "This is why." in result.stderr
    assert next_step in result.stderr
    assert API_KEY not in result.stderr


def test_faults_in_the_input_are_shown_with_their_place(api: FakeApi, piped: RunPiped) -> None:
    """A 422 says where, as the API does."""
    errors = [{"pointer": "/type", "detail": "A name has no spaces."}]
    api.refuse("POST", "/v1/events", status=422, detail="The event cannot be accepted.", errors=errors)

    result = piped("events", "publish", "--type", "a b", "--data", "1")

    assert result.stderr == "bellwire: The event cannot be accepted. /type: A name has no spaces.\n"


@pytest.mark.parametrize(("uid", "says"), [(["--uid", "u"], "Send it again"), ([], "is not known")])
def test_a_publish_without_an_answer_says_whether_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, piped: RunPiped, uid: list[str], says: str
) -> None:
    """With a uid it is safe to send again; without, the truth is that nobody knows."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("BELLWIRE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("BELLWIRE_API_KEY", API_KEY)

    result = piped("events", "publish", "--type", "t", "--data", "1", *uid)

    assert result.exit_code == 3
    assert says in result.stderr
    assert "bellwire api" in result.stderr


def test_something_else_at_the_address_is_named_so(api: FakeApi, piped: RunPiped) -> None:
    """A web page with status 200 is not taken for an empty list."""
    api.answer("GET", "/v1/deliveries", b"<h1>Welcome to nginx</h1>")

    result = piped(*LIST)

    assert result.exit_code == 3
    assert "is not Bellwire's API" in result.stderr
    assert "BELLWIRE_URL" in result.stderr


def test_another_servers_404_is_not_taken_for_a_missing_object(api: FakeApi, piped: RunPiped) -> None:
    """Only a problem document is Bellwire's own refusal."""
    api.answer("GET", "/v1/deliveries", b"<h1>Not found</h1>", status=404)

    result = piped(*LIST)

    assert result.exit_code == 3
    assert "no problem in JSON" in result.stderr


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8400", "ftp://host", "http://", "http://[::1", "http://host:port", "http://a b"]
)
def test_an_address_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, piped: RunPiped, url: str
) -> None:
    """No traceback for a typing error in BELLWIRE_URL."""
    monkeypatch.setenv("BELLWIRE_URL", url)
    monkeypatch.setenv("BELLWIRE_API_KEY", API_KEY)

    result = piped(*LIST)

    assert result.exit_code == 2
    assert "BELLWIRE_URL" in result.stderr


@pytest.mark.parametrize("key", ["bw_key\nwith a break", "bw_key with a space", "bw_kéy"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, piped: RunPiped, key: str
) -> None:
    """What was pasted wrongly into the key gives a sentence, not a traceback with the key in it."""
    monkeypatch.setenv("BELLWIRE_API_KEY", key)

    result = piped(*LIST)

    assert (result.exit_code, api.requests) == (4, [])
    assert "BELLWIRE_API_KEY" in result.stderr
    assert "bw_k" not in result.stderr
