"""Requests that no route takes: 401 before 404 and 405 below `/v1/`, so that only key holders learn what is there."""

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from app.api.auth import admit_any_key
from app.api.problems import problem_response

_API = "/v1/"
_NOT_FOUND, _METHOD_NOT_ALLOWED = 404, 405


def install(app: FastAPI) -> None:
    """Let an application answer what no route takes."""
    app.add_exception_handler(_NOT_FOUND, _handle)
    app.add_exception_handler(_METHOD_NOT_ALLOWED, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    found: Exception = error
    if isinstance(error, HTTPException) and error.status_code == _METHOD_NOT_ALLOWED:
        # Starlette names the methods of the first route only, and a path has one for each method.
        allowed = ", ".join(sorted(_methods_at(request)))
        found = HTTPException(_METHOD_NOT_ALLOWED, headers={"Allow": allowed})
    if request.url.path.startswith(_API):
        try:
            await admit_any_key(request)
        except Exception as refusal:  # noqa: BLE001 - whatever it is, it is the answer
            found = refusal
    return problem_response(found, instance=request.url.path, request_id=request.state.request_id)


def _methods_at(request: Request) -> set[str]:
    found = [
        route
        for route in request.app.routes
        if isinstance(route, APIRoute) and route.matches(request.scope)[0] is not Match.NONE
    ]
    # `/v1/events/batch` is not an event: where a path is a route's own, those with a parameter in its place do not count.
    fewest = min(len(route.param_convertors) for route in found)
    return {
        method for route in found if len(route.param_convertors) == fewest for method in route.methods or ()
    }
