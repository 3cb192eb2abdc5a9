"""`bellwire deliveries`, against an API that says what it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from tests.unit.cli.conftest import FakeApi, RunOnTerminal, RunPiped

ID = "dlv_01kb2m9w4e8f3tq6v7xz1y5n0r"
OTHER_ID = "dlv_01kb2m9w4e8f3tq6v7xz1y5n0s"


def delivery(**changes: Any) -> dict[str, Any]:
    """Return a delivery as the API shows it."""
    return {
        "id": ID,
        "event": {"id": "evt_1", "type": "order.placed"},
        "endpoint": {"id": "ep_1", "url": "https://shop.example/hooks"},
        "application": "app_1",
        "state": "pending",
        "attempt_count": 2,
        "next_attempt_at": "2026-01-31T12:05:00.000000Z",
        "last_status": 503,
        "last_error": {"class": "http_5xx", "message": "The receiver failed."},
        "waiting": None,
        "created_at": "2026-01-31T12:00:00.000000Z",
        "completed_at": None,
        "deadline_at": "2026-02-05T12:00:00.000000Z",
        **changes,
    }


def attempt(**changes: Any) -> dict[str, Any]:
    """Return an attempt as the API shows it."""
    return {
        "id": "att_1",
        "number": 1,
        "outcome": "failed",
        "started_at": "2026-01-31T12:00:00.000000Z",
        "duration_ms": 12.5,
        "response": {"status": 503},
        "error": {"class": "http_5xx", "message": "The receiver failed.", "hint": "Look into its log."},
        **changes,
    }


def page(*rows: dict[str, Any], next_cursor: str | None = None) -> dict[str, Any]:
    """Return one page of a list."""
    return {"data": list(rows), "next_cursor": next_cursor, "prev_cursor": None}


def test_list_gives_a_program_the_page(api: FakeApi, piped: RunPiped) -> None:
    """Piped, the answer is the API's page, cursors included."""
    api.answer("GET", "/v1/deliveries", page(delivery(), next_cursor="abc"))

    result = piped("deliveries", "list")

    assert json.loads(result.stdout) == page(delivery(), next_cursor="abc")
    assert result.exit_code == 0


def test_list_shows_a_person_a_table(api: FakeApi, on_terminal: RunOnTerminal) -> None:
    """Ids stand whole in one line, with what matters, and the way to the next page."""
    api.answer("GET", "/v1/deliveries", page(delivery(), delivery(id=OTHER_ID), next_cursor="abc"))

    code, shown = on_terminal("deliveries", "list")

    (line,) = [line for line in shown.splitlines() if OTHER_ID in line]
    assert [
        word for word in ("pending", "order.placed", "https://shop.example/hooks", "503") if word in line
    ] == [
        "pending",
        "order.placed",
        "https://shop.example/hooks",
        "503",
    ]
    assert "--cursor abc" in shown
    assert code == 0


def test_a_narrow_terminal_keeps_ids_whole_and_rows_on_one_line(
    api: FakeApi, on_terminal: RunOnTerminal
) -> None:
    """At 80 characters less is shown, but what a person copies is not cut."""
    api.answer("GET", "/v1/deliveries", page(delivery(event={"id": "evt_1", "type": "x" * 100})))

    _, shown = on_terminal("deliveries", "list", columns=80)

    (line,) = [line for line in shown.splitlines() if ID in line]
    assert "pending" in line
    assert len(shown.strip().splitlines()) == 3


def test_list_prints_json_on_a_terminal_if_asked(api: FakeApi, on_terminal: RunOnTerminal) -> None:
    """`--json` overrides the terminal."""
    api.answer("GET", "/v1/deliveries", page(delivery()))

    _, shown = on_terminal("deliveries", "list", "--json")

    assert json.loads(shown) == page(delivery())


