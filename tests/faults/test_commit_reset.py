"""Row 10 of the fault tests: the connection to Postgres is reset while a publish is being committed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy.engine import make_url

from app.core import ids
from tests.faults.harness.proxy import TcpProxy
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.faults.harness.publisher import Accepted

pytestmark = pytest.mark.faults

BOUND_SECONDS = 60.0
EVENT_TYPE = "commit.reset"
# What an answer says where nobody knows.
UNKNOWN = "may or may not"
STORED = "SELECT id FROM events WHERE position(convert_to(%s, 'UTF8') IN data) > 0"


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One of each but beat."""
    async with open_scene(beats=0) as scene:
        await scene.stack.create_endpoint("/commit", event_types=["commit.*"])
        yield scene


@pytest.fixture(scope="module")
async def standing_proxy(scene: Scene) -> AsyncIterator[TcpProxy]:
    """Stands between the API and Postgres; the workers reach Postgres directly."""
    database = make_url(scene.stack.database_url)
    proxy = await TcpProxy("127.0.0.1", database.port or 0).start()
    scene.stack.api.kill()
    through = database.set(port=proxy.port).render_as_string(hide_password=False)
    scene.stack.start_api(BELLWIRE_DATABASE_URL=through)
    await scene.stack.wait_for_api()
    try:
        yield proxy
    finally:
        scene.stack.api.kill()
        await proxy.stop()


@pytest.fixture
async def proxy(scene: Scene, standing_proxy: TcpProxy) -> TcpProxy:
    """The proxy, with an API behind it that has its connections and knows the key and the subscriptions."""
    await standing_proxy.accept()

    async def works() -> bool:
        listed = await scene.stack.client.get("/v1/endpoints")
        return listed.is_success and await scene.publisher.publish(EVENT_TYPE) is not None

    await wait_until(works, seconds=BOUND_SECONDS, what="publishing works")
    scene.publisher.statuses.clear()
    scene.publisher.problems.clear()
    return standing_proxy


@pytest.mark.parametrize("only_one", [True, False], ids=["its connection", "all connections"])
@pytest.mark.parametrize("named", [True, False], ids=["with a uid", "without"])
async def test_a_publish_that_was_stored_is_answered_with_202(
    scene: Scene, proxy: TcpProxy, *, only_one: bool, named: bool
) -> None:
    """The API that lost the answer to its commit looks the event up: the publisher gets its 202, once and for all."""
    uid = {"uid": str(uuid4())} if named else {}
    mark = scene.publisher.make_mark()
    publish = await _publish_until_stored(scene, proxy, lost=[mark], mark=mark, **uid)

    cut = proxy.reset(only_withheld=only_one)
    accepted = await publish

    assert accepted is not None, scene.publisher.problems
    assert _stored(scene, mark) == [accepted.id]
    assert cut == 1 if only_one else cut > 1, "there was one connection only, so this showed nothing"
    if named:
        again = await _publish_again(scene, mark=mark, **uid)
        assert (again.id, again.replayed) == (accepted.id, True)
        assert _stored(scene, mark) == [accepted.id]
    await scene.checker.check()


@pytest.mark.parametrize("named", [True, False], ids=["with a uid", "without"])
async def test_an_answer_that_nobody_knows_says_so(scene: Scene, proxy: TcpProxy, *, named: bool) -> None:
    """Where Postgres stays out of reach the answer is an honest 503; the same uid again brings the stored event."""
    uid = {"uid": str(uuid4())} if named else {}
    mark = scene.publisher.make_mark()
    publish = await _publish_until_stored(scene, proxy, lost=[mark], mark=mark, **uid)

    await proxy.refuse()
    proxy.reset()
    accepted = await publish

    assert accepted is None
    _assert_says_unknown(scene)
    (event,) = _stored(scene, mark)
    await proxy.accept()
    if named:
        again = await _publish_again(scene, mark=mark, **uid)
        assert (again.id, again.replayed) == (event, True)
        assert _stored(scene, mark) == [event]
    await scene.receiver.wait_for(
        lambda: scene.receiver.of(event), seconds=BOUND_SECONDS, what="it was delivered all the same"
    )
    await scene.checker.check()


async def test_idempotency_key_after_a_lost_commit_gives_the_first_event(
    scene: Scene, proxy: TcpProxy
) -> None:
    """A request whose commit got through, but not its answer, is replayed by its Idempotency-Key."""
    key, mark = str(uuid4()), scene.publisher.make_mark()
    publish = await _publish_until_stored(scene, proxy, lost=[mark, "COMMIT"], mark=mark, key=key)

    proxy.reset()
    accepted = await publish

    assert accepted is None
    _assert_says_unknown(scene)
    (event,) = _stored(scene, mark)
    again = await _publish_again(scene, mark=mark, key=key)
    assert (again.id, again.replayed) == (event, True)
    assert _stored(scene, mark) == [event]
    await scene.checker.check()


async def test_idempotency_key_after_a_rollback_makes_the_event(scene: Scene, proxy: TcpProxy) -> None:
    """A request whose connection was lost before its commit left nothing, and its repetition is the first one."""
    key, mark = str(uuid4()), scene.publisher.make_mark()
    answered = proxy.withhold_answer(mark.encode())
    publish = asyncio.create_task(scene.publisher.publish(EVENT_TYPE, mark=mark, key=key))
    await asyncio.wait_for(answered.wait(), BOUND_SECONDS)

    proxy.reset()
    accepted = await publish

    assert accepted is None
    assert scene.publisher.statuses.keys() == {503}
    again = await _publish_again(scene, mark=mark, key=key)
    assert not again.replayed
    assert _stored(scene, mark) == [again.id]
    await scene.checker.check()


async def _publish_until_stored(
    scene: Scene, proxy: TcpProxy, *, lost: Sequence[str], mark: str, **publish: Any
) -> asyncio.Task[Accepted | None]:
    """Begin a publish, and return when Postgres has committed it and the API does not know."""
    answered = proxy.withhold_answer(*(piece.encode() for piece in lost))
    task = asyncio.create_task(scene.publisher.publish(EVENT_TYPE, mark=mark, **publish))
    await asyncio.wait_for(answered.wait(), BOUND_SECONDS)
    await wait_until(lambda: _stored(scene, mark), seconds=BOUND_SECONDS, what="the event is committed")
    assert not task.done()
    return task


async def _publish_again(scene: Scene, **publish: Any) -> Accepted:
    """Repeat a publish until it is accepted, as a publisher does."""
    accepted: list[Accepted] = []

    async def succeeds() -> bool:
        event = await scene.publisher.publish(EVENT_TYPE, **publish)
        accepted.extend([event] if event else [])
        return event is not None

    await wait_until(
        succeeds,
        seconds=BOUND_SECONDS,
        what="the repetition is accepted",
        state=lambda: scene.publisher.problems,
    )
    return accepted[0]


def _assert_says_unknown(scene: Scene) -> None:
    assert scene.publisher.statuses.keys() == {503}
    (problem,) = scene.publisher.problems
    assert UNKNOWN in json.loads(problem)["detail"]


def _stored(scene: Scene, mark: str) -> list[str]:
    """Return the ids of the stored events with this mark."""
    return [ids.to_text(ids.EVENT, event) for (event,) in scene.stack.sql(STORED, [mark])]
