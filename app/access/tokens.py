"""Tokens of sessions and login links: random, shown once, stored as a digest."""

from __future__ import annotations

import hashlib
import re
import secrets

_BYTES = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """Return a fresh token of 256 random bits."""
    return secrets.token_urlsafe(_BYTES)


def has_form_of_token(text: str) -> bool:
    """Tell whether a text can be a token at all."""
    return _FORM.fullmatch(text) is not None


def digest_of(token: str) -> bytes:
    """Return what is stored. Tokens are random, so a fast hash is the right one."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
