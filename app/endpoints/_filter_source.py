"""What can be known of a filter's source without running it: its references, its macros, and what it may cost.

The CEL library parses and evaluates; this reads the tokens of a source that it has accepted, to refuse what would
be slow or could never work. A character that is not understood here is refused, never passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

VARIABLES = ("type", "data", "metadata")
MAX_MACROS = 8
MAX_ADDITIONS = 8
MAX_REGEXES = 4
MAX_REGEX_LENGTH = 256
# Counted repetitions are unrolled by the regex engine: their sum bounds its work for each character.
MAX_REGEX_REPEATS = 100

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f]+|//[^\n]*)
    | (?P<string>[bB]?[rR](?:\"\"\"(?:.|\n)*?\"\"\"|'''(?:.|\n)*?'''|"[^"\r\n]*"|'[^'\r\n]*')
        |[bB]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''
              |"(?:\\.|[^"\\\r\n])*"|'(?:\\.|[^'\\\r\n])*'))
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[uU]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<mark>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
_KEYWORDS = frozenset({"true", "false", "null", "in"})
_TYPES = frozenset({"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint"})
_CLOCK_FUNCTIONS = (
    *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
    *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
)
_FUNCTIONS = frozenset(
    {
        *("size", "contains", "startsWith", "endsWith", "matches", "has", "dyn", "type"),
        *("int", "uint", "double", "string", "bytes", "timestamp", "duration"),
        *_CLOCK_FUNCTIONS,
    }
)
_CLOSERS = {"(": ")", "[": "]", "{": "}"}
# What the body of `map` may be made of: a path or a product; its results are copied again for each element.
_MAP_MARKS = frozenset({".", "[", "]", "(", ")", "*", "/", "-"})

Paths = dict[str, "Paths"]


class Refused(ValueError):
    """The source cannot be a filter; the message is a sentence, `position` counts characters from 0."""

    def __init__(self, message: str, *, position: int) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of the source."""

    kind: str
    text: str
    position: int


@dataclass(slots=True)
class Findings:
    """What the source refers to, and the factors of its cost.

    `paths` holds for each variable the part that is looked at: a tree of keys where an empty node means all below.
    `outer_references` counts mentions of the event inside macros, where each costs once for every element.
    """

    paths: Paths = field(default_factory=dict)
    macros: int = 0
    copying_macros: int = 0
    outer_references: int = 0
    regexes: int = 0
    regexes_in_macros: int = 0
    literal_elements: int = 0
    regex_literals: list[Token] = field(default_factory=list)


@dataclass(slots=True)
class _Macro:
    """A macro whose parentheses are open."""

    name: str
    variable: str
    depth: int
    body: int


def inspect(source: str) -> Findings:
    """Read a source that the CEL parser accepted.

    Raises:
        Refused: it nests macros, is too costly, or names what no event has.

    """
    return _Reader(tokenize(source)).read()


def tokenize(source: str) -> list[Token]:
    """Split a source, without white space and comments.

    Raises:
        Refused: a character that no token begins with.

    """
    tokens = []
    position = 0
    while position < len(source):
        found = _TOKEN.match(source, position)
        if found is None:
            raise Refused(f"`{source[position]}` is not used in filters", position=position)
        kind = found.lastgroup or ""
        if kind != "space":
            tokens.append(Token(kind, found.group(), position))
        position = found.end()
    return tokens


def regex_fault(pattern: str) -> str | None:
    """Return why a regular expression would be too costly, or None."""
    if len(pattern) > MAX_REGEX_LENGTH:
        return f"a pattern of matches() may have at most {MAX_REGEX_LENGTH} characters"
    if re.search(r"[)}*+?]\s*\{", pattern):
        return "a pattern of matches() may not repeat a group or a repetition a counted number of times"
    counts = [
        int(high or low)
        for low, high in re.findall(r"\{\s*([0-9]{1,6})\s*(?:,\s*([0-9]{0,6}))?\s*\}", pattern)
    ]
    if sum(counts) > MAX_REGEX_REPEATS or re.search(r"\{\s*[0-9]{7}|,\s*[0-9]{7}", pattern):
        return f"the counted repetitions of a matches() pattern may add up to at most {MAX_REGEX_REPEATS}"
    return None


