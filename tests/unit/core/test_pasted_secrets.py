"""What is hidden in a text, and what is not."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.core import ids
from app.core.crypto import new_api_key
from app.core.pasted_secrets import without_secrets

KEY = new_api_key().text
TOKEN = "A-b_" * 10 + "xyz"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"There is no API key '{KEY}' here.", "There is no API key 'bw_***' here."),
        (f"/v1/x/{KEY}", "/v1/x/bw_***"),
        (f"/v1/x/%20{KEY}", "/v1/x/%20bw_***"),
        (f"{KEY} and {KEY}", "bw_*** and bw_***"),
        ("'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'", "'whsec_***'"),
        ("whsk_%2FfKQ9r8GKYqrTwj%2BPD8ILPZIo2LaLaSw%3D%3D", "whsk_***"),
        (f"/login/link/{TOKEN}", "/login/link/***"),
        (f"/login/link/{TOKEN}?x=1", "/login/link/***?x=1"),
    ],
    # The key is new in each process, and names of tests must be the same in all.
    ids=range(8),
)
def test_secrets_are_hidden_wherever_they_stand(text: str, expected: str) -> None:
    """The kind stays, so that a person sees what they have pasted."""
    assert without_secrets(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A key is `bw_<keyid>_<secret><checksum>`.",
        "A secret for hmac-sha256 begins with whsec_, followed by base64.",
        "/v1/api-keys/" + ids.to_text(ids.API_KEY, UUID(int=7 << 76 | 2 << 62)),
        "There is no application 'orders_bw_eu' here.",
        "/login/link/",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Sentences of ours, ids, and names that only look alike."""
    assert without_secrets(text) == text
