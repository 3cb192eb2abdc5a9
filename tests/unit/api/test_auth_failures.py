"""Failed authentications by address: what counts, what is answered, what is forgotten."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from starlette.requests import Request

from app.api import auth_failures
from app.api.auth_failures import AuthFailures
from app.api.problems import RateLimited
from app.core.errors import Forbidden, NotFound, Unauthenticated
from app.core.settings import Settings

WRONG = Unauthenticated("This API key is not known here.")


class Clock:
    """Goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def request_of(
    address: str | None = "192.0.2.7", *, key: bool = True, forwarded: str = "", trusted: str = ""
) -> Request:
    """A request from an address, perhaps through a proxy."""
    headers = [(b"authorization", b"Bearer bw_x")] if key else []
    if forwarded:
        headers.append((b"x-forwarded-for", forwarded.encode()))
    settings = Settings(trusted_proxies=trusted)
    return Request(
        {
            "type": "http",
            "client": (address, 1234) if address else None,
            "headers": headers,
            "app": SimpleNamespace(state=SimpleNamespace(settings=settings)),
        }
    )


def failures(counter: AuthFailures, request: Request, *, error: Exception = WRONG) -> int:
    """Fail until it is answered otherwise; return how often the error stayed what it was, at most a hundred."""
    for n in range(100):
        if counter.judge(error, request) is not error:
            return n
    return 100


@pytest.fixture
def clock() -> Clock:
    """The counter's clock."""
    return Clock()


def test_an_address_that_fails_too_often_is_told_to_wait(clock: Clock) -> None:
    """429 with `Retry-After`, and the reason stays in it."""
    counter = AuthFailures(per_minute=6, monotonic=clock)
    assert failures(counter, request_of()) == 6

    seen = counter.judge(WRONG, request_of())

    assert isinstance(seen, RateLimited)
    assert seen.retry_after_seconds == 10
    assert "not known here" in seen.detail
    clock.now += 10.0
    assert failures(counter, request_of()) == 1


def test_trying_in_vain_does_not_make_the_wait_longer(clock: Clock) -> None:
    """The bucket fills whether or not somebody hammers."""
    counter = AuthFailures(per_minute=60, monotonic=clock)
    failures(counter, request_of())
    for _ in range(10):
        clock.now += 0.1
        counter.judge(WRONG, request_of())

    clock.now += 0.1

    assert failures(counter, request_of()) <= 1


@pytest.mark.parametrize("error", [Forbidden("no"), NotFound("no"), ValueError("no")])
def test_other_errors_do_not_count(clock: Clock, error: Exception) -> None:
    """A role that is not enough, or a fault of ours, is no guess."""
    counter = AuthFailures(per_minute=1, monotonic=clock)

    assert failures(counter, request_of(), error=error) == 100
    assert failures(counter, request_of()) == 1


def test_a_request_without_a_key_does_not_count(clock: Clock) -> None:
    """It guesses nothing."""
    assert failures(AuthFailures(per_minute=1, monotonic=clock), request_of(key=False)) == 100


def test_no_limit_limits_nothing(clock: Clock) -> None:
    """0 switches it off."""
    assert failures(AuthFailures(per_minute=0, monotonic=clock), request_of()) == 100


@pytest.mark.parametrize(
    ("other", "shared"),
    [("192.0.2.8", False), ("2001:db8:0:2::1", False), (None, False), ("2001:db8:0:1:ffff::9", True)],
)
def test_addresses_are_counted_apart_and_ipv6_by_its_network(
    *, clock: Clock, other: str | None, shared: bool
) -> None:
    """Whoever has one IPv6 address has 2^64 of them."""
    counter = AuthFailures(per_minute=3, monotonic=clock)
    for address in ("192.0.2.7", "2001:db8:0:1::1"):
        assert failures(counter, request_of(address)) == 3

    assert failures(counter, request_of(other)) == (0 if shared else 3)


def test_a_trusted_proxy_says_whose_failure_it_was(clock: Clock) -> None:
    """Its clients are counted apart; what a stranger says of itself is not believed."""
    counter = AuthFailures(per_minute=3, monotonic=clock)
    proxied = [
        request_of("10.0.0.1", forwarded=client, trusted="10.0.0.0/8")
        for client in ("192.0.2.1", "192.0.2.2")
    ]
    lying = [
        request_of("192.0.2.9", forwarded=client, trusted="10.0.0.0/8") for client in ("1.1.1.1", "2.2.2.2")
    ]

    assert [failures(counter, request) for request in proxied] == [3, 3]
    assert [failures(counter, request) for request in lying] == [3, 0]


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses seen least recently are forgotten."""
    monkeypatch.setattr(auth_failures, "MAX_ADDRESSES", 3)
    counter = AuthFailures(per_minute=3, monotonic=clock)

    for number in range(10):
        counter.judge(WRONG, request_of(f"192.0.2.{number}"))

    assert len(counter._left) == 3
