"""The egress policy: every kind of forbidden target, and the ways that one could be dressed up."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.egress import EgressDenied, EgressPolicy

DENIED_ADDRESSES = [
    "0.0.0.0",  # noqa: S104 - to be refused
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "100::1",
    "1fff:ffff::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:1ff:ffff::1",
    "2001:470::5efe:7f00:1",
    "2001:470::200:5efe:a00:1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "4000::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%1",
    "fec0::1",
    "ff02::1",
]
ALLOWED_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2001:200::1",
    "2001:470::5efe:808:808",
    "2001:4860:4860::8888",
    "2001:db7::1",
    "2001:db9::1",
    "2003::1",
    "2606:4700:4700::1111",
    "3fff:1000::1",
]
DENIED_URLS = [
    "",
    "example.com",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "unix:///var/run/docker.sock",
    "http://",
    "http:///path",
    "http:example.com",
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://:secret@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://127.0.0.1\\.example.com/",
    "https://@example.com/",
    "https://example.com/#fragment",
    "https://example.com/#",
    "https://example.com/" + "a" * 2_030,
    "https://example.com/" + "\N{SNOWMAN}" * 1_000,
    "https://exa mple.com/",
    "https://example.com\t/",
    "https://exam\nple.com/",
    " https://example.com/",
    "https://-example.com/",
    "https://example..com/",
    "https://.example.com/",
    "https://" + "a" * 64 + ".com/",
    "https://" + "a." * 127 + "com/",
    "https://exa%6Dple.com/",
    "https://%31%32%37.0.0.1/",
    "https://ex*mple.com/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:-1/",
    "https://example.com:http/",
    "https://example.com:+80/",
    "https://example.com: 80/",
    "https://example.com:8_0/",
    "https://example.com:\N{FULLWIDTH DIGIT EIGHT}\N{FULLWIDTH DIGIT ZERO}/",
    "https://[2606:4700:4700::1111]:+80/",
    "https://example.com:22/",
    "https://example.com:25/",
    "https://example.com:1023/",
    "https://example.com:2375/",
    "https://example.com:3306/",
    "https://example.com:5432/",
    "https://example.com:5672/",
    "https://example.com:6379/",
    "https://example.com:9092/",
    "https://example.com:9200/",
    "https://example.com:11211/",
    "https://example.com:27017/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://receiver.localhost/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://printer.local/",
    "http://printer.local./",
    "http://hidden.onion/",
    "http://localhost\N{IDEOGRAPHIC FULL STOP}/",
    "http://xn--ocalhost-in2e/",
    "http://a.xn--nternal-w04d/",
    "http://xn--orhcp.0.0.1/",
    "http://bellwire.example.com/",
    "http://BELLWIRE.example.com./",
    "http://127.0.0.1/",
    "http://127.0.0.1./",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0X7F.1/",
    "http://0177.0.0.1/",
    "http://127.0.0.0x1/",
    "http://1.2.3.4.5/",
    "http://256.256.256.256/",
    "http://0/",
    "http://0x/",
    "http://127\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}1/",
    "http://\N{FULLWIDTH DIGIT ONE}\N{FULLWIDTH DIGIT TWO}\N{FULLWIDTH DIGIT SEVEN}.0.0.1/",
    "http://\N{CIRCLED DIGIT ONE}.1.1.1/",
    "http://loc\N{SOFT HYPHEN}alhost/",
    "http://[::1]/",
    "http://[::1]:8080/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::1",
    "http://[not-an-address]/",
    "http://[v1.x]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.100.100.200/",
]
NORMAL_URLS = [
    ("https://example.com", "https://example.com"),
    ("https://example.com/", "https://example.com/"),
    ("HTTPS://Example.COM/Path?Query=1", "https://example.com/Path?Query=1"),
    ("http://example.com:80/x", "http://example.com/x"),
    ("https://example.com:443/x", "https://example.com/x"),
    ("http://example.com:443/x", "http://example.com:443/x"),
    ("https://example.com:8443/x", "https://example.com:8443/x"),
    ("https://example.com:/x", "https://example.com/x"),
    ("https://example.com/a b", "https://example.com/a%20b"),
    ("https://example.com/a/../b", "https://example.com/b"),
    ("https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example/", "https://xn--bcher-kva.example/"),
    ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
    ("https://under_score.example.com/", "https://under_score.example.com/"),
    ("https://receiver:8080/", "https://receiver:8080/"),
    ("https://8.8.8.8/x", "https://8.8.8.8/x"),
    ("https://[2606:4700:4700::1111]:8443/", "https://[2606:4700:4700::1111]:8443/"),
    ("https://example.com/?token=a%2Fb", "https://example.com/?token=a%2Fb"),
    ("https://1e100.net/", "https://1e100.net/"),
    ("https://0xcafe.example/", "https://0xcafe.example/"),
    ("https://internal.example.com/", "https://internal.example.com/"),
    ("https://localhost.example.com/", "https://localhost.example.com/"),
]


@pytest.fixture
def policy():
    return EgressPolicy(own=[("bellwire.example.com", 443), ("127.0.0.1", 8400)])


@pytest.mark.parametrize("address", DENIED_ADDRESSES)
def test_denies_the_address(policy, address):
    """Private, reserved, translated and scoped addresses are denied."""
    with pytest.raises(EgressDenied):
        policy.check_address(address)


@pytest.mark.parametrize("address", ALLOWED_ADDRESSES)
def test_allows_the_address(policy, address):
    """Public addresses pass, also those next to a denied range."""
    assert policy.check_address(address) is None


@pytest.mark.parametrize("url", DENIED_URLS)
def test_denies_the_url(policy, url):
    """A URL that is malformed, dressed up or local is denied with a sentence for the person."""
    with pytest.raises(EgressDenied) as caught:
        policy.check_url(url)

    assert caught.value.reason.endswith(".")


@pytest.mark.parametrize(("url", "normal"), NORMAL_URLS)
def test_returns_the_url_in_its_sent_form(policy, url, normal):
    """What is stored is what the sending parser makes of the URL."""
    assert policy.check_url(url) == normal


@given(
    st.text(max_size=80).map(lambda text: f"http://{text}")
    | st.from_regex(r"https?://(xn--[a-z0-9-]{1,20}\.){1,3}com", fullmatch=True)
    | st.from_regex(r"https?://[a-z0-9.:\[\]@%\\-]{1,40}(/[ -~]{0,20})?", fullmatch=True)
)
def test_checks_any_text_and_is_stable(url):
    """Any text is denied or normalised, and the normal form is its own normal form."""
    policy = EgressPolicy()
    try:
        normal = policy.check_url(url)
    except EgressDenied:
        return

    assert policy.check_url(normal) == normal


@given(st.ip_addresses(v=4))
def test_mapped_and_translated_addresses_share_the_fate_of_the_ipv4_inside(inner):
    """v4-mapped and NAT64 forms of an IPv4 address are allowed exactly when it is."""
    policy = EgressPolicy()

    fates = {
        _is_allowed(policy, str(address))
        for address in (
            inner,
            ip_address((0xFFFF << 32) | int(inner)),
            ip_address((0x64FF9B << 96) | int(inner)),
        )
    }

    assert len(fates) == 1


@pytest.mark.parametrize(
    ("opened", "address"),
    [
        ("127.0.0.0/8", "127.0.0.1"),
        ("10.1.0.0/16", "10.1.2.3"),
        ("10.1.0.0/16", "::ffff:10.1.2.3"),
        ("169.254.169.254/32", "169.254.169.254"),
        ("::1/128", "::1"),
        ("fd00::/8", "fd12::1"),
    ],
)
def test_an_opened_range_lets_its_addresses_pass(opened, address):
    """The operator's ranges win over the lists."""
    policy = EgressPolicy(allow=[ip_network(opened)])

    assert _is_allowed(policy, address)


