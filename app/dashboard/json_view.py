"""Bodies as people read them: JSON is coloured by its tokens and never parsed to values.

So a number keeps its digits, an object its order and its repeated keys, and whatever is no JSON, no UTF-8 or full of
markup is shown as the text that it is. What is shown is bounded, whatever was stored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from app.dashboard.words import plural, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# More of a body is not put into a page; "download raw" has the rest.
SHOWN_BYTES = 262_144
SHOWN_LINES = 3_000
# A longer body is folded after so many lines, or characters where it has few lines.
OPEN_LINES = 60
OPEN_CHARACTERS = 6_000
# Beyond, text is no longer coloured: a page of a hundred thousand spans helps nobody.
COLOURED_TOKENS = 6_000
# Deeper levels are drawn at this depth, or a body of brackets alone would grow with the square of its length.
DEEPEST = 32
_INDENT = "  "

# A string may be cut off at the end, as a truncated body is. Possessive, so that no text takes more than one pass.
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]++)
  | (?P<key>"(?:[^"\\]++|\\[\s\S])*+"(?=[ \t\r\n]*+:))
  | (?P<string>"(?:[^"\\]++|\\[\s\S])*+(?:"|\\?\Z))
  | (?P<number>-?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)
  | (?P<word>(?:true|false|null)\b)
  | (?P<mark>[{}\[\],:])
    """,
    re.VERBOSE,
)
_CUT_OFF = re.compile(r"[a-zE.+-]{1,4}")
_CLASSES = {"key": "k", "string": "s", "number": "n", "word": "w"}

# Characters that cannot be seen, or that turn the order of what can be seen, are shown by their number.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SURROGATES = re.compile("[\ud800-\udfff]")

_Token = tuple[str, str]


def json_html(
    data: bytes | str,
    *,
    pretty: bool = False,
    truncated: bool = False,
    whole_size: int | None = None,
    label: str = "Body",
) -> Markup:
    """Return a body as a block of HTML: its text, folded where it is long, and what is to be known about it.

    Args:
        data: the stored bytes, or text.
        pretty: JSON is broken into lines and indented; nothing but the space between its tokens changes.
        truncated: what is stored is only the beginning of what there was.
        whole_size: how many bytes there were in all, where that is known.
        label: names the block for screen readers.

    """
    stored = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "surrogatepass"))
    if not stored:
        return Markup('<p class="muted body-note">Empty: 0 bytes.</p>')
    shown, notes = _shown_text(data)
    cut = stored > SHOWN_BYTES
    if truncated:
        whole = f" of {size(whole_size)}" if whole_size else ""
        notes.insert(0, f"Truncated: the first {size(stored)}{whole} were kept.")
    if cut:
        notes.append(f"Shown is the first {size(SHOWN_BYTES)} of {size(stored)}; download it to see all.")
    tokens = tokens_of(shown)
    if tokens is None:
        tokens = [("", shown)]
        pretty = False
    lines = _lines(_indented(tokens) if pretty else tokens)
    return Markup("").join(
        [Markup('<p class="body-note">{}</p>').format(note) for note in notes]
        + [_block(lines, label=label, stored=stored)]
    )


def plain_text(data: bytes | str) -> str:
    """Return a body as lines of text, JSON with one member a line: for what compares bodies."""
    shown, _ = _shown_text(data)
    tokens = tokens_of(shown)
    text = shown if tokens is None else "".join(part for _, part in _indented(tokens))
    return _UNSEEN.sub(lambda found: f"U+{ord(found.group()):04X}", text.replace("\r\n", "\n"))


def tokens_of(text: str) -> list[_Token] | None:
    """Return the tokens of JSON text as (kind, text), or None if it is something else.

    Text that breaks off is JSON up to there. That brackets match is not checked: nothing here depends on it.
    """
    start = text.lstrip(" \t\r\n")
    if not start or start[0] not in '{["-0123456789tfn':
        return None
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            # A word or a number that was cut off is the last thing there is.
            if not tokens or not _CUT_OFF.fullmatch(text, position):
                return None
            tokens.append(("", text[position:]))
            break
        tokens.append((found.lastgroup or "", found.group()))
        position = found.end()
    if start[0] not in "{[" and sum(kind != "space" for kind, _ in tokens) != 1:
        return None
    return tokens


