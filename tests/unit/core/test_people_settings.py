"""Settings about people that must not be used as they are."""

from __future__ import annotations

import pytest

from app.core.errors import StartupError
from app.core.settings import load_settings

URL = "postgresql://bellwire@127.0.0.1/bellwire"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database and no key, as for migrations."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", URL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BELLWIRE_OIDC_ISSUER", "http://accounts.example.com"),
        ("BELLWIRE_OIDC_ISSUER", "accounts.example.com"),
        ("BELLWIRE_OIDC_ISSUER", "https://"),
        ("BELLWIRE_OIDC_DOMAINS", "*.example.com"),
        ("BELLWIRE_OIDC_DOMAINS", "ada@example.com"),
        ("BELLWIRE_OIDC_DOMAINS", "ex\u00e4mple.com"),
        ("BELLWIRE_OIDC_ROLE", "owner"),
        ("BELLWIRE_SESSION_HOURS", "0"),
        ("BELLWIRE_TRUSTED_PROXIES", "everybody"),
        ("BELLWIRE_BASE_URL", "hooks.example.com"),
        ("BELLWIRE_BASE_URL", "hooks.example.com:443"),
        ("BELLWIRE_BASE_URL", "https:hooks.example.com"),
        ("BELLWIRE_BASE_URL", "https://"),
        ("BELLWIRE_BASE_URL", "https://user@hooks.example.com"),
        ("BELLWIRE_BASE_URL", "https://hooks.example.com/?a=1"),
        ("BELLWIRE_BASE_URL", "https://hooks.example.com:port"),
        ("BELLWIRE_BASE_URL", "https://[::1"),
        ("BELLWIRE_INSTANCE_KEY", "short"),
        ("BELLWIRE_INSTANCE_KEY", "x" * 31),
        ("BELLWIRE_INSTANCE_KEY", "with a space 0123456789 0123456789"),
    ],
)
def test_a_value_that_cannot_be_used_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """One sentence that names the variable: what would send codes in clear, let strangers in, or could be guessed."""
    monkeypatch.setenv(name, value)

    with pytest.raises(StartupError, match=name):
        load_settings(need_keys=False)


def test_https_is_https_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cookies and Strict-Transport-Security depend on it."""
    monkeypatch.setenv("BELLWIRE_BASE_URL", "HTTPS://hooks.example.com/")

    assert load_settings(need_keys=False).public_url == "https://hooks.example.com"


def test_an_issuer_needs_a_client_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a provider is none."""
    monkeypatch.setenv("BELLWIRE_OIDC_ISSUER", "https://accounts.example.com")

    with pytest.raises(StartupError, match="BELLWIRE_OIDC_CLIENT_ID"):
        load_settings(need_keys=False)


def test_domains_are_read_in_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without an @ before them, in any case."""
    monkeypatch.setenv("BELLWIRE_OIDC_DOMAINS", "Example.com, @example.org")

    assert load_settings(need_keys=False).oidc_domains == ("example.com", "example.org")
