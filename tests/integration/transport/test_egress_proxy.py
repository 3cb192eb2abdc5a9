"""Deliveries through a CONNECT proxy, a process of its own: vetted addresses, names checked, and whose fault it was."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from pydantic import ValidationError

from app.core.egress import EgressPolicy
from app.core.settings import Settings
from tests.integration.transport import connect_proxy
from tests.integration.transport.conftest import LOOPBACK
from tests.integration.transport.raw_receiver import BODY, HEADERS, OK, answering, in_seconds
from workers.guard import EgressGuard
from workers.http1.dial import make_ssl_context
from workers.resolver import ThreadResolver
from workers.transport import (
    BlockedAddress,
    ConnectRefused,
    ConnectTimeout,
    GuardNotInForce,
    Proxy,
    ProxyFault,
    Target,
    TlsError,
    make_sender,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.integration.transport.raw_receiver import Receiver
    from workers.transport import Sender

NAME = "receiver.test"
SECRET = "s3cret:with/odd@signs"
CREDENTIALS = "Basic " + base64.b64encode(f"bellwire:{SECRET}".encode()).decode()
# Ports of targets to which the proxy gives a bad answer.
BAD_ANSWERS = {
    "9001": "403",
    "9002": "503",
    "9003": "504",
    "9004": "407",
    "9005": "silence",
    "9006": "hang-up",
    "9007": "noise",
    "9008": "500",
    "9009": "502",
    "9010": "405",
}


@dataclass(frozen=True, slots=True)
class Running:
    """The proxy's port, and the file of what it was asked."""

    port: int
    log: Path

    def asked(self) -> list[dict[str, Any]]:
        """Return what it was asked, in order."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def url(self, user: str = "") -> str:
        """Return the setting's value."""
        return f"http://{user}127.0.0.1:{self.port}"


class NamedResolver:
    """Leads the receiver's name to some addresses, and the proxy's to loopback."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)
        self.asked: list[str] = []

    async def resolve(self, host: str, *, deadline: float) -> list[str]:  # noqa: ARG002 - the protocol's shape
        """Return them."""
        self.asked.append(host)
        return ["127.0.0.1"] if host == "proxy.internal" else self._addresses


@contextlib.contextmanager
def running(log: Path, *, credentials: str = "") -> Iterator[Running]:
    """Run a proxy for as long as the context lasts."""
    command = [sys.executable, connect_proxy.__file__, str(log), json.dumps(BAD_ANSWERS), credentials]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Running(port=int(process.stdout.readline()), log=log)
        finally:
            process.terminate()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Running]:
    """A proxy that lets everybody in."""
    with running(tmp_path / "asked.jsonl") as started:
        yield started


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Signs the receivers' certificates."""
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Trusts it."""
    context = make_ssl_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(params=["engine", "stock"])
async def make(
    request: pytest.FixtureRequest, trusting: ssl.SSLContext
) -> AsyncIterator[Callable[..., Sender]]:
    """Makes senders of both kinds; they are closed after the test."""
    made = []

    def start(url: str, *addresses: str, allow: Any = LOOPBACK, guard: Any = None) -> Sender:
        guard = guard or EgressGuard(
            policy=EgressPolicy(allow=allow), resolver=NamedResolver(*(addresses or ("127.0.0.1",)))
        )
        sender = make_sender(request.param, guard=guard, ssl_context=trusting, proxy=Proxy.from_url(url))
        made.append(sender)
        return sender

    yield start
    for sender in made:
        await sender.aclose()


async def post(sender: Sender, url: str, *, seconds: float = 20.0) -> Any:
    return await sender.post(Target.from_url(url), headers=HEADERS, body=BODY, deadline=in_seconds(seconds))


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1"])
async def test_a_forbidden_address_is_not_asked_of_the_proxy(
    make: Callable[..., Sender], proxy: Running, address: str
) -> None:
    """The proxy could reach what we may not: names are resolved and vetted here, before it is asked."""
    sender = make(proxy.url(), "93.184.216.34", address, allow=[])

    for url in (f"http://{NAME}/", f"https://{NAME}/", f"http://{address}/"):
        with pytest.raises(BlockedAddress):
            await post(sender, url)

    assert proxy.asked() == []


async def test_plain_http_goes_through_a_tunnel_to_the_vetted_address(
    make: Callable[..., Sender], proxy: Running, serve: Callable[..., Awaitable[Receiver]]
) -> None:
    """The proxy is told the address, not the name; the receiver gets the request as without a proxy."""
    log: list[bytes] = []
    receiver = await serve(answering(OK, log=log))
    sender = make(proxy.url())

    exchanges = [await post(sender, f"http://{NAME}:{receiver.port}/hook") for _ in range(2)]

    place = f"127.0.0.1:{receiver.port}"
    assert [exchange.status for exchange in exchanges] == [200, 200]
    assert [(asked["method"], asked["place"]) for asked in proxy.asked()] == [("CONNECT", place)]
    assert proxy.asked()[0]["headers"] == {"host": place}
    assert len(log) == 2
    assert log[0].startswith(b"POST /hook HTTP/1.1\r\nhost: receiver.test:")
    assert b"proxy" not in log[0].lower()
    assert [exchange.connection.reused for exchange in exchanges] == [False, True]
    assert exchanges[0].connection.ip == "127.0.0.1"
    assert exchanges[0].timings.connect_ms > 0
    assert exchanges[0].timings.tls_ms is None


async def test_tls_checks_the_name_through_the_tunnel(
    make: Callable[..., Sender],
    proxy: Running,
    serve: Callable[..., Awaitable[Receiver]],
    authority: trustme.CA,
) -> None:
    """SNI and certificate are of the name; another name's certificate is refused, though the address is the same."""
    seen: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    context.sni_callback = lambda _, name, __: seen.append(name)
    receiver = await serve(answering(OK), ssl_context=context)
    sender = make(proxy.url())

    exchange = await post(sender, f"https://{NAME}:{receiver.port}/")
    with pytest.raises(TlsError):
        await post(sender, f"https://other.test:{receiver.port}/")

    assert exchange.status == 200
    assert exchange.connection.tls_version == "TLSv1.3"
    assert exchange.timings.tls_ms > 0
    assert seen[0] == NAME
    assert {asked["place"] for asked in proxy.asked()} == {f"127.0.0.1:{receiver.port}"}


