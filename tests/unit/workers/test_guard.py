"""The egress guard: what is behind a name decides, and one bad address is enough."""

import math
from ipaddress import ip_network

import pytest

from app.core.egress import EgressPolicy
from workers.guard import EgressGuard
from workers.http1.errors import BlockedAddress


class FixedResolver:
    def __init__(self, *addresses):
        self.addresses = list(addresses)
        self.asked = []

    async def resolve(self, host, *, deadline):  # noqa: ARG002
        self.asked.append(host)
        return self.addresses


def make_guard(*addresses, allow=()):
    policy = EgressPolicy(allow=[ip_network(text) for text in allow])
    return EgressGuard(policy=policy, resolver=FixedResolver(*addresses))


async def test_public_addresses_pass_with_families_in_turn():
    """The order of the resolver holds within a family; a broken family costs one try."""
    guard = make_guard("2606:4700::1", "2606:4700::2", "1.1.1.1", "1.0.0.1", "8.8.8.8")

    addresses = await guard.vet("example.com", port=443, deadline=math.inf)

    assert addresses == ["2606:4700::1", "1.1.1.1", "2606:4700::2", "1.0.0.1", "8.8.8.8"]


@pytest.mark.parametrize(
    "bad", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "fe80::1%2"]
)
@pytest.mark.parametrize("first", [True, False])
async def test_one_bad_address_blocks_the_name(bad, first):
    """A name with a good and a bad address is refused, whatever their order."""
    guard = make_guard(*((bad, "1.1.1.1") if first else ("1.1.1.1", bad)))

    with pytest.raises(BlockedAddress):
        await guard.vet("example.com", port=443, deadline=math.inf)


async def test_the_message_says_nothing_of_what_is_behind_the_name():
    """A caller cannot map our network through error messages."""
    guard = make_guard("10.11.12.13")

    with pytest.raises(BlockedAddress) as caught:
        await guard.vet("example.com", port=443, deadline=math.inf)

    assert "10.11.12.13" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1", 80),
        ("::1", 80),
        ("2130706433", 80),
        ("0x7f.1", 80),
        ("localhost", 80),
        ("metadata.google.internal", 80),
        ("example.com", 22),
        ("1.1.1.1", 6379),
    ],
)
async def test_a_bad_host_or_port_asks_no_name_server(host, port):
    """What is refused by its form is refused before any look-up."""
    guard = make_guard("1.1.1.1")

    with pytest.raises(BlockedAddress):
        await guard.vet(host, port=port, deadline=math.inf)

    assert guard.resolver.asked == []


async def test_a_literal_asks_no_name_server():
    """An address is its own answer."""
    guard = make_guard()

    assert await guard.vet("1.1.1.1", port=443, deadline=math.inf) == ["1.1.1.1"]
    assert guard.resolver.asked == []


async def test_an_answer_that_changes_is_caught():
    """Rebinding: good when the URL was saved, bad when the delivery connects."""
    guard = make_guard("1.1.1.1")
    await guard.vet("example.com", port=443, deadline=math.inf)
    guard.resolver.addresses = ["127.0.0.1"]

    with pytest.raises(BlockedAddress):
        await guard.vet("example.com", port=443, deadline=math.inf)


@pytest.mark.parametrize("allow", [[], ["127.0.0.0/8"], ["0.0.0.0/0", "::/0"]])
async def test_the_self_test_has_something_to_refuse_under_every_setting(allow):
    """The probes leave out what the operator opened, and are all refused."""
    probes = make_guard("1.1.1.1", allow=allow).probes()

    for guard, host, port in probes:
        with pytest.raises(BlockedAddress):
            await guard.vet(host, port=port, deadline=math.inf)
    assert len(probes) >= 5
