"""Cuts what was typed into words: at blanks, but not inside quotation marks. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Word:
    """One word: `-`, `name:`, value. `said` is exactly what was typed."""

    said: str = ""
    negated: bool = False
    name: str = ""
    value: str = ""
    # All of the value stood in quotation marks: it means these characters and nothing else.
    quoted: bool = False
    open_quote: bool = False
    # The value with its commas, cut where they stood outside quotation marks.
    parts: list[str] = field(default_factory=lambda: [""])


def split(text: str) -> list[Word]:
    """Return the words of a text."""
    words = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        word, at = _word(text, at)
        words.append(word)
    return words


def quote(value: str) -> str:
    """Return a value so that `split` gives it back whole."""
    if value and not any(char.isspace() or char in '",:\\' for char in value) and not value.startswith("-"):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _word(text: str, start: int) -> tuple[Word, int]:
    word = Word()
    at = start
    if text[at] == "-" and at + 1 < len(text) and not text[at + 1].isspace():
        word.negated = True
        at += 1
    inside = False
    bare = quotes = 0
    while at < len(text) and (inside or not text[at].isspace()):
        char = text[at]
        if char == '"':
            inside = not inside
            quotes += 1
        elif inside and char == "\\" and at + 1 < len(text):
            at += 1
            _add(word, text[at])
        elif not inside and char == ":" and not word.name and word.value and not quotes:
            word.name, word.value, word.parts, bare = word.value, "", [""], 0
        elif not inside and char == ",":
            bare += 1
            word.value += char
            word.parts.append("")
        else:
            bare += not inside
            _add(word, char)
        at += 1
    word.said = text[start:at]
    word.open_quote = inside
    word.quoted = quotes > 0 and bare == 0
    return word, at


def _add(word: Word, char: str) -> None:
    word.value += char
    word.parts[-1] += char
