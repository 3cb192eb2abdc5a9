"""TLS: the name is checked, the address is the vetted one, and a bad certificate is told in words."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from app.core.egress import EgressPolicy
from tests.integration.transport.conftest import LOOPBACK
from tests.integration.transport.raw_receiver import BODY, HEADERS, OK, answering, in_seconds
from workers.guard import EgressGuard
from workers.http1.dial import make_ssl_context
from workers.transport import HttpEngine, StockSender, TlsError

NAME = "receiver.test"


class NamedResolver:
    """Leads every name to one address."""

    def __init__(self, *addresses):
        self.addresses = list(addresses)

    async def resolve(self, host, *, deadline):  # noqa: ARG002
        return self.addresses


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture
def trusting(authority):
    """The context of receivers' connections, with the test's authority as a root."""
    context = make_ssl_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(params=[HttpEngine, StockSender], ids=["engine", "stock"])
async def sender(request, trusting):
    guard = EgressGuard(policy=EgressPolicy(allow=LOOPBACK), resolver=NamedResolver("127.0.0.1"))
    made = request.param(guard=guard, ssl_context=trusting)
    yield made
    await made.aclose()


def serving(certificate, **changes):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    for name, value in changes.items():
        setattr(context, name, value)
    return context


async def post(sender, receiver, *, host=NAME, deadline=None):
    target = receiver.target(host=host, scheme="https")
    return await sender.post(target, headers=HEADERS, body=BODY, deadline=deadline or in_seconds())


async def test_a_good_certificate_is_accepted(serve, sender, authority):
    """The name is sent and checked, the vetted address is connected to, and the log shows both."""
    seen, log = [], []
    context = serving(authority.issue_cert(NAME))
    context.sni_callback = lambda _, name, __: seen.append(name)
    receiver = await serve(answering(OK, log=log), ssl_context=context)

    exchange = await post(sender, receiver)

    assert (exchange.status, exchange.body) == (200, b"ok")
    assert seen == [NAME]
    assert b"host: %b:%d\r\n" % (NAME.encode(), receiver.port) in log[0]
    assert exchange.connection.ip == "127.0.0.1"
    assert exchange.connection.tls_version == "TLSv1.3"
    assert exchange.connection.certificate_expires_at > datetime.now(UTC).timestamp()
    assert exchange.timings.tls_ms > 0


async def test_a_kept_connection_needs_no_second_handshake(serve, sender, authority):
    """TLS connections are kept like others."""
    receiver = await serve(answering(OK), ssl_context=serving(authority.issue_cert(NAME)))

    reused = [(await post(sender, receiver)).connection.reused for _ in range(3)]

    assert reused == [False, True, True]
    assert receiver.connections == 1


@pytest.mark.parametrize(
    ("make", "host", "words"),
    [
        (lambda ca: ca.issue_cert("another.test"), NAME, "another host name"),
        (lambda ca: ca.issue_cert(NAME), "127.0.0.1", "not for this IP address"),
        (
            lambda ca: ca.issue_cert(NAME, not_after=datetime.now(UTC) - timedelta(days=1)),
            NAME,
            "has expired",
        ),
        (
            lambda ca: ca.issue_cert(NAME, not_before=datetime.now(UTC) + timedelta(days=1)),
            NAME,
            "not valid yet",
        ),
        (lambda _: trustme.CA().issue_cert(NAME), NAME, "issuer is not known"),
    ],
    ids=["wrong name", "name for an address", "expired", "not yet valid", "unknown authority"],
)
async def test_a_bad_certificate_is_refused(serve, trusting, authority, make, host, words):
    """Nothing of the request is sent, and the sentence says what is wrong with the certificate."""
    log = []
    receiver = await serve(answering(OK, log=log), ssl_context=serving(make(authority)))
    guard = EgressGuard(policy=EgressPolicy(allow=LOOPBACK), resolver=NamedResolver("127.0.0.1"))

    async with HttpEngine(guard=guard, ssl_context=trusting) as engine:
        with pytest.raises(TlsError, match=words) as caught:
            await post(engine, receiver, host=host)

    assert log == []
    assert caught.value.timings.tls_ms is not None


async def test_a_self_signed_certificate_is_refused(serve, sender, tmp_path):
    """The commonest mistake of a new receiver."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = self_signed(tmp_path)
    context.load_cert_chain(certificate, key)
    receiver = await serve(answering(OK), ssl_context=context)

    with pytest.raises(TlsError, match="self-signed"):
        await post(sender, receiver)


async def test_the_stock_sender_refuses_bad_certificates_too(serve, trusting, authority):
    """Both check the name."""
    receiver = await serve(answering(OK), ssl_context=serving(authority.issue_cert("another.test")))
    guard = EgressGuard(policy=EgressPolicy(allow=LOOPBACK), resolver=NamedResolver("127.0.0.1"))
    stock = StockSender(guard=guard, ssl_context=trusting)

    with pytest.raises(TlsError):
        await post(stock, receiver)

    await stock.aclose()


async def test_a_plain_port_is_a_tls_error(serve, sender):
    """https:// to an http:// port."""

    async def plain(peer):
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.closed_by_client()

    receiver = await serve(plain)

    with pytest.raises(TlsError, match=r"does not speak TLS|WRONG_VERSION"):
        await post(sender, receiver)


async def test_a_close_in_the_handshake_is_a_tls_error(serve, sender):
    """A proxy that hangs up on unknown names."""

    async def hang_up(peer):
        await peer.reader.read(1)

    receiver = await serve(hang_up)

    with pytest.raises(TlsError):
        await post(sender, receiver)


async def test_a_silent_handshake_ends_at_the_deadline(serve, sender):
    """The phase that was reached decides the class."""
    receiver = await serve(lambda peer: peer.closed_by_client())

    with pytest.raises(TlsError, match="did not end within"):
        await post(sender, receiver, deadline=in_seconds(0.3))

    await receiver.all_gone()


async def test_old_tls_is_refused(serve, sender, authority):
    """TLS 1.2 is the floor."""
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context = serving(authority.issue_cert(NAME), maximum_version=ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")
    receiver = await serve(answering(OK), ssl_context=context)

    with pytest.raises(TlsError):
        await post(sender, receiver)


async def test_tls_1_2_is_accepted(serve, sender, authority):
    """Many receivers are not on 1.3 yet."""
    context = serving(authority.issue_cert(NAME), maximum_version=ssl.TLSVersion.TLSv1_2)
    receiver = await serve(answering(OK), ssl_context=context)

    assert (await post(sender, receiver)).connection.tls_version == "TLSv1.2"


def self_signed(folder):
    """Write a certificate that signed itself, and its key; return their paths."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_path, key_path
