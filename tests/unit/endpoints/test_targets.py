"""URLs of endpoints: checked at save, masked for viewers."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.core.context import Caller
from app.core.errors import Invalid
from app.core.settings import Settings
from app.endpoints.targets import check_url, shown_url
from app.models import Role


def caller(role: Role) -> Caller:
    """Somebody with this role."""
    return Caller(workspace_id=UUID(int=1), role=role, actor_kind="api_key", actor_id="key_1")


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("https://hooks.example.com/", ""),
        ("http://127.0.0.1:9000/a?b=c", "127.0.0.0/8"),
        ("http://localhost:9000/", "127.0.0.0/8"),
    ],
)
def test_allowed_urls_come_back(url: str, allow: str) -> None:
    """A public address, and one in a range that the operator opened."""
    assert check_url(url, settings=Settings(egress_allow=allow)) == url


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("http://127.0.0.1:9000/", ""),
        ("http://localhost/", ""),
        ("https://bellwire.example.com/x", "https://bellwire.example.com"),
    ],
)
def test_forbidden_urls_are_refused(url: str, base_url: str) -> None:
    """A private address, a local name, and this service itself."""
    with pytest.raises(Invalid) as caught:
        check_url(url, settings=Settings(base_url=base_url), pointer="/url")
    assert caught.value.errors[0].pointer == "/url"


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (Role.VIEWER, "https://a.example/x?***"),
        (Role.OPERATOR, "https://a.example/x?token=1"),
        (Role.ADMIN, "https://a.example/x?token=1"),
    ],
)
def test_query_strings_are_hidden_from_viewers(role: Role, expected: str) -> None:
    """A query string often holds a credential."""
    assert shown_url("https://a.example/x?token=1", caller(role)) == expected
    assert shown_url("https://a.example/x", caller(role)) == "https://a.example/x"
