"""Where a page may lead after signing in: to a path of this server, and nowhere else."""

from __future__ import annotations

from urllib.parse import urlsplit

DEFAULT = "/dashboard/"
MAX_CHARS = 2_000


def safe_next(text: str | None) -> str:
    """Return the path to go on to, or the default where the text is, or might be read as, another server's address.

    Browsers take two slashes for the beginning of an address, also where one of them is a backslash, or where a tab
    or a line break stands between them.
    """
    if not text or len(text) > MAX_CHARS or not text.startswith("/"):
        return DEFAULT
    if any(not "!" <= char <= "~" or char == "\\" for char in text):
        return DEFAULT
    parts = urlsplit(text)
    if text.startswith("//") or parts.scheme or parts.netloc or not parts.path.startswith("/"):
        return DEFAULT
    # The pages of signing in would lead in a circle, or sign out at once.
    if parts.path.startswith(("/login", "/logout")):
        return DEFAULT
    return text
