"""`/healthz`, `/readyz` and `/metrics`: for probes and Prometheus, without a key."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.core import metrics
from app.health.checks import HealthChecks, State
from app.health.schemas import CheckAnswer, Checks, Liveness, Readiness

router = APIRouter(tags=["Health"])


@router.get("/healthz")
async def get_liveness() -> Liveness:
    """Answer as long as the process lives, whatever it depends on."""
    return Liveness()


@router.get(
    "/readyz", responses={503: {"model": Readiness, "description": "The database or its schema fails."}}
)
async def get_readiness(request: Request, response: Response) -> Readiness:
    """Tell whether requests should come here. A broker or workers that are away only degrade: nothing is lost."""
    checks: HealthChecks = request.app.state.health
    found = await checks.run()
    states = {check.state for check in found.values()}
    worst = next(state for state in (State.FAILED, State.DEGRADED, State.OK) if state in states)
    if worst is State.FAILED:
        response.status_code = 503
    return Readiness(
        status=worst.value,
        checks=Checks(**{name: CheckAnswer.of(check) for name, check in found.items()}),
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def get_metrics() -> Response:
    """This process's metrics in Prometheus' text format."""
    return Response(metrics.render(), media_type=metrics.MEDIA_TYPE)
