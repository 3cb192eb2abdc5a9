"""Talking to the API: one request, its answer, and the sentence for each way it can fail."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

import httpx2

from app.cli.outcome import CommandError, Refused, Unavailable, Unusable
from app.cli.output import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from app.cli.surroundings import Api

# A publish may wait for a flush (10 s by default); a long query is stopped by the server after 15 s.
TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 5.0
PAGE_LIMIT = 250

_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
_AWAY = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}


class ApiClient:
    """A connection to the API with a key. Use it as a context manager."""

    def __init__(self, api: Api, *, transport: httpx2.BaseTransport | None = None) -> None:
        """`transport` replaces the network."""
        self._url = api.url
        try:
            self._client = httpx2.Client(
                base_url=api.url,
                headers={"authorization": f"Bearer {api.key}", "accept": "application/json"},
                timeout=httpx2.Timeout(TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
                transport=transport,
                # Proxy variables are for the outside world; a key must not take such a detour unasked.
                trust_env=False,
            )
        except (httpx2.InvalidURL, ValueError):
            raise Unusable(
                f"The API's address {api.url} cannot be used. It must look like http://127.0.0.1:8400; correct "
                "BELLWIRE_URL."
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **params: str | int | None) -> dict[str, Any]:
        """Return the answer to a GET; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._request("GET", path, params=given)

    def get_all(self, path: str, **params: str | int | None) -> Iterator[dict[str, Any]]:
        """Yield the objects of all pages of a list."""
        cursor: str | None = None
        while True:
            page = self.get(path, limit=PAGE_LIMIT, cursor=cursor, **params)
            yield from page["data"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def post(self, path: str, *, content: bytes | None = None) -> dict[str, Any]:
        """Return the answer to a POST with this JSON body."""
        headers = {"content-type": "application/json"} if content is not None else {}
        return self._request("POST", path, content=content, headers=headers)

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, params=params, content=content, headers=headers)
        except httpx2.TimeoutException:
            raise Unavailable(
                f"The API at {self._url} did not answer within {TIMEOUT_SECONDS:.0f} s. See whether it is "
                "overloaded or stuck with `bellwire doctor`, then try again."
            ) from None
        except httpx2.HTTPError as error:
            raise Unavailable(
                f"The API at {self._url} cannot be reached ({visible(str(error)) or type(error).__name__}). Start "
                "it with `bellwire dev` or `bellwire api`, or name another address with BELLWIRE_URL."
            ) from None
        if not response.is_success:
            self._raise_problem(response)
        return self._object(response)

    def _object(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unavailable(
                f"What answers at {self._url} is not Bellwire's API: it sent {response.status_code} without a JSON "
                "object. Check BELLWIRE_URL."
            )
        return answer

    def _raise_problem(self, response: httpx2.Response) -> NoReturn:
        """Raise the error for a refused request, in the server's own words where it has some."""
        status = response.status_code
        is_problem = response.headers.get("content-type", "").startswith("application/problem+json")
        if not is_problem:
            raise Unavailable(
                f"What answers at {self._url} is not Bellwire's API: it sent status {status} and no problem in JSON. "
                "Check BELLWIRE_URL, and any proxy in between."
            )
        message = _sentences(self._object(response), status)
        if status in _REFUSED:
            raise Refused(f"{message} {_NEXT_STEP[HTTPStatus(status)]}")
        if status in _AWAY:
            raise Unavailable(message)
        raise CommandError(message)


_NEXT_STEP = {
    HTTPStatus.UNAUTHORIZED: "Check BELLWIRE_API_KEY; `bellwire keys list` shows the keys that are valid.",
    HTTPStatus.FORBIDDEN: "Use a key with another role; `bellwire keys create --role` makes one.",
    HTTPStatus.NOT_FOUND: "Check the id, and that the key belongs to the same workspace.",
}


def _sentences(problem: Mapping[str, Any], status: int) -> str:
    """Return a problem as text: its detail, the faults in the input, and the request's id for questions."""
    parts = [str(problem.get("detail") or problem.get("title") or f"The API answered with status {status}.")]
    for fault in problem.get("errors") or []:
        if isinstance(fault, dict) and fault.get("detail") != parts[0]:
            parts.append(f"{fault.get('pointer') or '/'}: {fault.get('detail')}")
        elif isinstance(fault, dict):
            parts.append(f"(at {fault.get('pointer') or '/'})")
    if problem.get("request_id") and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        parts.append(f"The request's id in the server's log is {problem['request_id']}.")
    return visible(" ".join(parts))
