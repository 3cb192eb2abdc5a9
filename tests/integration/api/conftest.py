"""The API as its callers see it: the real application on a real database, called over ASGI."""

from __future__ import annotations

import base64
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import httpx2
import pytest

from app.core.settings import Settings
from app.main import create_app
from tests.integration.api.walls.watch import Watch, Watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from fastapi import FastAPI

ADMIN_KEY = "bw_bootstrap_key_of_the_tests_0123456789"
INSTANCE_KEY = "instance_key_of_the_tests_0123456789"
ENCRYPTION_KEY = base64.b64encode(bytes(32)).decode()


class MakeApp(Protocol):
    """Starts an application with other settings; it is stopped after the test."""

    async def __call__(self, **settings: Any) -> FastAPI: ...


class MakeKey(Protocol):
    """Makes an API key and returns its text."""

    async def __call__(self, role: str, **fields: Any) -> str: ...


@pytest.fixture
def settings(clean_database: str, broker_url: str) -> Settings:
    """What the application under test runs with."""
    return Settings(
        environment="development",
        database_url=clean_database,
        broker_url=broker_url,
        encryption_keys=ENCRYPTION_KEY,
        bootstrap_key=ADMIN_KEY,
        instance_key=INSTANCE_KEY,
        api_pool_size=10,
    )


@pytest.fixture
def watch(settings: Settings) -> Watch:
    """Finds statements of requests that could reach another workspace's rows; see `walls/watch.py`."""
    return Watch(settings.sqlalchemy_url.replace("+psycopg", "", 1))


@pytest.fixture
async def make_app(settings: Settings, watch: Watch) -> AsyncIterator[MakeApp]:
    """Starts applications; what they run is watched."""
    async with AsyncExitStack() as running:

        async def make(**changes: Any) -> FastAPI:
            app = create_app(settings.model_copy(update=changes))
            await running.enter_async_context(app.router.lifespan_context(app))
            watch.attach(app)
            return app

        yield make
    assert watch.faults == [], "\n\n".join(dict.fromkeys(watch.faults))


@pytest.fixture
async def app(make_app: MakeApp) -> FastAPI:
    """The application, started."""
    return await make_app()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """Calls the application without a key; give one with `headers(key)`."""
    async with open_client(app) as opened:
        yield opened


@asynccontextmanager
async def open_client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an application."""
    transport = httpx2.ASGITransport(app=Watched(app), client=("192.0.2.7", 1234))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


@pytest.fixture
def admin_key() -> str:
    """The key of the first workspace's admin."""
    return ADMIN_KEY


@pytest.fixture
def admin(admin_key: str) -> dict[str, str]:
    """The headers of the first workspace's admin."""
    return headers(admin_key)


@pytest.fixture
def instance() -> dict[str, str]:
    """The headers of the instance's operator."""
    return headers(INSTANCE_KEY)


@pytest.fixture
def make_key(client: httpx2.AsyncClient, admin: dict[str, str]) -> MakeKey:
    """Makes API keys in the first workspace."""

    async def make(role: str, **fields: Any) -> str:
        body = {"name": f"A {role}", "role": role} | fields
        answer = await client.post("/v1/api-keys", json=body, headers=admin)
        assert answer.status_code == 201, answer.text
        return answer.json()["key"]

    return make


@pytest.fixture
async def other_admin(client: httpx2.AsyncClient, instance: dict[str, str]) -> dict[str, str]:
    """The headers of the admin of another workspace."""
    answer = await client.post("/v1/workspaces", json={"name": "Other"}, headers=instance)
    assert answer.status_code == 201, answer.text
    return headers(answer.json()["api_key"])


def headers(key: str) -> dict[str, str]:
    """The headers that carry a key."""
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(name="headers")
def _headers() -> Callable[[str], dict[str, str]]:
    """Makes the headers that carry a key."""
    return headers


@pytest.fixture(name="open_client")
def _open_client() -> Callable[[FastAPI], AbstractAsyncContextManager[httpx2.AsyncClient]]:
    """Opens a client of an application."""
    return open_client
