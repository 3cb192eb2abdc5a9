"""What Schemathesis cannot know: each operation has its own Idempotency-Key.

It draws the example of the document again and again, and would be answered with what was made, and deleted, before.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Any

import schemathesis

_HEADER = "Idempotency-Key"
_numbers = count(1)


@schemathesis.hook
def map_headers(_context: Any, headers: dict[str, str] | None) -> dict[str, str] | None:
    """Make a key that could be one a fresh one; those that are wrong stay as they are."""
    if headers and re.fullmatch(r"[!-~]{1,255}", str(headers.get(_HEADER, ""))):
        headers[_HEADER] = f"{headers[_HEADER][:200]}-{next(_numbers)}"
    return headers
