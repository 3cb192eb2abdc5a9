"""The guard in force: what is forbidden opens no connection, whatever the name says, and whoever sends."""

import socket
from ipaddress import ip_network

import pytest

from app.core.egress import EgressPolicy
from tests.integration.transport.conftest import LOOPBACK
from tests.integration.transport.raw_receiver import BODY, HEADERS, OK, answering, in_seconds
from workers.guard import FORBIDDEN_ADDRESSES, EgressGuard
from workers.transport import (
    BlockedAddress,
    GuardNotInForce,
    HttpEngine,
    Target,
    make_sender,
)


class StubResolver:
    """Answers what the test says, and may change its mind."""

    def __init__(self, *addresses):
        self.addresses = list(addresses)

    async def resolve(self, host, *, deadline):  # noqa: ARG002
        return self.addresses


class BrokenPolicy(EgressPolicy):
    """A policy that a bug has emptied."""

    def check_address(self, address):
        """Let everything pass."""


class ForgetfulGuard(EgressGuard):
    """A guard that a bug has emptied."""

    async def vet(self, host, *, port, deadline):  # noqa: ARG002
        return ["127.0.0.1"]

    def probes(self):
        return [(self, host, port) for _, host, port in super().probes()]


@pytest.fixture
def sockets(monkeypatch):
    """The addresses that sockets were connected to, by anybody in this process."""
    connected = []
    connect = socket.socket.connect

    def recording(self, address):
        connected.append(address)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", recording)
    return connected


@pytest.fixture(params=["engine", "stock"])
async def make(request):
    made = []

    def start(*addresses, allow=()):
        resolver = StubResolver(*addresses)
        sender = make_sender(
            request.param, guard=EgressGuard(policy=EgressPolicy(allow=allow), resolver=resolver)
        )
        made.append(sender)
        return sender, resolver

    yield start
    for sender in made:
        await sender.aclose()


async def post(sender, target):
    return await sender.post(target, headers=HEADERS, body=BODY, deadline=in_seconds())


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
async def test_no_forbidden_address_is_connected_to(make, sockets, address):
    """Neither as a literal nor behind a name."""
    sender, _ = make("93.184.216.34", address)
    bracketed = f"[{address}]" if ":" in address else address

    for url in (f"http://{bracketed}/", "http://example.com/", "https://example.com/"):
        with pytest.raises(BlockedAddress):
            await post(sender, Target.from_url(url))

    assert sockets == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://localhost/",
        "http://metadata.google.internal/",
        "http://example.com:22/",
        "http://example.com:6379/",
    ],
)
async def test_no_dressed_up_target_is_connected_to(make, sockets, url):
    """The forms that the system's resolver would understand are refused before it is asked."""
    sender, _ = make("93.184.216.34")

    with pytest.raises(BlockedAddress):
        await post(sender, Target.from_url(url))

    assert sockets == []


async def test_rebinding_between_save_and_connect_opens_no_connection(make, serve, sockets):
    """The URL was fine when it was saved; the answer that counts is the one at connect."""
    log = []
    receiver = await serve(answering(OK, log=log))
    sender, resolver = make("93.184.216.34")
    target = Target.from_url(EgressPolicy().check_url(f"http://rebinding.example.com:{receiver.port}/"))
    resolver.addresses = ["127.0.0.1"]

    with pytest.raises(BlockedAddress) as caught:
        await post(sender, target)

    assert "127.0.0.1" not in str(caught.value)
    assert (sockets, log, receiver.connections) == ([], [], 0)


@pytest.mark.parametrize("location", ["http://169.254.169.254/latest/meta-data/", "http://[::1]/"])
async def test_a_redirect_to_a_forbidden_address_opens_no_connection(make, serve, sockets, location):
    """Redirects are not followed, wherever they lead."""
    redirect = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    receiver = await serve(answering(redirect.encode()))
    sender, _ = make(allow=LOOPBACK)

    exchange = await post(sender, receiver.target())

    assert exchange.status == 307
    assert sockets == [("127.0.0.1", receiver.port)]


async def test_proxies_in_the_environment_are_ignored(make, serve, monkeypatch):
    """No variable of the environment sends a delivery elsewhere."""
    stolen, log = [], []
    proxy = await serve(answering(OK, log=stolen))
    receiver = await serve(answering(OK, log=log))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    sender, _ = make(allow=LOOPBACK)

    exchange = await post(sender, receiver.target())

    assert exchange.status == 200
    assert (len(log), stolen) == (1, [])


@pytest.mark.parametrize(
    "allow", [(), LOOPBACK, (ip_network("0.0.0.0/0"), ip_network("::/0"))], ids=["none", "loopback", "all"]
)
async def test_the_self_test_passes_and_connects_nowhere(make, sockets, allow):
    """A worker with a working guard starts."""
    sender, _ = make("93.184.216.34", allow=allow)

    await sender.prove_guarded()

    assert sockets == []


@pytest.mark.parametrize("kind", ["engine", "stock"])
@pytest.mark.parametrize(
    "guard",
    [
        EgressGuard(policy=BrokenPolicy(), resolver=StubResolver("127.0.0.1")),
        ForgetfulGuard(policy=EgressPolicy(), resolver=StubResolver("127.0.0.1")),
    ],
    ids=["policy", "guard"],
)
async def test_the_self_test_stops_a_worker_whose_guard_is_broken(kind, guard, sockets):
    """It finds a guard that lets something pass, and connects nowhere while it does."""
    sender = make_sender(kind, guard=guard)

    with pytest.raises(GuardNotInForce):
        await sender.prove_guarded()

    await sender.aclose()
    assert sockets == []


async def test_the_next_address_is_tried(serve):
    """A name with a dead and a living address is reached."""
    receiver = await serve(answering(OK))
    guard = EgressGuard(
        policy=EgressPolicy(allow=LOOPBACK), resolver=StubResolver("127.0.0.9", "::1", "127.0.0.1")
    )
    async with HttpEngine(guard=guard) as engine:
        exchange = await post(engine, receiver.target(host="receiver.test"))

    assert (exchange.status, exchange.connection.ip) == (200, "127.0.0.1")