async def test_credentials_are_sent_and_shown_nowhere(
    make: Callable[..., Sender], tmp_path: Path, serve: Callable[..., Awaitable[Receiver]]
) -> None:
    """Percent-encoded in the setting, decoded on the wire; in no representation, and not sent to the receiver."""
    log: list[bytes] = []
    receiver = await serve(answering(OK, log=log))
    with running(tmp_path / "asked.jsonl", credentials=CREDENTIALS) as guarded:
        url = guarded.url(user="bellwire:s3cret%3Awith%2Fodd%40signs@")
        good, bad = make(url), make(guarded.url(user="bellwire:wrong@"))
        exchange = await post(good, f"http://{NAME}:{receiver.port}/")
        with pytest.raises(ProxyFault, match="407") as caught:
            await post(bad, f"http://{NAME}:{receiver.port}/")

    assert exchange.status == 200
    assert b"authorization" not in log[0].lower()
    shown = repr(Proxy.from_url(url)) + repr(Settings(egress_proxy=url)) + str(caught.value)
    assert "s3cret" not in shown
    assert "wrong" not in shown
    assert "Basic" not in shown


async def test_the_proxys_own_name_is_not_vetted(
    make: Callable[..., Sender], proxy: Running, serve: Callable[..., Awaitable[Receiver]]
) -> None:
    """It lives inside and has a local name: the operator chose it. The receiver's address is vetted all the same."""
    receiver = await serve(answering(OK))
    sender = make(f"http://proxy.internal:{proxy.port}", "127.0.0.1", allow=LOOPBACK[:1])

    assert (await post(sender, f"http://{NAME}:{receiver.port}/")).status == 200
    with pytest.raises(BlockedAddress):
        await post(sender, "http://proxy.internal:9000/")


