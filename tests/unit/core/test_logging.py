"""Logs: one line a thing that happened."""

from __future__ import annotations

import io
import json
import logging as stdlib

import pytest
import structlog

from app.core import logging
from app.core.settings import Settings


@pytest.fixture
def restored():
    """Puts logging back as it was."""
    root = stdlib.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def lines(restored):
    """Sets JSON logging up and reads what was logged."""
    stream = io.StringIO()
    logging.configure(Settings(log_format="json", log_level="INFO"), process="api", stream=stream)

    def read():
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return read


def test_line_is_json_with_time_process_and_fields(lines):
    """A line says what, when, where, how bad, and its fields."""
    structlog.get_logger("app.some.module").info("delivery.sent", attempt=3)
    (line,) = lines()
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "delivery.sent",
        "attempt": 3,
        "level": "info",
        "logger": "app.some.module",
        "process": "api",
    }


def test_other_libraries_lines_have_the_same_form(lines):
    """What the standard library's logging is given comes out as JSON, too."""
    stdlib.getLogger("celery").warning("lost %s", "broker")
    (line,) = lines()
    assert (line["event"], line["level"], line["process"]) == ("lost broker", "warning", "api")


def test_fields_named_like_secrets_are_hidden(lines):
    """A careless call does not write a secret."""
    structlog.get_logger().info("key.made", secret="whsec_abc", payload={"card": "4111"}, name="Shop")
    (line,) = lines()
    assert (line["secret"], line["payload"], line["name"]) == ("[hidden]", "[hidden]", "Shop")


def test_tracebacks_hold_no_local_variables(lines):
    """An exception is logged with its trace, but without the values that its frames held."""

    def fail():
        card_number = "4111-1111"
        raise ValueError(f"{len(card_number)} is bad")

    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("request.failed")
    (line,) = lines()
    assert "9 is bad" in json.dumps(line["exception"])
    assert "4111" not in json.dumps(line)


CARD = "41" + "11"


def refuse_row(note: str) -> None:
    """Fail as Postgres does when a row breaks a constraint: its error repeats the row."""
    error = ValueError(
        "(psycopg.errors.CheckViolation) new row violates check constraint\n"
        f"DETAIL:  Failing row contains (1, {note},\nand more of {note}).\n"
        "[SQL: INSERT INTO events]"
    )
    try:
        raise error
    except ValueError as cause:
        raise RuntimeError(f"not stored\nDETAIL:  Key (uid)=({note}) already exists.") from cause


def test_rows_that_postgres_repeats_stay_out(lines):
    """The error's sentence and statement are there, the row is not: in no exception of the chain, in no text."""
    try:
        refuse_row(CARD)
    except RuntimeError as error:
        structlog.get_logger().exception("request.failed", reason=str(error))
    (line,) = lines()
    text = json.dumps(line)
    assert CARD not in text
    assert "violates check constraint" in text
    assert "[SQL: INSERT INTO events]" in text
    assert line["reason"] == "not stored\nDETAIL: [hidden]"


def test_rows_that_postgres_repeats_stay_out_of_the_terminal(restored):
    """`console` hides them, too."""
    stream = io.StringIO()
    logging.configure(Settings(log_format="console"), process="worker", stream=stream)
    try:
        refuse_row(CARD)
    except RuntimeError:
        structlog.get_logger().exception("request.failed")
    assert CARD not in stream.getvalue()
    assert "violates check constraint" in stream.getvalue()


def test_level_is_the_settings_one(lines):
    """Below the level nothing is written."""
    structlog.get_logger().debug("claim.empty")
    assert lines() == []


def test_terminal_gets_readable_lines(restored):
    """`console` writes lines for people, not JSON."""
    stream = io.StringIO()
    logging.configure(Settings(log_format="console"), process="worker", stream=stream)
    structlog.get_logger().info("worker.started", processes=2)
    assert "worker.started" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
