"""`bellwire events publish`, against an API that says what it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.conftest import API_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import FakeApi, RunOnTerminal, RunPiped

EVENT = {
    "id": "evt_01kb2m9w4e8f3tq6v7xz1y5n0r",
    "type": "order.placed",
    "uid": "order-1",
    "application_uid": "default",
    "created_at": "2026-01-31T12:00:00.000000Z",
    "deliveries": 2,
}


def test_data_travels_byte_for_byte(api: FakeApi, piped: RunPiped) -> None:
    """Spaces, number forms, escapes and the order of members reach the API as they were typed."""
    api.answer("POST", "/v1/events", EVENT, status=202)
    data = '{"b": 1.0,  "a": "\\u00e9é", "n": 12345678901234567890123}'

    result = piped("events", "publish", "--type", "order.placed", "--data", data)

    assert result.exit_code == 0
    assert data.encode() in api.requests[0].body
    assert json.loads(api.requests[0].body) == {"type": "order.placed", "data": json.loads(data)}


def test_all_options_reach_the_api(api: FakeApi, piped: RunPiped) -> None:
    """Each option is the field of its name, and the key is a bearer token."""
    api.answer("POST", "/v1/events", EVENT, status=202)

    piped(
        *("events", "publish", "--type", "order.placed", "--data", "null", "--uid", "order-1"),
        *("--application", "shop", "--correlation-id", "c-1", "--metadata", "a=1", "--metadata", "b=x=y"),
    )

    assert json.loads(api.requests[0].body) == {
        "type": "order.placed",
        "data": None,
        "uid": "order-1",
        "application": "shop",
        "correlation_id": "c-1",
        "metadata": {"a": "1", "b": "x=y"},
    }
    assert api.requests[0].headers["authorization"] == f"Bearer {API_KEY}"


def test_data_comes_from_a_file_or_standard_input(api: FakeApi, piped: RunPiped, tmp_path: Path) -> None:
    """`@FILE` and a pipe give the same event as the option itself."""
    api.answer("POST", "/v1/events", EVENT, status=202)
    (tmp_path / "order.json").write_bytes(b'{"order": 1}\n')

    piped("events", "publish", "--type", "t", "--data", "@order.json")
    piped("events", "publish", "--type", "t", stdin='{"order": 1}\n')

    assert api.requests[0].body == api.requests[1].body
    assert json.loads(api.requests[0].body)["data"] == {"order": 1}


def test_a_program_gets_the_event_as_the_api_answers(api: FakeApi, piped: RunPiped) -> None:
    """Piped, standard output is the API's answer and nothing else."""
    api.answer("POST", "/v1/events", EVENT, status=202)

    result = piped("events", "publish", "--type", "t", "--data", "1")

    assert json.loads(result.stdout) == EVENT


def test_a_person_is_told_how_to_follow_the_event(api: FakeApi, on_terminal: RunOnTerminal) -> None:
    """On a terminal: the fields, and the command that shows the deliveries."""
    api.answer("POST", "/v1/events", EVENT, status=202)

    code, shown = on_terminal("events", "publish", "--type", "t", "--data", "1")

    assert code == 0
    assert f"bellwire deliveries list --event {EVENT['id']}" in shown


def test_a_person_is_told_that_nobody_listens(api: FakeApi, on_terminal: RunOnTerminal) -> None:
    """An event without a delivery is accepted; that nothing will come of it is said."""
    api.answer("POST", "/v1/events", {**EVENT, "deliveries": 0}, status=202)

    code, shown = on_terminal("events", "publish", "--type", "t", "--data", "1")

    assert code == 0
    assert "No endpoint is subscribed" in shown


@pytest.mark.parametrize(
    "data", ["{order: 1}", "", "1 2", "NaN", '{"a": 1', "@nowhere.json", '1},"type":"x"']
)
def test_data_that_is_not_json_is_not_sent(api: FakeApi, piped: RunPiped, data: str) -> None:
    """Wrong usage, found before anything is sent; the message says how to quote."""
    result = piped("events", "publish", "--type", "t", "--data", data)

    assert (result.exit_code, result.stdout, api.requests) == (2, "", [])
    assert result.stderr.startswith("bellwire: --data")


def test_metadata_without_an_equals_sign_is_wrong_usage(api: FakeApi, piped: RunPiped) -> None:
    """The message shows the form."""
    result = piped("events", "publish", "--type", "t", "--data", "1", "--metadata", "source")

    assert (result.exit_code, api.requests) == (2, [])
    assert "NAME=VALUE" in result.stderr