@pytest.mark.parametrize(
    ("port", "kind"),
    [
        (9001, BlockedAddress),
        (9002, ConnectRefused),
        (9009, ConnectRefused),
        (9003, ConnectTimeout),
        (9004, ProxyFault),
        (9006, ProxyFault),
        (9007, ProxyFault),
        (9008, ProxyFault),
        (9010, ProxyFault),
    ],
)
async def test_whose_fault_it_is(
    make: Callable[..., Sender], proxy: Running, port: int, kind: type[Exception]
) -> None:
    """What the proxy says of the receiver is an attempt; what is wrong with the proxy itself is none."""
    with pytest.raises(kind):
        await post(make(proxy.url()), f"http://{NAME}:{port}/")


async def test_a_proxy_that_makes_no_tunnel_in_time_is_a_connect_timeout(
    make: Callable[..., Sender], proxy: Running
) -> None:
    """The receiver does not answer, most likely: nothing of the request was sent."""
    with pytest.raises(ConnectTimeout, match="proxy"):
        await post(make(proxy.url()), f"http://{NAME}:9005/", seconds=0.5)


async def test_a_proxy_that_is_away_is_our_own_fault(make: Callable[..., Sender]) -> None:
    """No attempt is used up, and the message names the proxy."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(ProxyFault, match=f"127.0.0.1:{port}"):
            await post(make(f"http://127.0.0.1:{port}"), f"http://{NAME}:9000/")


async def test_the_next_address_is_tried_through_the_proxy(
    make: Callable[..., Sender], proxy: Running, serve: Callable[..., Awaitable[Receiver]]
) -> None:
    """A dead address of the name costs a tunnel, not the delivery."""
    receiver = await serve(answering(OK))
    sender = make(proxy.url(), "127.0.0.9", "127.0.0.1")

    exchange = await post(sender, f"http://{NAME}:{receiver.port}/")

    assert (exchange.status, exchange.connection.ip) == (200, "127.0.0.1")
    assert proxy.asked()[0]["place"] == f"127.0.0.9:{receiver.port}"


async def test_an_ipv6_address_is_asked_for_in_brackets(make: Callable[..., Sender], proxy: Running) -> None:
    """As in a URL."""
    with pytest.raises(ConnectRefused):
        await post(make(proxy.url()), "http://[::1]:9002/")

    assert proxy.asked()[0]["place"] == "[::1]:9002"


async def test_the_self_test_works_with_a_proxy_and_asks_it_nothing(
    make: Callable[..., Sender], proxy: Running
) -> None:
    """Forbidden targets are refused before the proxy hears of them; a guard that is broken is found out."""

    class ForgetfulGuard(EgressGuard):
        async def vet(self, host: str, *, port: int, deadline: float) -> list[str]:  # noqa: ARG002
            return ["127.0.0.1"]

        def probes(self) -> list[tuple[EgressGuard, str, int]]:
            return [(self, "169.254.169.254", 80)]

    forgetful = ForgetfulGuard(policy=EgressPolicy(), resolver=NamedResolver("127.0.0.1"))
    await make(proxy.url()).prove_guarded()
    with pytest.raises(GuardNotInForce):
        await make(proxy.url(), guard=forgetful).prove_guarded()

    assert proxy.asked() == []


@pytest.mark.parametrize(
    "url",
    [
        "proxy:3128",
        "https://proxy:3128",
        "socks5://proxy:1080",
        "http://",
        "http://proxy:99999",
        "http://proxy:0",
        "http://user:hunter2@proxy:3128/path",
        "http://user:hunter2@proxy:port",
        "http://user:hunter2@proxy:3128/?a=b",
        "http://user:hunter2\r\nX: y@proxy:3128",
    ],
)
def test_a_setting_that_is_no_proxy_stops_the_start(url: str) -> None:
    """And the message does not show it, because it may hold a password."""
    with pytest.raises(ValidationError) as caught:
        Settings(egress_proxy=url)

    (error,) = caught.value.errors(include_input=False)
    assert "http://host:port" in error["msg"]
    assert "hunter2" not in error["msg"]


async def test_the_real_resolver_serves_the_proxys_name() -> None:
    """`localhost` is resolved for the proxy although no delivery may go there."""
    proxy = Proxy.from_url("http://localhost:3128/")
    resolver = ThreadResolver()
    assert proxy is not None

    assert "127.0.0.1" in await proxy.addresses(resolver, deadline=in_seconds())
    resolver.close()
