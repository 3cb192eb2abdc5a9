"""Endpoints for the scenarios: a few through the API, thousands through the tables.

Ten thousand requests for an endpoint each would take minutes, one after the other, since each takes the
application's lock. The rows written here are those that the API writes, made by the same functions, with
secrets really sealed; what is left out is the audit log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine, pool, select, update
from sqlalchemy.orm import Session

from app.core import ids
from app.core.clock import DatabaseClock
from app.core.crypto import Keyring
from app.endpoints.secrets import new_secret_row
from app.models import Application, Endpoint, EndpointRuntime
from app.subscriptions.service import new_subscription

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from bench.rig import Rig

ENDPOINTS = 20
CREATED = 201
# From here on through the tables.
MANY = 200


async def create_endpoints(rig: Rig, number: int = ENDPOINTS) -> list[str]:
    """Create endpoints with default limits, each subscribed to a type of its own; return the types."""
    rig.sets += 1
    types = [f"bench.s{rig.sets}.n{n}" for n in range(number)]
    urls = [f"http://127.0.0.1:{rig.receiver_port}/{event_type}" for event_type in types]
    if number >= MANY:
        write_endpoints(
            rig.stack.postgres.url,
            keys=rig.stack.environment["BELLWIRE_ENCRYPTION_KEYS"].split(","),
            secret=rig.secret,
            targets=[(url, [event_type]) for url, event_type in zip(urls, types, strict=True)],
        )
    else:
        for url, event_type in zip(urls, types, strict=True):
            await _create(rig, url=url, event_type=event_type)
    return types


async def create_aside(rig: Rig, name: str) -> str:
    """Create the endpoint of a bad neighbour, answered as `Rig.receiver` is told; return its type."""
    rig.sets += 1
    event_type = f"aside.s{rig.sets}"
    created = await _create(
        rig, url=f"http://127.0.0.1:{rig.receiver_port}/aside/{name}", event_type=event_type
    )
    rig.asides.append(created)
    return event_type


def write_endpoints(
    url: str, *, keys: Sequence[str], secret: str, targets: Sequence[tuple[str, list[str]]]
) -> list[UUID]:
    """Write endpoints (URL, event types) with default limits into the oldest default application; return their ids.

    Raises:
        ValueError: the API was never started on this database, so there is no application.

    """
    keyring, clock = Keyring(keys), DatabaseClock()
    engine = create_engine(url, poolclass=pool.NullPool)
    with Session(engine, expire_on_commit=False) as session, session.begin():
        default = session.scalars(
            select(Application).where(Application.uid == "default").order_by(Application.id).limit(1)
        ).one_or_none()
        if default is None:
            raise ValueError(
                "The database has no workspace yet, so there is nowhere for endpoints. Start the API once (`make run` "
                "or `bellwire api`): it makes the first one. Then run this again."
            )
        session.execute(
            update(Application)
            .where(Application.id == default.id)
            .values(routing_version=Application.routing_version + 1)
            .execution_options(synchronize_session=False)
        )
        endpoints = [
            Endpoint(
                id=ids.uuid7(clock.unix_ms()),
                workspace_id=default.workspace_id,
                application_id=default.id,
                url=target,
            )
            for target, _ in targets
        ]
        session.add_all(endpoints)
        session.flush()
        for endpoint, (_, event_types) in zip(endpoints, targets, strict=True):
            session.add_all(
                [
                    EndpointRuntime(
                        endpoint_id=endpoint.id,
                        workspace_id=default.workspace_id,
                        application_id=default.id,
                    ),
                    new_secret_row(secret, endpoint_id=endpoint.id, clock=clock, keyring=keyring),
                    new_subscription(endpoint, clock=clock, event_types=event_types, content_filter=None),
                ]
            )
    engine.dispose()
    return [endpoint.id for endpoint in endpoints]


async def _create(rig: Rig, *, url: str, event_type: str) -> UUID:
    answer = await rig.stack.client.post(
        "/v1/endpoints", json={"url": url, "event_types": [event_type], "secret": rig.secret}
    )
    created = ids.from_text(ids.ENDPOINT, answer.json().get("id", ""))
    if answer.status_code != CREATED or created is None:
        raise RuntimeError(f"An endpoint could not be created: {answer.text}")
    return created