def test_an_opened_range_opens_nothing_else():
    """Only the named range is opened, and neither ports nor scoped addresses with it."""
    policy = EgressPolicy(allow=[ip_network("10.1.0.0/16"), ip_network("fe80::/10")])

    refused = [
        address
        for address in ("10.2.0.1", "10.0.255.255", "127.0.0.1", "::1", "fe80::1%eth0")
        if not _is_allowed(policy, address)
    ]

    assert refused == ["10.2.0.1", "10.0.255.255", "127.0.0.1", "::1", "fe80::1%eth0"]
    with pytest.raises(EgressDenied):
        policy.check_url("http://10.1.0.1:6379/")


@pytest.mark.parametrize(
    "address",
    ["10.1.9.9", "::ffff:10.1.9.9", "64:ff9b::a01:909", "8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1"],
)
def test_a_closed_range_wins_over_all_else(address):
    """What the operator denies is denied, though he opened a range around it or it is public."""
    policy = EgressPolicy(
        allow=[ip_network("10.1.0.0/16")],
        deny=[ip_network("10.1.9.0/24"), ip_network("8.8.8.0/24"), ip_network("2606:4700::/32")],
    )

    assert not _is_allowed(policy, address)
    assert _is_allowed(policy, "10.1.8.8")


@pytest.mark.parametrize("address", ["10.7.0.1", "::ffff:10.7.0.1", "64:ff9b::a07:1"])
def test_our_own_address_is_denied_on_our_own_port_only(address):
    """Others may live on the same machine."""
    policy = EgressPolicy(allow=[ip_network("10.0.0.0/8")], own=[("10.7.0.1", 8400)])

    assert policy.check_answer(address, 8401) is None
    with pytest.raises(EgressDenied, match="loop"):
        policy.check_answer(address, 8400)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "::1"])
def test_our_own_port_on_localhost_is_denied(host):
    """A service that is known as localhost only."""
    policy = EgressPolicy(allow=[ip_network("127.0.0.0/8"), ip_network("::1/128")], own=[("localhost", 8400)])

    assert policy.check_target(host, 8401) is None
    with pytest.raises(EgressDenied, match="loop"):
        policy.check_target(host, 8400)


def test_localhost_may_be_named_once_loopback_is_open():
    """A developer who opened loopback can write localhost."""
    policy = EgressPolicy(allow=[ip_network("127.0.0.0/8")])

    assert policy.check_url("http://localhost:9000/hook") == "http://localhost:9000/hook"


def test_other_local_names_stay_denied_when_loopback_is_open():
    """Opening addresses opens no other local name."""
    policy = EgressPolicy(allow=[ip_network("0.0.0.0/0"), ip_network("::/0")])

    with pytest.raises(EgressDenied):
        policy.check_url("http://metadata.google.internal/")


def test_the_policy_knows_what_the_operator_opened():
    """is_opened answers for plain, mapped and translated addresses, and for no name."""
    policy = EgressPolicy(allow=[ip_network("10.0.0.0/8"), ip_network("::1/128")])

    answers = [
        policy.is_opened(address)
        for address in ("10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "::1", "127.0.0.1", "::2", "name")
    ]

    assert answers == [True, True, True, True, False, False, False]


def _is_allowed(policy: EgressPolicy, address: str) -> bool:
    try:
        policy.check_address(address)
    except EgressDenied:
        return False
    return True
