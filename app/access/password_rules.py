"""Which passwords are taken: length decides, and nothing that the person's address or Bellwire's name gives away.

After NIST SP 800-63B: no rules about kinds of characters, no expiry; all of Unicode, and spaces, may be used.
"""

from __future__ import annotations

import unicodedata

MIN_CHARS = 12
# Argon2 takes any length; this bounds what a stranger can make the server hash.
MAX_CHARS = 256
# "aaaaaaaaaaaa" and "121212121212" are long and no secret.
MIN_DIFFERENT_CHARS = 5

_KNOWN = ("bellwire", "password", "passwort", "qwerty", "1234567890", "webhook")


def normalise_password(text: str) -> str:
    """Return the form that is hashed: the same for every keyboard that composes its letters differently."""
    return unicodedata.normalize("NFKC", text)


def fault_of_password(text: str, *, email: str) -> str | None:
    """Return why a password is not taken, with what to do, or None if it is."""
    password = normalise_password(text)
    if len(password) < MIN_CHARS:
        return (
            f"A password has at least {MIN_CHARS} characters. A few words that only you put together do well."
        )
    if len(text) > MAX_CHARS or len(password) > MAX_CHARS:
        return f"A password has at most {MAX_CHARS} characters. Make it shorter."
    if len(set(password)) < MIN_DIFFERENT_CHARS:
        return f"A password has at least {MIN_DIFFERENT_CHARS} different characters. Choose one that repeats itself less."
    rest = password.casefold()
    local_part = email.partition("@")[0].casefold()
    for word in (email.casefold(), local_part, *_KNOWN):
        rest = rest.replace(word, "")
    if len(rest) < MIN_CHARS // 2:
        return (
            "This password is little more than your address or a word that everybody tries first. "
            "Choose one that others cannot guess."
        )
    return None