def test_list_hands_its_filters_to_the_api(api: FakeApi, piped: RunPiped) -> None:
    """Every option is a query parameter; what was not given is not sent."""
    api.answer("GET", "/v1/deliveries", page())

    piped(
        *("deliveries", "list", "--state", "dead", "--event", "evt_1", "--endpoint", "ep_1"),
        *("--type", "order.placed", "--limit", "7", "--cursor", "c"),
    )

    assert parse_qs(urlsplit(api.requests[0].path).query) == {
        "state": ["dead"],
        "event": ["evt_1"],
        "endpoint": ["ep_1"],
        "type": ["order.placed"],
        "limit": ["7"],
        "cursor": ["c"],
    }


def test_an_empty_list_is_no_error_and_says_what_to_do(api: FakeApi, on_terminal: RunOnTerminal) -> None:
    """Nothing found is exit code 0; a person is told how to get something."""
    api.answer("GET", "/v1/deliveries", page())

    code, shown = on_terminal("deliveries", "list")

    assert code == 0
    assert "bellwire events publish" in shown


def test_what_a_receiver_wrote_cannot_steer_the_terminal(api: FakeApi, on_terminal: RunOnTerminal) -> None:
    """Escape sequences and markup in texts from outside are shown harmlessly."""
    api.answer("GET", f"/v1/deliveries/{ID}", delivery())
    error = {"class": "http_5xx", "message": "\x1b[2J[red]gone[/red]", "hint": None}
    api.answer("GET", f"/v1/deliveries/{ID}/attempts", page(attempt(error=error)))

    _, shown = on_terminal("deliveries", "show", ID)

    assert "\x1b[2J" not in shown
    assert "\N{REPLACEMENT CHARACTER}[2J[red]gone[/red]" in shown


def test_show_brings_the_attempts_along(api: FakeApi, piped: RunPiped) -> None:
    """A program gets one document: the delivery, and every attempt in it."""
    api.answer("GET", f"/v1/deliveries/{ID}", delivery())
    api.answer("GET", f"/v1/deliveries/{ID}/attempts", page(attempt(), attempt(number=2)))

    result = piped("deliveries", "show", ID)

    assert [one["number"] for one in json.loads(result.stdout)["attempts"]] == [1, 2]


def test_show_tells_a_person_what_happened_and_what_it_waits_for(
    api: FakeApi, on_terminal: RunOnTerminal
) -> None:
    """The error's sentence and its hint stand beside each attempt; a wait has its reason."""
    waiting = {"reason": "circuit_open", "until": "2026-01-31T13:00:00Z"}
    api.answer("GET", f"/v1/deliveries/{ID}", delivery(waiting=waiting))
    api.answer("GET", f"/v1/deliveries/{ID}/attempts", page(attempt()))

    _, shown = on_terminal("deliveries", "show", ID)

    assert "The receiver failed. Look into its log." in shown
    assert "circuit_open until 2026-01-31 13:00:00" in shown


def test_retry_of_several_goes_on_after_a_refusal(api: FakeApi, piped: RunPiped) -> None:
    """One that cannot be retried does not keep the others; the exit code tells of it."""
    api.refuse("POST", f"/v1/deliveries/{ID}/retry", status=409, detail="It is being sent right now.")
    api.answer("POST", f"/v1/deliveries/{OTHER_ID}/retry", delivery(id=OTHER_ID), status=202)

    result = piped("deliveries", "retry", ID, OTHER_ID)

    assert [one["id"] for one in json.loads(result.stdout)["data"]] == [OTHER_ID]
    assert f"{ID}: It is being sent right now." in result.stderr
    assert result.exit_code == 1


def test_an_id_stays_one_segment_of_the_path(api: FakeApi, piped: RunPiped) -> None:
    """A slash or a question mark in what a person typed reaches no other route."""
    result = piped("deliveries", "show", "../events?x=1")

    assert api.requests[0].path == "/v1/deliveries/..%2Fevents%3Fx%3D1"
    assert result.exit_code == 4
