"""The API: `create_app()` puts it together; nothing happens at import."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from app.access import router as access
from app.access.authenticate import KeyCache, find_key
from app.access.oidc_provider import OidcProvider
from app.access.passwords import Passwords
from app.access.sessions import find_session
from app.access.workspaces import ensure_first_workspace
from app.account import router as account
from app.account.confirm import router as confirm
from app.api import documents, problems, unmatched
from app.api.auth_failures import AuthFailures
from app.api.idempotency import KeysInFlight
from app.api.middleware import RequestMiddleware
from app.api.rate_limit import RateLimiter
from app.applications import router as applications
from app.attempts import router as attempts
from app.core import logging
from app.core.runtime import Runtime
from app.core.settings import Settings, load_settings
from app.core.startup import open_database
from app.core.wake_ups import WakeUps
from app.dashboard.live.watch import ChangeWatch
from app.dashboard.router import routers as dashboard
from app.deliveries import router as deliveries
from app.endpoints import router as endpoints
from app.event_types import router as event_types
from app.events import router as events_router
from app.events.feed_watch import FeedWatch
from app.events.filter_errors import report_filter_errors
from app.events.ingest import IngestBuffer
from app.events.matching import EventMatcher
from app.events.meter import PublishMeter
from app.events.publish_route import PublishRoute
from app.events.routing import RoutingCache
from app.health import router as health
from app.health.checks import HealthChecks
from app.sign_in import router as sign_in
from app.sign_in.oidc import router as oidc
from app.stats import router as stats
from app.subscriptions import router as subscriptions
from app.users import router as users

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send


class Application(FastAPI):
    """FastAPI, but that a POST to a path of publishing goes to its route at once.

    On the way there lie six layers that do nothing for it, and cost more than the publish itself.
    """

    def __init__(self, *, publishing: dict[str, ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._publishing = publishing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the start and the end of the process."""
        if scope["type"] == "http" and scope["method"] == "POST":
            route = self._publishing.get(scope["path"])
            if route is not None:
                scope["app"] = self
                await route(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the ASGI application. Without settings it reads them from the environment and sets logging up.

    Raises:
        StartupError: a setting is missing or cannot be used. What the database says comes when it is started.

    """
    if settings is None:
        settings = load_settings()
        logging.configure(settings, process="api")
    around: dict[str, Any] = {
        "max_body_bytes": settings.max_body_bytes,
        "max_batch_body_bytes": settings.max_batch_body_bytes,
        "over_tls": settings.public_url.startswith("https://"),
    }
    app = Application(
        publishing={
            route.path: RequestMiddleware(route.answer, **around)
            for route in events_router.publishing.routes
            if isinstance(route, PublishRoute)
        },
        title="Bellwire",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        middleware=[Middleware(RequestMiddleware, **around)],
    )
    app.state.settings = settings
    app.state.find_key = find_key
    app.state.find_session = find_session
    app.state.rate_limiter = RateLimiter(per_second=settings.api_rate)
    app.state.auth_failures = AuthFailures(per_minute=settings.auth_failures_per_minute)
    app.state.publish_meter = PublishMeter(settings)
    app.state.keys_in_flight = KeysInFlight()
    problems.install(app)
    unmatched.install(app)
    for router in _routers():
        # Not include_router: it wraps each route once more, which every request would pay for.
        app.router.routes.extend(router.routes)
    return app


def _routers() -> list[APIRouter]:
    """Return the routers of all features, the busiest first: routes are tried in this order."""
    return [
        events_router.publishing,
        events_router.reading,
        deliveries.router,
        attempts.router,
        endpoints.router,
        subscriptions.router,
        stats.router,
        applications.router,
        event_types.router,
        access.router,
        users.router,
        access.exports,
        health.router,
        documents.router,
        sign_in.router,
        sign_in.assets,
        oidc.router,
        account.router,
        confirm.router,
        *dashboard(),
    ]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold what the process needs from its start to its end. A StartupError stops the start."""
    settings: Settings = app.state.settings
    runtime = Runtime.open(settings, name="api")
    try:
        await open_database(runtime)
        await ensure_first_workspace(runtime)
        app.state.runtime = runtime
        app.state.health = HealthChecks(runtime)
        app.state.passwords = passwords = Passwords()
        app.state.oidc = oidc_provider = OidcProvider(settings) if settings.oidc_issuer else None
        app.state.key_cache = KeyCache(runtime.publish_engine, runtime.clock)
        try:
            async with _publishing(app, runtime):
                yield
        finally:
            passwords.close()
            if oidc_provider is not None:
                await oidc_provider.close()
    finally:
        await runtime.close()


@asynccontextmanager
async def _publishing(app: FastAPI, runtime: Runtime) -> AsyncIterator[None]:
    """Hold what publishing needs; at the end what waits is written before the connections close."""
    settings = runtime.settings
    waker = WakeUps(settings, engine=runtime.engine)
    matcher = EventMatcher(
        routing=RoutingCache(runtime.publish_engine, max_age_seconds=settings.max_age_seconds)
    )
    ingest = IngestBuffer(
        engine=runtime.publish_engine,
        clock=runtime.clock,
        matcher=matcher,
        settings=settings,
        wake=waker.wake,
    )
    app.state.waker, app.state.matcher, app.state.ingest = waker, matcher, ingest
    app.state.feed_watch = feed_watch = FeedWatch(runtime.engine)
    app.state.change_watch = change_watch = ChangeWatch(
        runtime.engine, idle_seconds=settings.session_idle_hours * 3600
    )
    waker.start()
    reporter = asyncio.create_task(report_filter_errors(runtime, matcher))
    try:
        yield
    finally:
        await feed_watch.stop()
        await change_watch.stop()
        await ingest.close()
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)
        matcher.close()
        await waker.stop()
