"""Where commands look: the environment, and what `bellwire dev` keeps beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.cli.outcome import Refused
from app.cli.surroundings import environment, find_api, read_settings
from app.core.errors import StartupError

if TYPE_CHECKING:
    from pathlib import Path

KEPT_KEY = "bw_dev_0123456789abcdef0123456789abcdef"
ENCRYPTION_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.fixture
def kept(own_folder: Path) -> Path:
    """What `bellwire dev` keeps in its folder."""
    folder = own_folder / ".bellwire"
    files = {
        "postgres/port": "20001",
        "postgres/password": "pgword",
        "broker/port": "20002",
        "broker/password": "brokerword",
        "encryption.key": ENCRYPTION_KEY,
        "api.key": KEPT_KEY,
        "api.url": "http://127.0.0.1:8410",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return folder


def test_everything_is_found_beside_a_running_development_server(kept: Path) -> None:
    """With nothing set, settings, address and key are those of the folder."""
    settings, api = read_settings(), find_api()

    assert (settings.environment, settings.encryption_keys[0].get_secret_value()) == (
        "development",
        ENCRYPTION_KEY,
    )
    assert settings.database_url.get_secret_value() == "postgresql://bellwire:pgword@127.0.0.1:20001/bellwire"
    assert settings.broker_url.get_secret_value() == "redis://:brokerword@127.0.0.1:20002/0"
    assert (api.url, api.key) == ("http://127.0.0.1:8410", KEPT_KEY)


def test_a_database_of_the_environment_takes_nothing_from_the_folder(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two installations are never mixed: production does not get development's key, or its open egress."""
    monkeypatch.setenv("BELLWIRE_DATABASE_URL", "postgresql://u:p@db.example/bellwire")

    with pytest.raises(StartupError, match="BELLWIRE_ENCRYPTION_KEYS"):
        read_settings()


def test_a_process_that_takes_our_place_is_told_what_was_found(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker beside `bellwire dev` works on the same services; what the environment says comes first."""
    monkeypatch.setenv("BELLWIRE_BROKER_URL", "redis://elsewhere")
    monkeypatch.setenv("BELLWIRE_ENVIRONMENT", "")

    told = environment()

    assert told["BELLWIRE_DATABASE_URL"] == "postgresql://bellwire:pgword@127.0.0.1:20001/bellwire"
    assert told["BELLWIRE_BROKER_URL"] == "redis://elsewhere"
    assert told["BELLWIRE_ENVIRONMENT"] == "development"
    assert told["PATH"]


def test_the_kept_key_is_not_sent_to_a_named_address(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that a person names gets the key that a person names, or none."""
    with pytest.raises(Refused, match="BELLWIRE_API_KEY"):
        find_api(url="https://elsewhere.example")
    monkeypatch.setenv("BELLWIRE_URL", "https://elsewhere.example")
    with pytest.raises(Refused, match="BELLWIRE_API_KEY"):
        find_api()


def test_another_folder_can_be_named(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BELLWIRE_DATA_DIR is where to look, from anywhere."""
    monkeypatch.chdir("/")
    monkeypatch.setenv("BELLWIRE_DATA_DIR", str(kept))

    assert find_api().key == KEPT_KEY


def test_an_empty_folder_offers_nothing(own_folder: Path) -> None:
    """Without settings and without a folder, the message names both ways out."""
    with pytest.raises(StartupError, match=r"BELLWIRE_DATABASE_URL is not set.*bellwire dev"):
        read_settings()
    with pytest.raises(Refused, match="bellwire keys create"):
        find_api()


def test_a_half_written_folder_is_taken_for_none(kept: Path) -> None:
    """A folder whose first start was killed early names no database."""
    (kept / "postgres" / "password").unlink()

    with pytest.raises(StartupError, match="BELLWIRE_DATABASE_URL is not set"):
        read_settings()
