"""Hides secrets in texts that repeat what somebody gave: a key that was pasted where an id belongs is not shown again.

Answers are copied into tickets and logs of clients. What is hidden is what has the form of a secret of Bellwire's; the
rest of a text, and an id, stays as it is.
"""

from __future__ import annotations

import re

HIDDEN = "***"

# The shortest that is hidden: long enough that `bw_` or `whsec_` in a sentence of ours is left alone.
_SECRET = re.compile(
    # API keys, those of other forms too (BELLWIRE_BOOTSTRAP_KEY), and signing secrets, percent-encoded or not.
    r"(bw_|whsec_|whsk_)[A-Za-z0-9_%+/=.~-]{12,}"
    # The token of a login link.
    r"|(/login/link/)[^/?#\s]{12,}"
)
_MARKS = ("bw_", "whs", "/login/link/")


def without_secrets(text: str) -> str:
    """Return a text in which no secret can be read; its kind stays visible."""
    if not any(mark in text for mark in _MARKS):
        return text
    return _SECRET.sub(lambda found: (found[1] or found[2]) + HIDDEN, text)
