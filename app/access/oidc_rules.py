"""Rules of signing in through an OpenID provider: what an id_token must say, and whom it lets in. No network."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from app.access.people_rules import normalise_email

if TYPE_CHECKING:
    from collections.abc import Collection

# Signatures with a public key only: `none` proves nothing, and HS256 is made with what the client knows as well.
ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
)
LEEWAY_SECONDS = 60
# An id_token is read at once. One that was made long ago is not the answer to our question.
MAX_AGE_SECONDS = 600
FLOW_SECONDS = 600
MAX_SUBJECT_CHARS = 255


class OidcRefused(Exception):
    """The provider's answer lets nobody in. The message is for the person, `reason` for the operator's log."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Flow:
    """One attempt, kept in the browser that began it, sealed: only there can it be finished."""

    state: str
    nonce: str
    verifier: str
    next_path: str
    ends_at: float
    # Of somebody who is signed in and proves it anew: being signed in at the provider is not enough.
    again: bool = False

    @classmethod
    def begin(cls, *, next_path: str, now: float, again: bool = False) -> Flow:
        """Return a new one."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, next_path, now + FLOW_SECONDS, again)

    @classmethod
    def read(cls, plain: bytes) -> Flow:
        """Return what `plain` was made from."""
        return cls(**orjson.loads(plain))

    def plain(self) -> bytes:
        """Return it as bytes, to be sealed."""
        return orjson.dumps(asdict(self))

    @property
    def challenge(self) -> str:
        """What the provider is told of the verifier (PKCE, S256)."""
        return str(create_s256_code_challenge(self.verifier))

    def require_answer(self, *, state: str, now: float) -> None:
        """Check that an answer of the provider belongs to this attempt.

        Raises:
            OidcRefused: it does not, or it came too late.

        """
        if not hmac.compare_digest(state.encode(), self.state.encode()):
            raise OidcRefused(
                "This answer belongs to another attempt to sign in. Begin again from this page.",
                reason="wrong_state",
            )
        if now > self.ends_at:
            raise OidcRefused("Signing in took more than ten minutes. Begin again.", reason="too_late")

    def require_fresh(self, identity: Identity) -> None:
        """Check that a person who was to prove anew who they are has done so, where the provider says when they did.

        Raises:
            OidcRefused: it was before this attempt began.

        """
        began = self.ends_at - FLOW_SECONDS - LEEWAY_SECONDS
        if self.again and identity.authenticated_at is not None and identity.authenticated_at < began:
            raise OidcRefused(
                "The identity provider let you pass without asking who you are. Sign out there and begin again, or use "
                "your password.",
                reason="auth_time is too old",
            )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says it is. `email` is set only where the provider has verified it.

    `authenticated_at` is when the person last proved it to the provider, in Unix seconds, if it says so.
    """

    issuer: str
    subject: str
    email: str | None
    name: str | None
    authenticated_at: float | None = None


def read_id_token(
    token: str,
    *,
    keys: dict[str, Any],
    algorithms: Collection[str],
    issuer: str,
    client_id: str,
    nonce: str,
    access_token: str | None,
    now: float,
) -> Identity:
    """Verify an id_token and return whom it names.

    Raises:
        OidcRefused: its signature, issuer, audience, time or nonce is not what it must be.

    """
    try:
        decoded = jwt.decode(token, KeySet.import_key_set(keys), algorithms=list(algorithms))  # type: ignore[arg-type]
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            {
                "iss": {"essential": True, "value": issuer},
                "aud": {"essential": True, "value": client_id},
                "sub": {"essential": True},
                "exp": {"essential": True},
                "iat": {"essential": True},
                "nonce": {"essential": True, "value": nonce},
            },
            {"client_id": client_id, "nonce": nonce, "access_token": access_token},
        )
        claims.validate(now=int(now), leeway=LEEWAY_SECONDS)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _untrue(f"{type(error).__name__}: {error}") from None
    if claims["iat"] < now - MAX_AGE_SECONDS:
        raise _untrue("iat is too old")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT_CHARS or "\x00" in subject:
        raise _untrue("sub is no subject")
    email = claims.get("email")
    # Only `true`: some providers say "true" of addresses that they have not looked at.
    verified = claims.get("email_verified") is True and isinstance(email, str)
    name = claims.get("name")
    auth_time = claims.get("auth_time")
    if auth_time is not None and (isinstance(auth_time, bool) or not isinstance(auth_time, int | float)):
        raise _untrue("auth_time is no time")
    return Identity(
        issuer=issuer,
        subject=subject,
        email=normalise_email(email) if verified else None,
        name=name.replace("\x00", "")[:256] or None if isinstance(name, str) else None,
        authenticated_at=auth_time,
    )


def may_be_provisioned(email: str, *, domains: Collection[str]) -> bool:
    """Tell whether an unknown person with this verified address is let in: only from a domain that was named."""
    return email.rpartition("@")[2] in domains


def _untrue(reason: str) -> OidcRefused:
    return OidcRefused(
        "The identity provider's answer could not be verified, so nobody was signed in. Begin again; if it happens "
        "again, tell the operator.",
        reason=reason,
    )
