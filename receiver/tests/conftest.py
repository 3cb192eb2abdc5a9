"""What several tests of the receiver package share: the published vector, and a message that is genuine now."""

from __future__ import annotations

from typing import NamedTuple

import pytest


class Vector(NamedTuple):
    """A signed request whose signature was computed by others."""

    secret: str
    message_id: str
    timestamp: int
    body: bytes
    signature: str

    @property
    def headers(self) -> dict[str, str]:
        return {
            "webhook-id": self.message_id,
            "webhook-timestamp": str(self.timestamp),
            "webhook-signature": self.signature,
        }


@pytest.fixture(scope="session")
def vector() -> Vector:
    """The vector that the libraries of Standard Webhooks publish."""
    return Vector(
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
        signature="v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    )
