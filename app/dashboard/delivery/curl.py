"""An attempt as a command to send it again by hand: whatever is in it, a shell reads it as data. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from app.endpoints.headers import MASK

if TYPE_CHECKING:
    from app.dashboard.delivery.exchange import Sent

# Linux takes no longer argument than 128 KiB; a longer body is read from a file.
MOST_INLINE_BYTES = 65_536
BODY_FILE = "body.json"
# curl writes these by itself.
_OF_CURL = frozenset({"host", "content-length"})


def curl_command(sent: Sent) -> str:
    """Return a curl command with the request's headers and body; masked values stand as `<name>` to be filled in."""
    # `--globoff`: brackets in an address are no pattern. `accept:` takes out what curl adds by itself.
    lines = [f"curl --globoff --request POST {shlex.quote(sent.url)}", "--header 'accept:'"]
    for name, value in sent.headers:
        if name.lower() in _OF_CURL:
            continue
        shown = f"<{name}>" if value == MASK else value
        lines.append(f"--header {shlex.quote(f'{name}: {shown}')}")
    if sent.body is not None:
        lines.append(_data(sent.body))
    return " \\\n  ".join(lines)


def _data(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or len(body) > MOST_INLINE_BYTES or "\0" in text:
        return f"--data-binary @{BODY_FILE}"
    # Unlike --data, this takes an @ at the beginning for what it is.
    return f"--data-raw {shlex.quote(text)}"
