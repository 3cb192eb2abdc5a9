"""What is shown once: a secret on its way from the form that made it to the page that shows it.

It travels in a cookie of the browser that asked, sealed with the server's key and bound to the session, and is taken
away by the page that shows it. So a form that makes a secret is answered with a redirect like all others, and loading
its page again makes no second one.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from app.api.theme import cookie_name, uses_https
from app.core.crypto import CannotDecrypt

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.api.browser import Visit
    from app.core.runtime import Runtime

COOKIE = "bellwire-once"
# Long enough for a redirect over a slow line.
SECONDS = 60
_COLUMN = "shown_once"
_BETWEEN = "\n"


def hand_over(visit: Visit, runtime: Runtime, *, about: str, secret: str) -> None:
    """Let the next page about this object show a secret."""
    person = visit.require_caller().person
    if person is None:
        return
    plain = f"{about}{_BETWEEN}{secret}".encode()
    sealed = runtime.keyring.seal(plain, row=person.session_id, column=_COLUMN)
    visit.set_cookie(COOKIE, base64.urlsafe_b64encode(sealed).decode(), seconds=SECONDS)


def take(request: Request, visit: Visit, runtime: Runtime, *, about: str) -> str | None:
    """Return the secret that was handed over for this object, and take it away; None if there is none."""
    given = request.cookies.get(cookie_name(COOKIE, secure=uses_https(request)))
    person = visit.require_caller().person
    if given is None or person is None:
        return None
    visit.set_cookie(COOKIE, "", seconds=0)
    try:
        sealed = base64.urlsafe_b64decode(given)
        plain = runtime.keyring.open(sealed, row=person.session_id, column=_COLUMN).decode()
    except (binascii.Error, ValueError, CannotDecrypt):
        return None
    whose, _, secret = plain.partition(_BETWEEN)
    return secret if whose == about else None
