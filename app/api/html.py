"""HTML that escapes whatever is not HTML already."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_VOID = frozenset({"meta", "link", "br", "hr"})
_CODE = re.compile(r"`([^`]+)`")


class Html(str):
    """A text that is HTML; any other text is escaped where it is put into a page."""

    __slots__ = ()


def tag(element: str, /, *content: object, **attributes: str | None) -> Html:
    """Return an element. An attribute `class_` is written `class`; None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in _VOID:
        return Html(f"<{element}{written}>")
    return Html(f"<{element}{written}>{join(content)}</{element}>")


def join(content: Iterable[object]) -> Html:
    """Return HTML from texts (escaped), HTML, and lists of them; None is nothing."""
    parts = []
    for item in content:
        if item is None:
            continue
        if isinstance(item, Html):
            parts.append(str(item))
        elif isinstance(item, str):
            parts.append(html.escape(item))
        elif isinstance(item, list | tuple):
            parts.append(str(join(item)))
        else:
            parts.append(html.escape(str(item)))
    return Html("".join(parts))


def prose(text: str) -> Html:
    """Return paragraphs, with `code` between backticks."""
    return join(
        tag("p", Html(_CODE.sub(r"<code>\1</code>", html.escape(paragraph, quote=False))))
        for paragraph in text.strip().split("\n\n")
        if paragraph
    )


def page(*, title: str, main: Html, aside: Html | None = None) -> bytes:
    """Return a whole document in the style of the reference."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("link", rel="stylesheet", href="/docs/reference.css"),
    )
    body = tag("body", tag("nav", aside, aria_label="Contents") if aside else None, tag("main", main))
    return ("<!doctype html>\n" + tag("html", head, body, lang="en")).encode()