class _Reader:
    """One pass over the tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._findings = Findings()
        self._brackets: list[str] = []
        self._macro: _Macro | None = None

    def read(self) -> Findings:
        additions = 0
        for index, token in enumerate(self._tokens):
            if token.kind == "name":
                self._read_name(index, token)
            elif token.kind == "mark":
                self._read_mark(index, token)
                additions += token.text == "+"
            if self._macro is not None and self._macro.name == "map" and index >= self._macro.body:
                self._check_map_body(token)
        if additions > MAX_ADDITIONS:
            raise Refused(f"a filter may have at most {MAX_ADDITIONS} additions", position=0)
        return self._findings

    def _read_mark(self, index: int, token: Token) -> None:
        if token.text in _CLOSERS:
            self._brackets.append(token.text)
        elif token.text in _CLOSERS.values():
            self._brackets.pop()
            if self._macro is not None and len(self._brackets) < self._macro.depth:
                self._macro = None
        elif token.text == ",":
            self._findings.literal_elements += 1
        elif token.text == "." and not self._ends_operand(index - 1):
            raise Refused("a name may not begin with a dot", position=token.position)

    def _read_name(self, index: int, token: Token) -> None:
        name = token.text
        if name in _KEYWORDS and not self._is(index - 1, "."):
            return
        if self._is(index + 1, "("):
            if self._is(index - 1, ".") and name in _MACROS:
                self._enter_macro(index, token)
            else:
                self._read_call(index, token)
        elif not self._is(index - 1, "."):
            self._read_variable(index, token)

    def _enter_macro(self, index: int, token: Token) -> None:
        if self._macro is not None:
            raise Refused(
                f"`{token.text}` stands inside `{self._macro.name}`; nested loops are refused because their cost "
                "is the product of the lists' lengths. Publish what the filter needs as a field of its own",
                position=token.position,
            )
        variable = self._text(index + 2)
        if variable in VARIABLES:
            raise Refused(
                f"the loop's variable may not be called `{variable}`",
                position=self._tokens[index + 2].position,
            )
        self._findings.macros += 1
        if self._findings.macros > MAX_MACROS:
            raise Refused(f"a filter may have at most {MAX_MACROS} loops", position=token.position)
        self._findings.copying_macros += token.text in {"map", "filter"}
        self._macro = _Macro(
            name=token.text, variable=variable, depth=len(self._brackets) + 1, body=index + 4
        )

    def _read_call(self, index: int, token: Token) -> None:
        if token.text not in _FUNCTIONS:
            raise Refused(
                f"there is no function `{token.text}`; there are {', '.join(sorted(_FUNCTIONS))}",
                position=token.position,
            )
        if token.text == "matches":
            self._read_regex(index, token)

    def _read_regex(self, index: int, token: Token) -> None:
        literal = self._tokens[index + 2] if index + 2 < len(self._tokens) else None
        if (
            not self._is(index - 1, ".")
            or literal is None
            or literal.kind != "string"
            or not self._is(index + 3, ")")
        ):
            raise Refused(
                "matches() takes its pattern as a plain text, as in data.name.matches('^a')",
                position=token.position,
            )
        self._findings.regexes += 1
        self._findings.regexes_in_macros += self._macro is not None
        self._findings.regex_literals.append(literal)
        if self._findings.regexes > MAX_REGEXES:
            raise Refused(f"a filter may have at most {MAX_REGEXES} matches()", position=token.position)

    def _read_variable(self, index: int, token: Token) -> None:
        name = token.text
        if name in VARIABLES:
            self._findings.outer_references += self._macro is not None and name != "type"
            self._note_path(index)
        elif name not in _TYPES and (self._macro is None or name != self._macro.variable):
            raise Refused(
                f"there is no variable `{name}`; there are `type`, `data` and `metadata`, and a text stands in quotes",
                position=token.position,
            )

    def _note_path(self, index: int) -> None:
        """Add the path of keys that begins here, up to the first thing that is not a plain key."""
        keys = [self._text(index)]
        index += 1
        while self._is(index, ".") and self._kind(index + 1) == "name" and not self._is(index + 2, "("):
            keys.append(self._text(index + 1))
            index += 2
        node = self._findings.paths
        for depth, key in enumerate(keys):
            if key in node and not node[key]:
                return  # All of it is looked at already.
            if depth == len(keys) - 1:
                node[key] = {}
            else:
                node = node.setdefault(key, {})

    def _check_map_body(self, token: Token) -> None:
        plain = token.kind in {"name", "number", "string"} and token.text not in VARIABLES
        if not plain and not (token.kind == "mark" and token.text in _MAP_MARKS):
            raise Refused(
                f"`{token.text}` may not stand in map(), which takes a field or a product of the element's fields, "
                "as in data.items.map(i, double(i.price) * double(i.quantity))",
                position=token.position,
            )

    def _ends_operand(self, index: int) -> bool:
        return self._kind(index) in {"name", "string", "number"} or self._text(index) in {")", "]", "}"}

    def _is(self, index: int, text: str) -> bool:
        return self._text(index) == text

    def _text(self, index: int) -> str:
        return self._tokens[index].text if 0 <= index < len(self._tokens) else ""

    def _kind(self, index: int) -> str:
        return self._tokens[index].kind if 0 <= index < len(self._tokens) else ""