def _shown_text(data: bytes | str) -> tuple[str, list[str]]:
    """Return text that is safe to show, and what must be said about it."""
    if isinstance(data, str):
        return _SURROGATES.sub("\ufffd", data[:SHOWN_BYTES]), []
    part = data[:SHOWN_BYTES]
    text = part.decode("utf-8", "replace")
    try:
        part.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may have been cut in two, by us or by who kept only the beginning.
        if error.reason != "unexpected end of data":
            return text, ["This is not UTF-8: what cannot be read is shown as \ufffd."]
    return text, []


def _indented(tokens: list[_Token]) -> Iterator[_Token]:
    """Give the tokens with other space between them: one member a line."""
    solid = [token for token in tokens if token[0] != "space"]
    depth = 0
    for at, (kind, text) in enumerate(solid):
        after = solid[at + 1][1] if at + 1 < len(solid) else ""
        if kind != "mark":
            yield kind, text
        elif text in "{[":
            depth += 1
            yield kind, text
            if after not in ("}", "]"):
                yield "space", _break(depth)
        elif text in "}]":
            depth = max(0, depth - 1)
            before = solid[at - 1][1] if at else ""
            if before not in ("{", "["):
                yield "space", _break(depth)
            yield kind, text
        elif text == ",":
            yield kind, text
            yield "space", _break(depth)
        else:
            yield kind, text
            yield "space", " "


def _break(depth: int) -> str:
    return "\n" + _INDENT * min(depth, DEEPEST)


def _lines(tokens: Iterable[_Token]) -> list[tuple[Markup, int]]:
    """Return the lines as HTML, each with its length in characters; a token may go over several.

    There is one more than SHOWN_LINES where not all of them are made.
    """
    lines: list[tuple[Markup, int]] = []
    line: list[str] = []
    length = coloured = 0
    for kind, text in tokens:
        css = _CLASSES.get(kind)
        coloured += css is not None
        for number, part in enumerate(text.split("\n")):
            if number:
                lines.append((Markup("".join(line)), length))  # noqa: S704 - every part was escaped below
                if len(lines) > SHOWN_LINES:
                    return lines
                line, length = [], 0
            plain = part.removesuffix("\r")
            if not plain:
                continue
            html = _safe(plain)
            line.append(f'<span class="{css}">{html}</span>' if css and coloured <= COLOURED_TOKENS else html)
            length += len(plain)
    lines.append((Markup("".join(line)), length))  # noqa: S704 - as above
    return lines


def _safe(text: str) -> str:
    """Return text escaped, with what cannot be seen made visible."""
    escaped = str(escape(text))
    return _UNSEEN.sub(lambda found: f'<span class="unseen">U+{ord(found.group()):04X}</span>', escaped)


def _block(lines: list[tuple[Markup, int]], *, label: str, stored: int) -> Markup:
    """Return the lines as one block, or as its beginning and a fold with the rest."""
    more = len(lines) > SHOWN_LINES
    lines = lines[:SHOWN_LINES]
    fits = characters = 0
    for _, length in lines:
        # A single long line is shown whole: it has no place to fold at.
        if fits and (fits >= OPEN_LINES or characters + length > OPEN_CHARACTERS):
            break
        fits += 1
        characters += length
    block = _pre(lines[:fits], label=label)
    if fits < len(lines):
        rest = len(lines) - fits
        block += Markup('<details class="fold"><summary>{}</summary>{}</details>').format(
            f"Show {plural(rest, 'more line')} ({size(stored)} in all)",
            _pre(lines[fits:], label=f"{label}, the rest"),
        )
    if more:
        block += Markup('<p class="body-note">{}</p>').format(
            f"More than {SHOWN_LINES:,} lines: the others are not shown. Download it to see all."
        )
    return block


def _pre(lines: list[tuple[Markup, int]], *, label: str) -> Markup:
    text = Markup("\n").join(line for line, _ in lines)
    return Markup(
        '<pre class="body" tabindex="0" role="region" aria-label="{}"><code>{}</code></pre>'
    ).format(label, text)
