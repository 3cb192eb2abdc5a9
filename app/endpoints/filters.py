"""Content filters of subscriptions: CEL over `type`, `data` and `metadata`. Pure.

A filter runs while its event is being published, so its cost is bounded before it runs: by what `compile_filter`
accepts, and by how much of the event the filter looks at. The bounds are counts, not a clock: a busy machine never
changes which events an endpoint gets. Only the part of the event that a filter names is handed to CEL.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from app.core.errors import BellwireError, Invalid
from app.endpoints._cel import compile_program
from app.endpoints._filter_source import Findings, Refused, inspect, regex_fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cel import Program

    from app.endpoints._filter_source import Paths

MAX_LENGTH = 2_048
# Values (numbers, texts, lists, objects) and characters of one event that one filter may look at.
MAX_VALUES = 10_000
MAX_CHARACTERS = 200_000
# Elements times elements times mentions of the event inside a loop: about 40 ms at most.
MAX_PRODUCT = 1_000_000
# Elements times matches() inside a loop: each compiles its pattern again, 11 to 150 µs.
MAX_LOOPED_REGEXES = 1_000
# Characters that loops which mention the event may copy.
MAX_COPIED_CHARACTERS = 20_000_000

_PARSE_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")


class FilterError(BellwireError):
    """A filter could not be evaluated for an event, so the event does not match; the message says why."""


class Filter:
    """A compiled filter; it holds no state between events, so threads may share it."""

    __slots__ = ("_findings", "_program", "source")

    def __init__(self, source: str, *, program: Program, findings: Findings) -> None:
        self.source = source
        self._program = program
        self._findings = findings

    def matches(self, event_type: str, data: Any, metadata: Mapping[str, str] | None) -> bool:
        """Tell whether an event passes. `data` is the parsed JSON value.

        Raises:
            FilterError: it cannot be told: a key is missing, types do not fit, the event is too large, or the
                result is neither true nor false.

        """
        event = {"type": event_type, "data": data, "metadata": metadata or {}}
        seen = {name: _cut(event[name], below) for name, below in self._findings.paths.items()}
        self._check_cost(seen)
        try:
            result = self._program.execute(seen)
        except Exception as error:  # noqa: BLE001 - the library raises many kinds; each is this filter's fault
            raise FilterError(_evaluation_message(error)) from None
        except BaseException as error:
            # A panic of the compiled library is not an Exception; it must not end the publisher's thread.
            if type(error).__name__ != "PanicException":
                raise
            raise FilterError("The filter made the CEL library fail; simplify it.") from None
        if not isinstance(result, bool):
            raise FilterError(
                f"The filter gave {_type_name(result)}, not true or false. End it with a comparison."
            )
        return result

    def _check_cost(self, seen: dict[str, Any]) -> None:
        values, characters = _measure(seen)
        if values > MAX_VALUES or characters > MAX_CHARACTERS:
            raise FilterError(
                f"The filter looks at more than {MAX_VALUES} values or {MAX_CHARACTERS} characters of this event. "
                "Name the fields that it needs instead of all of `data`."
            )
        findings = self._findings
        if not findings.macros:
            return
        elements = values + findings.literal_elements
        inside = findings.outer_references + findings.copying_macros
        if (
            elements * elements * inside > MAX_PRODUCT
            or elements * findings.regexes_in_macros > MAX_LOOPED_REGEXES
            or elements * characters * inside > MAX_COPIED_CHARACTERS
        ):
            raise FilterError(
                f"The loops of the filter would take too long on this event ({elements} values, {characters} "
                "characters). Publish what the filter needs as a field of its own."
            )


def compile_filter(text: str, *, pointer: str = "/filter") -> Filter:
    """Compile a filter.

    Raises:
        Invalid: it does not parse, or is refused because of its cost or an unknown name; the message gives line
            and column, and `pointer` says where the text came from.

    """
    if len(text) > MAX_LENGTH:
        raise Invalid.at(
            pointer, f"The filter has {len(text)} characters, and at most {MAX_LENGTH} are allowed."
        )
    try:
        program = compile_program(text)
    except ValueError as error:
        raise Invalid.at(pointer, _parse_message(str(error))) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise Invalid.at(pointer, "The filter makes the CEL parser fail; simplify it.") from None
    try:
        findings = inspect(text)
        _check_regexes(findings)
    except Refused as refused:
        line, column = _line_and_column(text, refused.position)
        raise Invalid.at(
            pointer, f"The filter cannot be used: at line {line}, column {column}, {refused}."
        ) from None
    return Filter(text, program=program, findings=findings)


def _check_regexes(findings: Findings) -> None:
    """Let the library itself read each pattern, so that a broken one is found now and not with the first event."""
    for literal in findings.regex_literals:
        fault = regex_fault(str(compile_program(literal.text).execute({})))
        if fault is None:
            try:
                compile_program(f"''.matches({literal.text})").execute({})
            except (ValueError, RuntimeError, TypeError):
                fault = "the pattern of matches() is not a regular expression of RE2's syntax"
        if fault is not None:
            raise Refused(fault, position=literal.position)


def _cut(value: Any, paths: Paths) -> Any:
    """Return the part of a value that the paths name; a key that is missing stays missing."""
    if not paths or not isinstance(value, dict):
        return value
    return {key: _cut(value[key], below) for key, below in paths.items() if key in value}


def _measure(seen: Any) -> tuple[int, int]:
    """Count values and characters, and stop soon after a limit is passed."""
    values = characters = 0
    waiting = [seen]
    while waiting and values <= MAX_VALUES and characters <= MAX_CHARACTERS:
        value = waiting.pop()
        values += 1
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
            characters += sum(map(len, value))
        elif isinstance(value, list):
            if len(value) > MAX_VALUES:
                return len(value), characters
            waiting.extend(value)
    return values, characters


def _parse_message(raw: str) -> str:
    found = _PARSE_ERROR.search(raw)
    if found is None:
        return (
            "The filter is not a CEL expression. It looks like: data.amount > 100 && data.currency == 'EUR'"
        )
    line, column, reason = found.groups()
    return f"The filter does not parse: at line {line}, column {column}, {_parse_reason(reason)}."


def _parse_reason(reason: str) -> str:
    found = re.match(
        r"(?:mismatched|extraneous|no viable alternative at) input '(.*?)'(?: expecting .*)?$", reason
    )
    if found is not None:
        unexpected = found.group(1)
        if unexpected == "<EOF>":
            return "it ends too early: a value is missing or a bracket is open"
        return f"`{unexpected}` is not expected"
    found = re.match(r"token recognition error at: '(.*)'$", reason)
    if found is not None:
        return f"`{found.group(1)}` is not understood: a quote is open or the character is not used in CEL"
    if "recursion" in reason.lower():
        return "it is nested too deeply"
    return reason.strip().removesuffix(".")


def _evaluation_message(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"There is no key {error} in this event. Test for it first: has(...) && ..."
    if isinstance(error, IndexError):
        return "A list of this event is shorter than the filter expects. Test its size() first."
    if isinstance(error, ArithmeticError):
        return "A calculation of the filter went out of range, or divided by zero, on this event."
    reason = str(error).partition("\n")[0].strip().removesuffix(".")
    if reason.startswith("No such overload"):
        return (
            "The types of this event's values do not fit the filter. Convert with string(...), int(...) or "
            "double(...), or test the type first: type(data.x) == int && ..."
        )
    return f"The filter failed on this event: {reason}."


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    return {int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}.get(
        type(value), "another value"
    )


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
