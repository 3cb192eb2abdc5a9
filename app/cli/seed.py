"""`bellwire seed`: fill a workspace of a development instance with believable deliveries."""

from __future__ import annotations

import time
from typing import Annotated
from uuid import UUID

import typer

from app.cli.outcome import Refused, Unusable
from app.cli.output import AsJson, print_json, wants_json
from app.cli.surroundings import read_settings


def seed(
    *,
    deliveries: Annotated[int, typer.Option(min=1, help="Deliveries to add.")] = 2_000,
    attempts: Annotated[
        int | None, typer.Option(help="About so many attempts in all; left out, as many as the story needs.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=25, help="Spread over so many days up to now.")] = 7,
    number: Annotated[int, typer.Option("--seed", help="The same seed tells the same story.")] = 1,
    workspace: Annotated[
        str | None,
        typer.Option(metavar="WSP", help="The workspace to fill (wsp_...); the first one, if left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add made-up applications, endpoints and deliveries, with outages and dead letters, up to now.

    For looking at the dashboard and for measuring it; refused where BELLWIRE_ENVIRONMENT is production. Nothing is
    sent: what waits has an hour or a paused endpoint before it, and the hosts (.example) do not exist.
    """
    from app.core import ids
    from app.seeding.seed import Order
    from app.seeding.seed import seed as write

    settings = read_settings()
    if settings.environment == "production":
        raise Refused(
            "bellwire seed writes made-up deliveries, so it is refused in production. Run it against a database of "
            "your own, with BELLWIRE_ENVIRONMENT=development."
        )
    workspace_id: UUID | None = None
    if workspace is not None:
        workspace_id = ids.from_text(ids.WORKSPACE, workspace)
        if workspace_id is None:
            raise Unusable(f"{workspace!r} is not the id of a workspace; those begin with wsp_.")
    began = time.monotonic()
    order = Order(deliveries=deliveries, attempts=attempts, days=days, seed=number, workspace_id=workspace_id)
    made = write(settings, order, tell=lambda line: typer.echo(line, err=True))
    shown = {
        "workspace": ids.to_text(ids.WORKSPACE, made.workspace_id),
        "deliveries": made.deliveries,
        "attempts": made.attempts,
        "waiting": made.waiting,
        "undelivered": made.undelivered,
        "seconds": round(time.monotonic() - began, 1),
    }
    if wants_json(as_json):
        print_json(shown)
        return
    typer.echo(
        f"{made.deliveries:,} deliveries with {made.attempts:,} attempts in {shown['seconds']} s: {made.undelivered:,} "
        f"of them are dead or cancelled, {made.waiting:,} wait."
    )
