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
    ],
)
def test_a_value_that_cannot_be_used_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """One sentence that names the variable: codes without TLS, patterns as domains, owners made by a provider."""
    monkeypatch.setenv(name, value)

    with pytest.raises(StartupError, match=name):
        load_settings(need_keys=False)


def test_an_issuer_needs_a_client_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a provider is none."""
    monkeypatch.setenv("BELLWIRE_OIDC_ISSUER", "https://accounts.example.com")

    with pytest.raises(StartupError, match="BELLWIRE_OIDC_CLIENT_ID"):
        load_settings(need_keys=False)


def test_domains_are_read_in_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without an @ before them, in any case."""
    monkeypatch.setenv("BELLWIRE_OIDC_DOMAINS", "Example.com, @example.org")

    assert load_settings(need_keys=False).oidc_domains == ("example.com", "example.org")
