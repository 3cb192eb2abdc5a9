"""The sentence for a person about a database that cannot be used: where it is, what it said, what to do.

It never shows a password: neither libpq's messages nor the parts of the address that are used here hold one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import URL

DEFAULT_PORT = 5432

# What libpq or the server says (in lower case), and what a person can do about it; the first that fits is used.
_CURES = (
    ("password authentication failed", "Correct the user or the password in BELLWIRE_DATABASE_URL."),
    (
        "no password supplied",
        "Put the password into BELLWIRE_DATABASE_URL: postgresql://user:password@host:5432/name.",
    ),
    ("no pg_hba.conf entry", "Let this host in (pg_hba.conf), or ask for TLS with ?sslmode=require."),
    ("database ", "Create it (createdb), run `bellwire migrate`, or correct BELLWIRE_DATABASE_URL."),
    ("role ", "Create the user (createuser), or correct BELLWIRE_DATABASE_URL."),
    (
        "permission denied",
        "Grant the user of BELLWIRE_DATABASE_URL the rights on this database, or make it its owner.",
    ),
    ("resolve host", "Correct the host in BELLWIRE_DATABASE_URL."),
    ("host name", "Correct the host in BELLWIRE_DATABASE_URL."),
    ("too many clients", "Raise Postgres' max_connections, or lower BELLWIRE_API_POOL_SIZE."),
    ("connection slots", "Raise Postgres' max_connections, or lower BELLWIRE_API_POOL_SIZE."),
    ("starting up", "Postgres is just starting: try again in a few seconds."),
    ("shutting down", "Postgres is just stopping: start it again."),
    ("connection refused", "Start Postgres, or correct host and port in BELLWIRE_DATABASE_URL."),
    (
        "timeout",
        "Check that host and port in BELLWIRE_DATABASE_URL can be reached from here (firewall, routes).",
    ),
)
_MUST_NOT_EXIST = {"database ", "role "}
_OTHER_CURE = "Check that Postgres runs and that BELLWIRE_DATABASE_URL names it."
# What psycopg and libpq put before the reason and behind it: where it was tried, which we say ourselves.
_BEFORE = re.compile(
    r"^(?:connection (?:failed|is bad): )?(?:connection to server .*? failed: )?(?:FATAL: +)?"
)
_BEHIND = re.compile(
    r"(?:Multiple connection attempts failed|Is the server running|connection to server|DETAIL:).*"
)


def sentence(error: BaseException, *, url: URL) -> str:
    """Return what is the matter with the database at `url`, and the next step."""
    original = getattr(error, "orig", None) or error
    said = " ".join(str(original).split())
    folded = said.casefold()
    cure = _OTHER_CURE
    for sign, step in _CURES:
        if sign in folded and (sign not in _MUST_NOT_EXIST or "does not exist" in folded):
            cure = step
            break
    return f"The database at {place(url)} cannot be used: {_reason(said) or type(original).__name__}. {cure}"


def place(url: URL) -> str:
    """Return host, port and name of a database, for people."""
    return f"{url.host or 'localhost'}:{url.port or DEFAULT_PORT}/{url.database or ''}"


def _reason(said: str) -> str:
    return _BEHIND.sub("", _BEFORE.sub("", said)).strip().rstrip(".:")
