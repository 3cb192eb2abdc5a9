"""HTML that escapes whatever is not HTML already."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from app.api.html import Html, join, page, prose, tag


class Reader(HTMLParser):
    """Collects tags and text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data):
        self.texts.append(data)


def read(content):
    reader = Reader()
    reader.feed(content)
    reader.close()
    return reader


@given(st.text(), st.text())
def test_texts_and_attributes_cannot_become_markup(text, attribute):
    """Whatever a schema's description holds, the page shows it and nothing more."""
    found = read(tag("p", text, title=attribute))
    assert found.tags == ["p"]
    assert "".join(found.texts) == text.replace("\r\n", "\n").replace("\r", "\n") or "\r" in text
    assert [name for name, _ in found.attributes] == ["title"]


def test_html_is_not_escaped_twice():
    """Elements nest."""
    assert tag("p", tag("b", "a & b"), ["c", None]) == Html("<p><b>a &amp; b</b>c</p>")


def test_prose_makes_paragraphs_and_code():
    """Blank lines part paragraphs, backticks mark code."""
    assert prose("Use `<x>`.\n\nOr not.") == Html("<p>Use <code>&lt;x&gt;</code>.</p><p>Or not.</p>")


def test_page_brings_nothing_from_elsewhere():
    """A page names one style sheet of this server and no script."""
    found = read(page(title="T", main=join(["x"])).decode())
    assert "script" not in found.tags
    assert dict(found.attributes)["href"] == "/docs/reference.css"
