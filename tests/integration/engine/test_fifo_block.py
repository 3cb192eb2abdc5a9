"""FIFO endpoints whose line waits behind a dead delivery (`fifo_on_dead: block`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.deliveries import ranks, recover
from app.deliveries.claim import claim
from app.deliveries.record import Settle

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.engine.making import Workshop


async def line(shop: Workshop, *, block: bool = True, count: int = 3) -> tuple[UUID, list[UUID]]:
    """Make a FIFO endpoint with a line of deliveries."""
    endpoint = await shop.endpoint(
        fifo=True, fifo_on_dead="block" if block else "skip", runtime={"block_on_dead": block}
    )
    return endpoint, await shop.publish(endpoint, count, fifo=True)


async def blocked_by(shop: Workshop, endpoint: UUID) -> UUID | None:
    """Return the dead delivery that the line waits for."""
    return (await shop.runtime(endpoint)).fifo_blocked_by


async def send(shop: Workshop, endpoint: UUID, settle: Settle = Settle.SUCCEEDED) -> UUID | None:
    """Claim the next one of the line and settle it; return which it was."""
    claimed = await shop.claim(endpoint)
    for item in claimed:
        await shop.finish(item, settle, delay_seconds=0.0 if settle is Settle.RETRY else None)
    return claimed[0].id if claimed else None


async def expire(shop: Workshop) -> None:
    """Settle what is too old."""
    async with shop.engine.connect() as connection:
        await recover.expire(connection)


async def age(shop: Workshop, *deliveries: UUID) -> None:
    """Let the deadline of these pass."""
    await shop.sql(
        "UPDATE delivery_queue SET deadline_at = now() - interval '1 second' WHERE id = ANY(:ids)",
        ids=list(deliveries),
    )


@pytest.mark.parametrize("block", [True, False])
async def test_dead_head_blocks_or_is_skipped(shop: Workshop, *, block: bool) -> None:
    """With `block` nothing behind a dead head goes, and a worker leaves the lane alone; with `skip` the line goes on."""
    endpoint, (first, second, _) = await line(shop, block=block)

    await send(shop, endpoint, Settle.DEAD)

    assert await blocked_by(shop, endpoint) == (first if block else None)
    async with shop.engine.connect() as connection:
        claimed, (lane,) = await claim(connection, [(endpoint, 10)], margin_seconds=10, worker="w")
    assert [item.id for item in claimed] == ([] if block else [second])
    assert lane.blocked is block


async def test_poisonous_head_blocks(shop: Workshop) -> None:
    """A delivery that ends its workers is a dead head like any other."""
    endpoint, (first, *_) = await line(shop)
    await shop.claim(endpoint)
    await shop.sql("UPDATE delivery_queue SET alone = true, lost_alone_count = 2 WHERE state = 1")
    await shop.end_leases()

    async with shop.engine.connect() as connection:
        await recover.sweep_lost_leases(connection, unix_ms=shop.clock.unix_ms())

    assert (await shop.delivery(first)).state == "dead"
    assert await blocked_by(shop, endpoint) == first
    assert await shop.claim(endpoint) == []


async def test_lost_lease_of_a_head_does_not_block(shop: Workshop) -> None:
    """A worker that died is no end of a delivery: the head is sent again."""
    endpoint, (first, *_) = await line(shop)
    await shop.claim(endpoint)
    await shop.end_leases()

    async with shop.engine.connect() as connection:
        await recover.sweep_lost_leases(connection, unix_ms=shop.clock.unix_ms())

    assert await blocked_by(shop, endpoint) is None
    assert await send(shop, endpoint) == first


async def test_expired_head_blocks(shop: Workshop) -> None:
    """A head that grew too old blocks the line, though it was never sent."""
    endpoint, (first, second, _) = await line(shop)
    await age(shop, first, second)

    await expire(shop)

    assert (await shop.delivery(second)).state == "dead"
    assert await blocked_by(shop, endpoint) == first


@pytest.mark.parametrize("sending", [True, False])
async def test_expiry_in_the_line_does_not_block_its_head(shop: Workshop, *, sending: bool) -> None:
    """While one before it waits or is being sent, a delivery that grew too old holds up nobody."""
    endpoint, (first, second, third) = await line(shop)
    claimed = await shop.claim(endpoint) if sending else []
    await age(shop, second)

    await expire(shop)

    assert await blocked_by(shop, endpoint) is None
    for item in claimed:
        await shop.finish(item)
    rest = [await send(shop, endpoint) for _ in range(2)]
    assert [item for item in rest if item] == ([third] if sending else [first, third])


async def test_expiry_of_a_skipping_line_blocks_nothing(shop: Workshop) -> None:
    """Without the setting the line goes on, and the wait of its head ends."""
    endpoint, (first, second, _) = await line(shop, block=False)
    (head,) = await shop.claim(endpoint)
    await shop.finish(head, Settle.RETRY, delay_seconds=60.0)
    await age(shop, first)

    await expire(shop)

    assert await blocked_by(shop, endpoint) is None
    assert await send(shop, endpoint) == second


async def test_first_dead_one_stays_the_cause(shop: Workshop) -> None:
    """What dies behind it, and a test that fails, do not take its place."""
    endpoint, (first, second, _) = await line(shop)
    await send(shop, endpoint, Settle.DEAD)
    await age(shop, second)
    await expire(shop)
    await shop.sql("UPDATE delivery_queue SET rank = :forced, trigger = 3", forced=ranks.FORCED)
    (test,) = await shop.claim(endpoint)
    await shop.finish(test, Settle.DEAD, test=True, counts=False)

    assert await blocked_by(shop, endpoint) == first


async def test_failing_test_does_not_block(shop: Workshop) -> None:
    """A test is in no line."""
    endpoint, _ = await line(shop, count=1)
    await shop.sql("UPDATE delivery_queue SET rank = :forced, trigger = 3", forced=ranks.FORCED)
    (test,) = await shop.claim(endpoint)

    await shop.finish(test, Settle.DEAD, test=True, counts=False)

    assert await blocked_by(shop, endpoint) is None


async def test_retry_after_of_a_blocked_line_is_another_hold(shop: Workshop) -> None:
    """A hold of the receiver that ends does not let the line go on."""
    endpoint, _ = await line(shop)
    (head,) = await shop.claim(endpoint)
    await shop.finish(head, Settle.DEAD, hold_seconds=60.0)

    await shop.sql("UPDATE endpoint_runtime SET held_until = now() - interval '1 second'")

    assert await shop.claim(endpoint) == []
