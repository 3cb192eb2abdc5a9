"""The egress policy that the settings make."""

import pytest

from app.core.egress import EgressDenied
from app.core.outbound import policy_of
from app.core.settings import Settings


@pytest.mark.parametrize(
    ("settings", "host", "port"),
    [
        ({"base_url": "https://hooks.example.com"}, "hooks.example.com", 443),
        ({"base_url": "https://hooks.example.com"}, "Hooks.Example.com.", 8443),
        ({"base_url": "https://hooks.example.com:8443/prefix"}, "hooks.example.com", 443),
        ({"base_url": "http://8.8.4.4"}, "8.8.4.4", 80),
        ({"base_url": "https://8.8.4.4"}, "8.8.4.4", 443),
        ({"base_url": "http://[2606:4700::9]:8400"}, "2606:4700::9", 8400),
        ({"egress_allow": "127.0.0.0/8"}, "127.0.0.1", 8400),
        ({"egress_allow": "127.0.0.0/8"}, "localhost", 8400),
        ({"egress_allow": "127.0.0.0/8", "host": "0.0.0.0", "port": "9400"}, "127.0.0.1", 9400),  # noqa: S104 - as containers do
        ({"egress_allow": "::1/128", "host": "::", "port": "9400"}, "::1", 9400),
        ({"host": "8.8.4.4", "port": "9400"}, "8.8.4.4", 9400),
        ({"egress_deny": "8.8.4.0/24"}, "8.8.4.4", 443),
    ],
)
def test_what_the_settings_say_is_ours_is_denied(settings, host, port):
    """Our public name and address, where we listen, and what the operator denies."""
    with pytest.raises(EgressDenied):
        policy_of(Settings(**settings)).check_target(host, port)


@pytest.mark.parametrize(
    ("settings", "host", "port"),
    [
        ({"base_url": "https://hooks.example.com"}, "example.com", 443),
        ({"base_url": "https://8.8.4.4"}, "8.8.4.4", 8443),
        ({"egress_allow": "127.0.0.0/8"}, "127.0.0.1", 8401),
        ({"egress_allow": "10.0.0.0/8", "egress_deny": "10.1.0.0/16"}, "10.2.0.1", 443),
    ],
)
def test_what_is_beside_it_is_not(settings, host, port):
    """Neighbours of the same domain, address or range."""
    assert policy_of(Settings(**settings)).check_target(host, port) is None
