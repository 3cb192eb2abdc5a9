"""Where Bellwire is: the environment says it, and where it says nothing, what `bellwire dev` keeps beside us.

`bellwire dev` keeps ports and secrets as small files in its data folder. A command that is typed in the same
folder finds them, so that `bellwire deliveries list` works next to `make run` without a setting.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.outcome import Refused, Unusable

if TYPE_CHECKING:
    from app.core.settings import Settings

URL_VARIABLE = "BELLWIRE_URL"
KEY_VARIABLE = "BELLWIRE_API_KEY"
DATA_DIR_VARIABLE = "BELLWIRE_DATA_DIR"
DEFAULT_DATA_DIR = ".bellwire"
DEFAULT_PORT = 8400

# What `bellwire dev` allows, and says so at its start: its demo receiver listens on this machine.
DEVELOPMENT_EGRESS = "127.0.0.0/8,::1/128"


_ADDRESS = re.compile(r"https?://[^/\s]+(/\S*)?$", re.IGNORECASE)
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Api:
    """Where the API is, and the key to it."""

    url: str
    key: str


def data_folder() -> Path:
    """Return the folder in which `bellwire dev` keeps its data; it may not exist."""
    return Path(os.environ.get(DATA_DIR_VARIABLE) or DEFAULT_DATA_DIR)


def read_settings(*, need_database: bool = True, need_keys: bool = True) -> Settings:
    """Return the settings of the environment, with what is found in the data folder in their gaps.

    Raises:
        StartupError: as `app.core.settings.load_settings`.

    """
    from app.core.settings import load_settings

    return load_settings(need_database=need_database, need_keys=need_keys, found=kept_settings(data_folder()))


def environment() -> dict[str, str]:
    """Return the environment of a process that takes this one's place, with what was found filled in."""
    found = {f"BELLWIRE_{name.upper()}": value for name, value in kept_settings(data_folder()).items()}
    given = {name: value for name, value in os.environ.items() if value or name not in found}
    return {**found, **given}


def kept_settings(folder: Path) -> dict[str, str]:
    """Return what a data folder says, by the names of the settings' fields; empty if nothing runs from it.

    A database that the environment names is not the folder's, so then nothing of the folder is taken: keys and
    addresses of two installations are never mixed.
    """
    if os.environ.get("BELLWIRE_DATABASE_URL"):
        return {}
    postgres = _service(folder / "postgres")
    if postgres is None:
        return {}
    port, password = postgres
    found = {
        "database_url": f"postgresql://bellwire:{password}@127.0.0.1:{port}/bellwire",
        "environment": "development",
        "egress_allow": DEVELOPMENT_EGRESS,
    }
    broker = _service(folder / "broker")
    if broker is not None:
        found["broker_url"] = f"redis://:{broker[1]}@127.0.0.1:{broker[0]}/0"
    keys = _text(folder / "encryption.key")
    if keys:
        found["encryption_keys"] = keys
    return found


def demo_secret() -> str:
    """Return the secret of the demo receiver's endpoint, or an empty text if nobody has said it."""
    return os.environ.get("BELLWIRE_DEMO_SECRET") or _text(data_folder() / "demo.secret") or ""


def api_address() -> str:
    """Return where the API is expected: named, or kept by `bellwire dev`, or the usual place."""
    port = os.environ.get("BELLWIRE_PORT") or DEFAULT_PORT
    kept = _text(data_folder() / "api.url")
    return (os.environ.get(URL_VARIABLE) or kept or f"http://127.0.0.1:{port}").rstrip("/")


def find_api(*, url: str | None = None) -> Api:
    """Return the address of the API and the key to it.

    Raises:
        Unusable: the address is not an http address.
        Refused: there is no key. The data folder's key is for the server that runs from it: it is never sent to
            an address that was named by a person.

    """
    address = url.rstrip("/") if url else api_address()
    if not _ADDRESS.match(address):
        raise Unusable(
            f"{address!r} is not the address of an API. It must look like http://127.0.0.1:{DEFAULT_PORT}; set "
            f"{URL_VARIABLE}."
        )
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and not url and not os.environ.get(URL_VARIABLE):
        key = _text(data_folder() / "api.key") or ""
    if key and not _KEY.fullmatch(key):
        raise Refused(
            f"{KEY_VARIABLE} is not an API key: it holds spaces, line breaks or letters that no key has. Copy the "
            "key again, whole and alone."
        )
    if not key:
        raise Refused(
            f"There is no API key for {address}. Set {KEY_VARIABLE}; `bellwire keys create` makes a key, and in "
            "the folder where `bellwire dev` runs its own key is found by itself."
        )
    return Api(url=address, key=key)


def _service(folder: Path) -> tuple[str, str] | None:
    port, password = _text(folder / "port"), _text(folder / "password")
    return (port, password) if port and password else None


def _text(path: Path) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").strip() or None
    return None
