"""Readiness as it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from app.api.schemas import Answer

if TYPE_CHECKING:
    from app.health.checks import Check

StateName = Literal["ok", "degraded", "failed"]


class CheckAnswer(Answer):
    """One thing that this process depends on."""

    status: StateName
    detail: str = Field(examples=["Postgres answers."])

    @classmethod
    def of(cls, check: Check) -> CheckAnswer:
        """Show a finding."""
        return cls(status=check.state.value, detail=check.detail)


class Checks(Answer):
    """All of them."""

    database: CheckAnswer
    migrations: CheckAnswer
    broker: CheckAnswer
    workers: CheckAnswer
    secrets: CheckAnswer


class Readiness(Answer):
    """Whether this process should get requests: unless something failed."""

    status: StateName = Field(description="The worst of the checks.")
    checks: Checks


class Liveness(Answer):
    """The process lives."""

    status: Literal["ok"] = "ok"
