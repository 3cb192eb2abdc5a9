"""Errors in plain words: for each class and status the title, the cause and the next step that a person reads."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.core.error_classes import ErrorClass, explain
from app.dashboard.delivery.advice import advise
from app.models import Attempt, Endpoint

URL = "https://user@shop.example.com:8443/hooks?token=hush"


def attempt(error_class: ErrorClass | None, status: int | None = None, **fields: Any) -> Attempt:
    """An attempt that failed like this."""
    headers = fields.pop("headers", None)
    return Attempt(
        outcome=fields.pop("outcome", "failed"),
        error_class=error_class,
        response_status=status,
        request_url=fields.pop("request_url", URL),
        response_headers=orjson.dumps(headers) if headers is not None else None,
        **fields,
    )


def test_what_succeeded_needs_no_advice() -> None:
    """Also with a note about a body that broke off."""
    assert advise(attempt(None, 204, outcome="succeeded"), Endpoint(timeout_seconds=15)) is None


def test_an_attempt_without_a_class_is_one_whose_worker_was_lost() -> None:
    """Its outcome is unknown, which is no fault of the receiver."""
    found = advise(attempt(None, outcome="unknown"), Endpoint(timeout_seconds=15))

    assert found is not None
    assert (found.title, found.error_class) == ("Worker lost", "worker_lost")
    assert "same webhook-id twice" in found.next_step


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_every_class_says_what_happened_and_what_to_do(error_class: ErrorClass) -> None:
    """In sentences, with the record's own words where it has some; credentials of the address are in none of them."""
    for message in (None, "What the record says."):
        found = advise(attempt(error_class, error_message=message), Endpoint(timeout_seconds=15))

        assert found is not None
        assert found.what == (message or explain(error_class)[0])
        assert found.title
        assert not found.title.endswith(".")
        assert found.next_step.endswith(".")
        assert found.cause is None or found.cause.endswith(".")
        said = f"{found.title}{found.cause}{found.next_step}"
        assert "hush" not in said
        assert "user@" not in said


@pytest.mark.parametrize(
    ("error_class", "status", "fields", "title", "cause", "next_step"),
    [
        (ErrorClass.DNS_ERROR, None, {}, "Host name not found: shop.example.com:8443", None, "typing error"),
        (ErrorClass.DNS_ERROR, None, {"request_url": "http://[broken"}, "the endpoint's host", None, "DNS"),
        (ErrorClass.CONNECT_REFUSED, None, {}, "Nothing is listening: shop.example.com", None, "runs and"),
        (ErrorClass.READ_TIMEOUT, None, {}, "No answer in 7 s", "before it answers", "Answer 2xx first"),
        (ErrorClass.HTTP_4XX, 400, {}, "malformed", None, "Read the response body"),
        (ErrorClass.HTTP_4XX, 401, {}, "not authorised", None, "clock"),
        (ErrorClass.HTTP_4XX, 403, {}, "forbidden", None, "auth header"),
        (ErrorClass.HTTP_4XX, 404, {}, "Wrong path", None, "must accept POST"),
        (ErrorClass.HTTP_4XX, 405, {}, "Wrong method", None, "must accept POST"),
        (
            ErrorClass.HTTP_4XX,
            405,
            {"headers": [["Allow", "GET, PUT"]]},
            "Wrong method",
            "allows GET, PUT",
            "must accept POST",
        ),
        (ErrorClass.HTTP_4XX, 413, {}, "too large", None, "smaller events"),
        (ErrorClass.HTTP_4XX, 418, {}, "Receiver rejected the request", None, "Read the response body"),
        (ErrorClass.HTTP_410, 410, {}, "Receiver said stop", None, "Enable the endpoint again"),
        (ErrorClass.HTTP_429, 429, {}, "Receiver is limiting us", "More came", "rate limit"),
        (
            ErrorClass.HTTP_429,
            429,
            {"retry_after_seconds": 1_200},
            "asks for 1,200 s",
            "More came",
            "rate limit",
        ),
        (ErrorClass.HTTP_5XX, 500, {}, "500 Internal Server Error", "own code failed", "webhook-id"),
        (ErrorClass.HTTP_5XX, 502, {}, "502 Bad Gateway", "no usable answer", "upstream"),
        (ErrorClass.HTTP_5XX, 503, {}, "503 Service Unavailable", "overloaded or down", "rate limit"),
        (ErrorClass.HTTP_5XX, 504, {}, "504 Gateway Timeout", "waited too long", "Answer 2xx first"),
        (ErrorClass.HTTP_5XX, 599, {}, "Receiver error: 599", "own code failed", "webhook-id"),
    ],
)
def test_a_status_says_more_than_its_class(
    error_class: ErrorClass,
    status: int | None,
    fields: dict[str, Any],
    title: str,
    cause: str | None,
    next_step: str,
) -> None:
    """The table of the design, line by line."""
    found = advise(attempt(error_class, status, **fields), Endpoint(timeout_seconds=7))

    assert found is not None
    assert title in found.title
    assert (found.cause is None) if cause is None else (cause in (found.cause or ""))
    assert next_step in found.next_step


