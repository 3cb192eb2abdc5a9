"""Talks to the OpenID provider: its description, its keys, and the exchange of a code for an id_token."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import httpx2
import orjson

from app.access.oidc_rules import ALGORITHMS, Flow, Identity, OidcRefused, read_id_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.core.settings import Settings

DESCRIPTION_PATH = "/.well-known/openid-configuration"
SCOPE = "openid email profile"
TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 262_144
# Keys change seldom. One that is not known yet is asked for, but not more often than this, whoever sends what.
DESCRIPTION_SECONDS = 3_600.0
KEYS_SECONDS = 3_600.0
ASK_AGAIN_SECONDS = 30.0

_REQUIRED = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class ProviderAway(Exception):
    """The provider does not answer, or not as OpenID says. `reason` is for the operator's log."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "The identity provider cannot be reached or does not answer as it should. Try again in a minute, or sign "
            "in with a password."
        )
        self.reason = reason


class OidcProvider:
    """One provider, as BELLWIRE_OIDC_ISSUER names it. It remembers the description and the keys for an hour."""

    def __init__(
        self,
        settings: Settings,
        *,
        client: httpx2.AsyncClient | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = settings.oidc_issuer
        self._client_id = settings.oidc_client_id
        self._secret = settings.oidc_client_secret.get_secret_value()
        self._client = client or httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        self._monotonic = monotonic
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def authorization_url(self, flow: Flow, *, redirect_uri: str) -> str:
        """Return where to send the browser.

        Raises:
            ProviderAway: the provider does not describe itself.

        """
        description = await self._describe()
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": SCOPE,
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": flow.challenge,
            "code_challenge_method": "S256",
        }
        if flow.again:
            # With `max_age` a provider has to say when the person signed in there.
            asked |= {"prompt": "login", "max_age": "0"}
        address = description["authorization_endpoint"]
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"

    async def identify(self, flow: Flow, *, code: str, redirect_uri: str, now: float) -> Identity:
        """Exchange the code, verify the id_token, and return whom it names.

        Raises:
            OidcRefused: the provider refuses the code, or its id_token is not true.
            ProviderAway: it does not answer as it should.

        """
        description = await self._describe()
        answer = await self._exchange(description, flow, code=code, redirect_uri=redirect_uri)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderAway("the token endpoint answers without an id_token")
        offered = description.get("id_token_signing_alg_values_supported") or ["RS256"]
        keys = await self._get(
            description["jwks_uri"], seconds=self._seconds_for_keys(token, address=description["jwks_uri"])
        )
        access_token = answer.get("access_token")
        return read_id_token(
            token,
            keys=keys,
            algorithms=[name for name in ALGORITHMS if name in offered],
            issuer=self._issuer,
            client_id=self._client_id,
            nonce=flow.nonce,
            access_token=access_token if isinstance(access_token, str) else None,
            now=now,
        )

    async def require_issuer(self, given: str | None) -> None:
        """Check the `iss` of an answer (RFC 9207): another provider's answer must not be taken for ours.

        Raises:
            OidcRefused: it names another, or none although this provider always does.

        """
        always = (await self._describe()).get("authorization_response_iss_parameter_supported") is True
        if (given is None and always) or (given is not None and given != self._issuer):
            raise OidcRefused(
                "This answer came from another identity provider. Begin again from this page.",
                reason="wrong_iss_parameter",
            )

    async def _describe(self) -> dict[str, Any]:
        address = self._issuer.rstrip("/") + DESCRIPTION_PATH
        description = await self._get(address, seconds=DESCRIPTION_SECONDS)
        fault = _fault_of(description, issuer=self._issuer)
        if fault is not None:
            # Asked for anew next time: somebody may be correcting it.
            self._kept.pop(address, None)
            raise ProviderAway(fault)
        return description

    async def _exchange(
        self, description: dict[str, Any], flow: Flow, *, code: str, redirect_uri: str
    ) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": flow.verifier,
        }
        methods = description.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        auth = None
        if not self._secret:
            form["client_id"] = self._client_id
        elif "client_secret_basic" in methods:
            # RFC 6749 §2.3.1: both are form-encoded first.
            auth = httpx2.BasicAuth(_encoded(self._client_id), _encoded(self._secret))
        else:
            form |= {"client_id": self._client_id, "client_secret": self._secret}
        status, answer = await self._ask("POST", description["token_endpoint"], data=form, auth=auth)
        if 400 <= status < 500:  # noqa: PLR2004 - refused, not broken
            raise OidcRefused(
                "The identity provider did not confirm this sign-in. Begin again from this page.",
                reason=f"token endpoint: {status} {str(answer.get('error', ''))[:64]}",
            )
        if status != 200:  # noqa: PLR2004
            raise ProviderAway(f"the token endpoint answers {status}")
        return answer

    def _seconds_for_keys(self, token: str, *, address: str) -> float:
        """Return how old the kept keys may be: not old at all if none of them is named by the token."""
        kept = self._kept.get(address)
        if kept is None:
            return KEYS_SECONDS
        try:
            header = orjson.loads(_base64(token.split(".", maxsplit=1)[0]))
            known = {key.get("kid") for key in kept[1]["keys"]}
            return KEYS_SECONDS if header.get("kid") in known else ASK_AGAIN_SECONDS
        except (ValueError, KeyError, TypeError, AttributeError):
            return KEYS_SECONDS

    async def _get(self, address: str, *, seconds: float) -> dict[str, Any]:
        """Return a document, asked for at most so many seconds ago."""
        now = self._monotonic()
        kept = self._kept.get(address)
        if kept is not None and now - kept[0] < seconds:
            return kept[1]
        status, answer = await self._ask("GET", address)
        if status != 200:  # noqa: PLR2004
            raise ProviderAway(f"{urlsplit(address).path} is answered with {status}")
        self._kept[address] = (now, answer)
        return answer

    async def _ask(
        self,
        method: str,
        address: str,
        *,
        data: dict[str, str] | None = None,
        auth: httpx2.BasicAuth | None = None,
    ) -> tuple[int, dict[str, Any]]:
        body = bytearray()
        try:
            async with self._client.stream(
                method,
                address,
                data=data,
                auth=auth or httpx2.USE_CLIENT_DEFAULT,
                headers={"accept": "application/json"},
                follow_redirects=False,
            ) as response:
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        raise ProviderAway("it answers with too much")
            answer = orjson.loads(bytes(body))
        except (httpx2.HTTPError, httpx2.InvalidURL, orjson.JSONDecodeError) as error:
            raise ProviderAway(f"{urlsplit(address).path}: {type(error).__name__}") from None
        if not isinstance(answer, dict):
            raise ProviderAway(f"{urlsplit(address).path} is answered with no object")
        return response.status_code, answer


def _fault_of(description: dict[str, Any], *, issuer: str) -> str | None:
    if description.get("issuer") != issuer:
        return "its description names another issuer"
    unfit = [name for name in _REQUIRED if not is_fit_address(description.get(name))]
    return f"its description has no https address as {unfit[0]}" if unfit else None


def _encoded(text: str) -> str:
    return quote(text, safe="")


def _base64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def is_fit_address(value: object) -> bool:
    """Tell whether codes and secrets may be sent there: https, or this machine."""
    if not isinstance(value, str):
        return False
    parts = urlsplit(value)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
