"""Switches of an endpoint and moves of its circuit, as buttons."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from app.api.browser import PageRoute, SignedInVisit, Visit, see
from app.core.context import Caller
from app.core.errors import Invalid
from app.dashboard.page import abilities_of, act
from app.endpoints import circuit, queries, service, switches
from app.endpoints.targets import shown_url

Act = Callable[[AsyncSession, Caller, str], Awaitable[Any]]

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.post("/endpoints/{endpoint}/pause")
async def post_pause(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Pause an endpoint."""
    return await _move(request, visit, endpoint, done="paused", what=_paused(paused=True))


@router.post("/endpoints/{endpoint}/resume")
async def post_resume(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Resume an endpoint, or let a FIFO line go on that a dead delivery holds up."""
    return await _move(request, visit, endpoint, done="resumed", what=_paused(paused=False), wake=True)


@router.post("/endpoints/{endpoint}/enable")
async def post_enable(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Enable an endpoint."""
    return await _move(request, visit, endpoint, done="enabled", what=_enabled(enabled=True), wake=True)


@router.post("/endpoints/{endpoint}/disable")
async def post_disable(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Disable an endpoint."""
    return await _move(request, visit, endpoint, done="disabled", what=_enabled(enabled=False))


@router.post("/endpoints/{endpoint}/circuit/probe")
async def post_probe(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Let the next delivery go as a probe."""
    return await _move(request, visit, endpoint, done="probed", what=circuit.probe_circuit, wake=True)


@router.post("/endpoints/{endpoint}/circuit/close")
async def post_close(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Close the circuit."""
    return await _move(request, visit, endpoint, done="closed", what=circuit.close_circuit, wake=True)


@router.post("/endpoints/{endpoint}/circuit/open")
async def post_open(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Hold the circuit open."""
    return await _move(request, visit, endpoint, done="held", what=circuit.open_circuit)


@router.post("/endpoints/{endpoint}/delete")
async def post_delete(endpoint: str, visit: SignedInVisit, request: Request) -> Response:
    """Delete an endpoint whose host somebody has typed."""
    abilities_of(request, visit).require_administer()
    async with act(request, visit) as (session, caller):
        found = await queries.require_endpoint(session, caller, endpoint)
        wanted = host_of(shown_url(found.url, caller))
        if visit.form.get("typed", "").strip().lower() != wanted:
            raise Invalid(
                f"The endpoint was not deleted: type its host, {wanted}, to show that you mean this one. Go back and "
                "try again."
            )
        await service.delete_endpoint(session, caller, endpoint)
    return see("/dashboard/endpoints?done=deleted")


def host_of(url: str) -> str:
    """Return the part of a URL that a person types to delete its endpoint."""
    return url.partition("://")[2].partition("/")[0].partition("?")[0].lower()


def _paused(*, paused: bool) -> Act:
    async def switch(session: AsyncSession, caller: Caller, endpoint: str) -> object:
        return await switches.set_paused(session, caller, endpoint, paused=paused)

    return switch


def _enabled(*, enabled: bool) -> Act:
    async def switch(session: AsyncSession, caller: Caller, endpoint: str) -> object:
        return await switches.set_enabled(session, caller, endpoint, enabled=enabled)

    return switch


async def _move(
    request: Request, visit: Visit, endpoint: str, *, done: str, what: Act, wake: bool = False
) -> Response:
    abilities_of(request, visit).require_operate()
    async with act(request, visit) as (session, caller):
        await what(session, caller, endpoint)
    if wake:
        request.app.state.waker.wake()
    return see(f"/dashboard/endpoints/{endpoint}?done={done}")