@pytest.mark.parametrize(
    ("message", "title", "next_step"),
    [
        ("The certificate has expired (3 Nov 2026).", "Certificate has expired", "Renew"),
        ("The certificate is for another host name.", "another host name", "certificate with this name"),
        ("The certificate is not for this IP address.", "not for this IP address", "host name"),
        ("The certificate is self-signed.", "self-signed", "public authority"),
        ("The certificate chain is incomplete.", "chain is incomplete", "fullchain.pem"),
        ("It ends in a root that is not trusted.", "root is not trusted", "public authority"),
        ("The certificate is not valid yet.", "not valid yet", "clocks of both sides"),
        ("The server does not speak TLS.", "does not speak TLS", "scheme or the port"),
        ("Something that nobody foresaw.", "No trusted TLS connection", "full chain"),
        (None, "No trusted TLS connection", "full chain"),
    ],
)
def test_a_certificate_is_refused_for_a_reason(message: str | None, title: str, next_step: str) -> None:
    """Each has a next step of its own; a reason that is new has that of the class."""
    found = advise(attempt(ErrorClass.TLS_ERROR, error_message=message), Endpoint(timeout_seconds=15))

    assert found is not None
    assert title in found.title
    assert next_step in found.next_step


@pytest.mark.parametrize(
    ("status", "location", "redirect", "title"),
    [
        (
            301,
            "https://new.example.com/hooks",
            "https://new.example.com/hooks",
            "Redirected to new.example.com",
        ),
        (308, "/hooks/", "https://shop.example.com:8443/hooks/", "shop.example.com:8443 (not followed)"),
        (302, "//cdn.example.com/x#part", "https://cdn.example.com/x", "cdn.example.com"),
        (302, None, None, "Redirected to nowhere"),
        (302, "", None, "Redirected to nowhere"),
        (302, "javascript:alert(1)", None, "Redirected to nowhere"),
        (302, "https://a:b@evil.example.com/", None, "Redirected to nowhere"),
        (302, "http://[broken", None, "Redirected to nowhere"),
        (302, URL, None, "Redirected to nowhere"),
    ],
)
def test_a_redirect_leads_to_what_could_be_the_endpoint(
    status: int, location: str | None, redirect: str | None, title: str
) -> None:
    """Only to a place that deliveries can go to, and that is another one."""
    url = "https://shop.example.com:8443/hooks" if location == "/hooks/" else URL
    headers = [] if location is None else [["Location", location]]
    failed = attempt(ErrorClass.HTTP_3XX, status, headers=headers, request_url=url)

    found = advise(failed, Endpoint(timeout_seconds=15))

    assert found is not None
    assert found.redirect == redirect
    assert title in found.title
    assert ("for a time only" in found.next_step) is (redirect is not None and status == 302)
