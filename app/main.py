"""The API: `create_app()` puts it together; nothing happens at import."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from app.access.authenticate import KeyCache, find_key
from app.api import problems
from app.api.idempotency import KeysInFlight
from app.api.middleware import RequestMiddleware
from app.api.rate_limit import RateLimiter
from app.core import logging
from app.core.runtime import Runtime
from app.core.settings import Settings, load_settings
from app.core.startup import open_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the ASGI application. Without settings it reads them from the environment and sets logging up.

    Raises:
        StartupError: a setting is missing or cannot be used. What the database says comes when it is started.

    """
    if settings is None:
        settings = load_settings()
        logging.configure(settings, process="api")
    app = FastAPI(
        title="Bellwire",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        middleware=[
            Middleware(
                RequestMiddleware,
                max_body_bytes=settings.max_body_bytes,
                max_batch_body_bytes=settings.max_batch_body_bytes,
            )
        ],
    )
    app.state.settings = settings
    app.state.find_key = find_key
    app.state.rate_limiter = RateLimiter(per_second=settings.api_rate)
    app.state.keys_in_flight = KeysInFlight()
    problems.install(app)
    for router in _routers():
        # Not include_router: it wraps each route once more, which every request would pay for.
        app.router.routes.extend(router.routes)
    return app


def _routers() -> list[APIRouter]:
    """Return the routers of all features, the busiest first: routes are tried in this order."""
    return []


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold what the process needs from its start to its end. A StartupError stops the start."""
    settings: Settings = app.state.settings
    runtime = Runtime.open(settings, name="api")
    try:
        await open_database(runtime)
        app.state.runtime = runtime
        app.state.key_cache = KeyCache(runtime.publish_engine, runtime.clock)
        yield
    finally:
        await runtime.close()
