"""The SQL that moves deliveries, held against the table of legal moves: neither has a move that the other lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.deliveries import recover
from app.deliveries.cancel import cancel_pending
from app.deliveries.record import Settle
from app.deliveries.state import MOVES, Cause, QueueRow, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from tests.integration.engine.making import Workshop

QUEUE_ROWS = (QueueRow.READY, QueueRow.LEASED, QueueRow.SCHEDULED)
# What a person asks for goes through `require_move` in the service; replays are not built yet.
ELSEWHERE = {Cause.RETRY, Cause.REPLAY, Cause.RESOLVED}

Seen = tuple[State | None, State, QueueRow]


async def place(shop: Workshop, delivery_id: UUID) -> tuple[State, QueueRow]:
    """Where a delivery is, as people see it: a leased queue row makes it `sending`."""
    row = await shop.queue_row(delivery_id)
    stored = State((await shop.delivery(delivery_id)).state)
    if row is None:
        return stored, QueueRow.DELETED
    queue_row = QUEUE_ROWS[row.state]
    return (State.SENDING if queue_row is QueueRow.LEASED else stored), queue_row


async def moved(shop: Workshop, delivery_id: UUID, move: Awaitable[object]) -> Seen:
    """Make a move and tell what it was."""
    source, _ = await place(shop, delivery_id)
    await move
    return (source, *(await place(shop, delivery_id)))


async def accepted(shop: Workshop) -> Seen:
    (delivery,) = await shop.publish(await shop.endpoint())
    return (None, *(await place(shop, delivery)))


async def claimed(shop: Workshop) -> Seen:
    endpoint = await shop.endpoint()
    (delivery,) = await shop.publish(endpoint)
    return await moved(shop, delivery, shop.claim(endpoint))


def settled(settle: Settle) -> Callable[[Workshop], Awaitable[Seen]]:
    async def scenario(shop: Workshop) -> Seen:
        endpoint = await shop.endpoint()
        await shop.publish(endpoint)
        (item,) = await shop.claim(endpoint)
        changes = {"delay_seconds": 60.0} if settle is Settle.RETRY else {}
        return await moved(shop, item.id, shop.finish(item, settle, **changes))

    return scenario


def lost(*, alone: bool) -> Callable[[Workshop], Awaitable[Seen]]:
    async def scenario(shop: Workshop) -> Seen:
        endpoint = await shop.endpoint()
        await shop.publish(endpoint)
        (item,) = await shop.claim(endpoint)
        if alone:
            await shop.sql(
                "UPDATE delivery_queue SET alone = true, lost_alone_count = 2 WHERE id = :id", id=item.id
            )
        await shop.end_leases()

        async def sweep() -> None:
            async with shop.engine.connect() as connection:
                await recover.sweep_lost_leases(connection, unix_ms=shop.clock.unix_ms())

        return await moved(shop, item.id, sweep())

    return scenario


async def cancelled_while_sending(shop: Workshop) -> Seen:
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    (item,) = await shop.claim(endpoint)
    async with shop.transaction() as connection:
        await cancel_pending(connection, workspace_id=shop.workspace_id, delivery_id=item.id)
    return await moved(shop, item.id, shop.finish(item))


async def cancelled_while_waiting(shop: Workshop) -> Seen:
    (delivery,) = await shop.publish(await shop.endpoint())

    async def cancel() -> None:
        async with shop.transaction() as connection:
            await cancel_pending(connection, workspace_id=shop.workspace_id, delivery_id=delivery)

    return await moved(shop, delivery, cancel())


async def expired(shop: Workshop) -> Seen:
    (delivery,) = await shop.publish(await shop.endpoint())
    await shop.sql(
        "UPDATE delivery_queue SET deadline_at = now() - interval '1 second' WHERE id = :id", id=delivery
    )

    async def expire() -> None:
        async with shop.engine.connect() as connection:
            await recover.expire(connection)

    return await moved(shop, delivery, expire())


WRITERS = [
    (Cause.ACCEPTED, accepted),
    (Cause.CLAIMED, claimed),
    (Cause.DELIVERED, settled(Settle.SUCCEEDED)),
    (Cause.FAILED, settled(Settle.RETRY)),
    (Cause.EXHAUSTED, settled(Settle.DEAD)),
    (Cause.HANDED_BACK, settled(Settle.RELEASED)),
    (Cause.LEASE_LOST, lost(alone=False)),
    (Cause.POISONOUS, lost(alone=True)),
    (Cause.CANCEL, cancelled_while_sending),
    (Cause.CANCEL, cancelled_while_waiting),
    (Cause.EXPIRED, expired),
]


@pytest.mark.parametrize(("cause", "scenario"), WRITERS)
async def test_each_writer_makes_a_legal_move(
    shop: Workshop, cause: Cause, scenario: Callable[[Workshop], Awaitable[Seen]]
) -> None:
    """Source, target and queue row of what the SQL does are a row of the table, for this cause."""
    seen = await scenario(shop)

    assert seen in {(move.source, move.target, move.queue_row) for move in MOVES if move.cause is cause}


async def test_each_move_of_the_engine_has_a_writer(shop: Workshop) -> None:
    """No row of the table is there in words only."""
    seen = {(cause, *await scenario(shop)) for cause, scenario in WRITERS}

    table = {
        (move.cause, move.source, move.target, move.queue_row)
        for move in MOVES
        if move.cause not in ELSEWHERE
    }
    assert seen == table
