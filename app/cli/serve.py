"""Running the API under uvicorn, with one sentence for each way in which it can fail to start."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
import uvloop

from app.cli.bounded_http import BoundedHttpProtocol
from app.cli.outcome import Unavailable
from app.core import garbage, logging
from app.core.errors import BellwireError
from app.main import create_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fastapi import FastAPI

    from app.core.settings import Settings

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Message, Receive, Send], Awaitable[None]]

# Connections that the kernel holds while the process is busy; publishers come in bursts.
BACKLOG = 2_048
# A publish may wait for a flush (10 s); the feed holds requests for 30 s, pages of the dashboard hold theirs for hours,
# and both are told to let go earlier.
STOP_SECONDS = 35

_log = structlog.get_logger(__name__)


def serve_api(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests under way.

    Raises:
        Unavailable: the port cannot be listened on.
        BellwireError: the application refused to start.

    """
    logging.configure(settings, process="api")
    listener = listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    app = create_app(settings)
    application = _Startup(app)
    server = _Server(
        uvicorn.Config(
            application,
            interface="asgi3",
            http=BoundedHttpProtocol,
            ws="none",
            lifespan="on",
            access_log=False,  # One line per request is the application's own, without query strings.
            log_config=None,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_SECONDS,
            backlog=BACKLOG,
        ),
        let_go=lambda: _let_go(app),
    )
    try:
        with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))
    except SystemExit:
        # uvicorn leaves by itself when the application does not start; the reason is said by us.
        if application.error is None:
            raise
    finally:
        listener.close()
    if application.error is not None:
        raise application.error


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound; port 0 takes a free one.

    Raises:
        Unavailable: the address cannot be listened on.

    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise Unavailable(
            f"The address {host!r} cannot be found, so the API cannot listen there. Correct BELLWIRE_HOST; "
            "127.0.0.1 is this machine only, 0.0.0.0 all its addresses."
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        # Somebody may be bound and not listen yet: only this tells them apart.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from None
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """uvicorn, but that it says where it listens, and lets go of requests that only wait before it stops."""

    def __init__(self, config: uvicorn.Config, *, let_go: Callable[[], None]) -> None:
        super().__init__(config)
        self._let_go = let_go

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Before uvicorn waits for the requests under way: one that holds the feed may wait for 30 s, a page for ever.
        self._let_go()
        await super().shutdown(sockets=sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        garbage.settle()
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            _log.info("api.listening", host=host, port=port)


def _let_go(app: FastAPI) -> None:
    """End what waits for news: readers of the feed, and pages of the dashboard that are open."""
    for name in ("feed_watch", "change_watch"):
        watch = getattr(app.state, name, None)
        if watch is not None:
            watch.close()


class _Startup:
    """The application, but that an expected error at its start is kept, and said without a traceback."""

    def __init__(self, application: Application) -> None:
        self.error: BellwireError | None = None
        self._application = application

    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._lifespan(scope, receive, send)
        return self._application(scope, receive, send)

    async def _lifespan(self, scope: Message, receive: Receive, send: Send) -> None:
        async def keep_error(message: Message) -> None:
            # Starlette sends this from its `except` block, with the traceback as the message.
            if message["type"] == "lifespan.startup.failed" and isinstance(sys.exception(), BellwireError):
                message = {**message, "message": ""}
            await send(message)

        try:
            await self._application(scope, receive, keep_error)
        except BellwireError as error:
            self.error = error
            raise


def _cannot_listen(host: str, port: int, error: OSError) -> Unavailable:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"Port {port} of {host} is in use by another program, so the API cannot listen there. Stop that "
            f"program (`ss -ltnp 'sport = :{port}'` names it), or choose another port with --port or BELLWIRE_PORT."
        )
    if error.errno == errno.EACCES:
        return Unavailable(
            f"The system does not let this user listen on port {port}. Choose one above 1023 with --port or "
            "BELLWIRE_PORT, and put a reverse proxy in front of it."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return Unavailable(
            f"{host} is not an address of this machine, so the API cannot listen there. Correct BELLWIRE_HOST; "
            "127.0.0.1 is this machine only, 0.0.0.0 all its addresses."
        )
    return Unavailable(
        f"The API cannot listen on {host}:{port}: {error.strerror}. Correct BELLWIRE_HOST and BELLWIRE_PORT."
    )
