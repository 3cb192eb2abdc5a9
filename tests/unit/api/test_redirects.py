"""Where a page may lead after signing in."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.redirects import DEFAULT, safe_next

HERE = "https://hooks.example.com/login"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "account",
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        "/\n/evil.example",
        " //evil.example",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/é",
        "/\x00",
        "/a\r\nSet-Cookie: x=y",
        "/login",
        "/login/link/x",
        "/logout",
        "/" + "a" * 2_000,
    ],
)
def test_everything_else_leads_home(text: str | None) -> None:
    """Other servers, other schemes, what a browser would read as such, and the door itself."""
    assert safe_next(text) == DEFAULT


@pytest.mark.parametrize(
    "text", ["/", "/account", "/a?next=//evil.example", "/a/b?c=d&e=%2F%2Ff", "/a:b", "/@evil"]
)
def test_own_paths_are_kept(text: str) -> None:
    """With their query, whatever stands in it."""
    assert safe_next(text) == text


@given(st.text(alphabet="/\\:@?#.%\t\r\n aelvixmps\x00é"))
def test_no_text_leads_away(text: str) -> None:
    """Resolved against our own address, the result has our own scheme and host."""
    target = urlsplit(urljoin(HERE, safe_next(text)))
    assert (target.scheme, target.netloc) == ("https", "hooks.example.com")
