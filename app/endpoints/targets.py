"""The URL of an endpoint: checked when it is saved, and masked for those who may not see secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core.egress import EgressDenied
from app.core.errors import Invalid
from app.core.outbound import policy_of
from app.models import Role

if TYPE_CHECKING:
    from app.core.context import Caller
    from app.core.settings import Settings

_HIDDEN_QUERY = "?***"


def check_url(url: str, *, settings: Settings, pointer: str = "/url") -> str:
    """Return the URL in the form that is stored and sent.

    This is for the person who saves it; what holds is the check of the resolved address at connect.

    Raises:
        Invalid: the egress policy forbids it; the detail says why.

    """
    try:
        return policy_of(settings).check_url(url)
    except EgressDenied as denied:
        raise Invalid.at(pointer, denied.reason) from None


def shown_url(url: str, caller: Caller) -> str:
    """Return a URL as the caller may see it: a viewer sees no query string, for it often holds a credential."""
    if caller.role is not Role.VIEWER:
        return url
    head, mark, _ = url.partition("?")
    return head + _HIDDEN_QUERY if mark else head
