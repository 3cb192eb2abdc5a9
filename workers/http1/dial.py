"""Open a socket to one of the vetted addresses, and speak TLS on it under the host's name.

Nothing here knows a name server: it gets addresses only. The certificate is checked against the name.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from workers.http1.connection import Connection, TlsFacts
from workers.http1.errors import (
    ConnectRefused,
    ConnectTimeout,
    EngineFault,
    EngineSaturated,
    SendError,
    TlsError,
)

MAX_ADDRESSES = 6  # tried for one connection

# OpenSSL's X509_V_ERR numbers.
_CERTIFICATE_FAULTS = {
    9: "The certificate is not valid yet.",
    10: "The certificate has expired.",
    18: "The certificate is self-signed.",
    19: "The certificate's chain ends in a root that is not trusted.",
    20: "The certificate's issuer is not known: the chain is incomplete, or its authority is not trusted.",
    21: "The certificate's issuer is not known: the chain is incomplete, or its authority is not trusted.",
    23: "The certificate was revoked.",
    62: "The certificate is for another host name.",
    64: "The certificate is not for this IP address.",
}
_TLS_FAULTS = {
    "WRONG_VERSION_NUMBER": "The port does not speak TLS; is it an http:// address?",
    "HTTP_REQUEST": "The port does not speak TLS; is it an http:// address?",
    "UNSUPPORTED_PROTOCOL": "The receiver speaks TLS 1.1 or older only; TLS 1.2 is needed.",
    "TLSV1_ALERT_PROTOCOL_VERSION": "The receiver and Bellwire have no TLS version in common.",
    "NO_CIPHERS_AVAILABLE": "The receiver and Bellwire have no cipher in common.",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "The receiver refused the TLS handshake.",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "The receiver asks for a client certificate; Bellwire has none.",
}
_OWN_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def make_ssl_context(*, ca_file: Path | None = None) -> ssl.SSLContext:
    """Return the context for receivers: TLS 1.2 or newer, verified against the system's roots or `ca_file`."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial_one(address: str, *, port: int, deadline: float) -> socket.socket:
    """Connect to one address. Raises ConnectRefused, ConnectTimeout, or EngineSaturated."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    patience = deadline - time.monotonic()
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        async with asyncio.timeout(max(patience, 0)):
            await loop.sock_connect(sock, (address, port))
    except BaseException as error:
        if sock is not None:
            sock.close()
        if isinstance(error, TimeoutError):
            # ETIMEDOUT of the system is one too, and may come before the deadline.
            raise ConnectTimeout("The address did not answer the connection request in time.") from None
        if isinstance(error, OSError):
            raise _explain(error, family=family) from None
        raise
    return sock


async def dial_first(
    addresses: list[str],
    *,
    port: int,
    deadline: float,
    next_address_seconds: float,
    dial: Callable[..., Awaitable[socket.socket]] = dial_one,
) -> tuple[socket.socket, str]:
    """Connect to the first address that answers, starting the next when one is slow (RFC 8305).

    Returns the connected socket and its address. Raises what `dial` raises; of several SendErrors the one that says
    most.
    """
    waiting = list(addresses[:MAX_ADDRESSES])
    if len(waiting) == 1:
        return await dial(waiting[0], port=port, deadline=deadline), waiting[0]
    tasks: dict[asyncio.Task[socket.socket], str] = {}
    failure: SendError | None = None
    try:
        while waiting or tasks:
            if waiting:
                address = waiting.pop(0)
                tasks[asyncio.ensure_future(dial(address, port=port, deadline=deadline))] = address
            done, _ = await asyncio.wait(
                tasks,
                timeout=next_address_seconds if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                address = tasks.pop(task)
                try:
                    return task.result(), address
                except SendError as error:
                    # A refusal says more than a silence.
                    if failure is None or isinstance(error, ConnectRefused):
                        failure = error
    finally:
        await _drop(tasks)
    raise failure or ConnectRefused("There is no address to connect to.")


async def start_plain(
    connection: Connection, *, loop: asyncio.AbstractEventLoop, sock: socket.socket
) -> None:
    """Hand the socket to the event loop."""
    await loop.create_connection(lambda: connection, sock=sock)


async def start_tls(
    connection: Connection,
    *,
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    context: ssl.SSLContext,
    host: str,
    deadline: float,
) -> None:
    """Make the TLS handshake for `host` and hand the connection to the event loop; raises TlsError."""
    patience = deadline - time.monotonic()
    try:
        async with asyncio.timeout(max(patience, 0)):
            transport, _ = await loop.create_connection(
                lambda: connection, sock=sock, ssl=context, server_hostname=host
            )
    except TimeoutError:
        raise TlsError(f"The TLS handshake did not end within {max(patience, 0):.1f} s.") from None
    except ssl.SSLCertVerificationError as error:
        fault = _CERTIFICATE_FAULTS.get(error.verify_code, f"{error.verify_message}.")
        raise TlsError(f"The certificate of {host} was not accepted. {fault}") from None
    except ssl.SSLError as error:
        fault = _TLS_FAULTS.get(error.reason or "", f"OpenSSL says: {error.reason or error}.")
        raise TlsError(f"The TLS handshake with {host} failed. {fault}") from None
    except OSError:
        raise TlsError(f"{host} closed the connection during the TLS handshake.") from None
    session: ssl.SSLObject = transport.get_extra_info("ssl_object")
    certificate = session.getpeercert() or {}
    ends = certificate.get("notAfter")
    connection.secured(
        TlsFacts(
            version=session.version(),
            certificate_expires_at=int(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None,
        )
    )


def _explain(error: OSError, *, family: int) -> Exception:
    if error.errno in _OWN_SHORTAGES:
        return EngineSaturated(
            f"No socket can be opened ({error.strerror}). Raise the limit of open files, or send less at once."
        )
    if error.errno == errno.EADDRNOTAVAIL and family == socket.AF_INET:
        return EngineSaturated("No local port is free for a new connection. Send less at once.")
    if error.errno == errno.ECONNREFUSED:
        return ConnectRefused("The connection was refused: nothing is listening on this port.")
    return ConnectRefused(f"The address cannot be reached ({error.strerror or error}).")


async def _drop(tasks: "dict[asyncio.Task[socket.socket], str]") -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, SendError, EngineFault):
            # It may have connected in the moment that another did.
            (await task).close()
