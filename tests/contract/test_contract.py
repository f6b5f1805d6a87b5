"""What every store promises, wherever it keeps its promises (S66): one suite for all of them."""

from __future__ import annotations

import asyncio

import pytest
from tests.contract.backends import Able
from tests.contract.conftest import OpenStore
from tests.contract.drive import (
    EXTERNAL,
    SOON_S,
    external,
    hold,
    retaken,
    settled,
)
from tests.stores.drive import (
    RESOLVED,
    acquire,
    child,
    create,
    fence_create,
    fence_settle,
    fulfill,
    held,
    now_ms,
    ok,
    settle,
    step,
)

from resonate_aio.protocol.records import Promise, PromiseState, Value
from resonate_aio.protocol.requests import (
    PromiseGet,
    PromiseSettle,
    TaskCreate,
    TaskRelease,
)
from resonate_aio.stores.base import LOST, Store


async def test_create_get_and_settle_once(store: Store, root: str) -> None:
    """Law 1."""
    assert (await store.call(PromiseGet(root))).status == 404
    created = (await ok(store, external(root))).promise
    assert created is not None
    assert (await ok(store, external(root))).promise == created
    ended = (await ok(store, settle(root, "7"))).promise
    assert ended is not None
    assert (ended.state, ended.value.data) == (RESOLVED, "7")
    assert (await ok(store, settle(root, "8"))).promise == ended
    assert (await ok(store, PromiseGet(root))).promise == ended
    assert (await ok(store, external(root))).promise == ended


@pytest.mark.parametrize("state", [RESOLVED, PromiseState.REJECTED, PromiseState.CANCELED])
async def test_every_way_to_settle(store: Store, root: str, state: PromiseState) -> None:
    await ok(store, external(root))
    value = Value({"k": "v"}, '{"a":[1,null,"\u00fc"]}')
    ended = (await ok(store, PromiseSettle(root, state, value))).promise
    assert ended is not None
    assert (ended.state, ended.value) == (state, value)
    assert ended.settled_at_ms is not None


@pytest.mark.parametrize(
    "suffix", ["/a/b", "%2F", " x", "\u00fc\u20ac", "?a=b#c", "+", "..", "\U0001f600"]
)
async def test_ids_are_kept_as_they_are(store: Store, root: str, suffix: str) -> None:
    """N1 to N6: slashes, percent signs and letters of every kind are legal."""
    id = root + suffix
    made = (await ok(store, external(id))).promise
    assert made is not None
    assert made.id == id
    assert (await ok(store, settle(id, '"x"'))).promise is not None
    found = (await ok(store, PromiseGet(id))).promise
    assert found is not None
    assert (found.id, found.value.data) == (id, '"x"')


async def test_every_field_comes_back(store: Store, root: str) -> None:
    param = Value({"k": "v"}, '{"x":1.5,"y":"\U0001f600"}')
    request = create(root, target=None, tags={**EXTERNAL, "t": "1"}, param=param)
    created = (await ok(store, request)).promise
    assert created is not None
    assert (created.id, created.state, created.param) == (root, PromiseState.PENDING, param)
    assert created.timeout_at_ms == request.timeout_at_ms
    assert created.tags["t"] == "1"
    assert abs(created.created_at_ms - now_ms()) < 10_000


async def test_a_deadline_in_the_past_is_born_settled(store: Store, root: str) -> None:
    late = (await ok(store, external(root, timeout_at_ms=now_ms() - 1000))).promise
    assert late is not None
    assert late.state is PromiseState.TIMEDOUT


async def test_a_leaf_is_created_and_settled_under_its_lease(store: Store, root: str) -> None:
    version = await held(store, root)
    record = await step(store, root, version, 1, "42")
    assert (record.id, record.state, record.value.data) == (f"{root}.1", RESOLVED, "42")
    read = (await ok(store, PromiseGet(f"{root}.1"))).promise
    assert read is not None
    assert (read.state, read.value) == (record.state, record.value)
    again = await fence_settle(store, root, version, f"{root}.1", "other")
    assert isinstance(again, Promise)
    assert again.value.data == "42"
    end = await fulfill(store, root, version, "9")
    assert isinstance(end, Promise)
    assert end.value.data == "9"
    assert (await store.call(TaskRelease(root, version))).status in {200, 404, 409}
    assert (await settled(store, root)).value.data == "9"


async def test_a_create_meets_the_record_that_stands(store: Store, root: str) -> None:
    """S20: the store answers with the record, not with what was asked."""
    version = await hold(store, root)
    first = await step(store, root, version, 1, "1")
    version = await retaken(store, store, root, version)
    standing = await fence_create(store, root, version, child(f"{root}.1", root))
    assert isinstance(standing, Promise)
    assert (standing.state, standing.value) == (first.state, first.value)


async def test_a_call_is_settled_after_its_create_however_soon(store: Store, root: str) -> None:
    """S8, S10: a call may be cut before its create was answered; each goes its own way there."""
    version = await held(store, root)
    ids = [f"{root}.{n}" for n in range(11, 41)]
    answers = []
    for id in ids:  # none of them waits for the one before it
        answers.append(asyncio.ensure_future(fence_create(store, root, version, child(id, root))))
        answers.append(asyncio.ensure_future(fence_settle(store, root, version, id, "1")))
    for id, answer in zip(ids, (await asyncio.gather(*answers))[1::2], strict=True):
        assert isinstance(answer, Promise)
        assert (answer.id, answer.state) == (id, RESOLVED)


async def test_what_is_not_held_is_not_written(store: Store, root: str) -> None:
    """Law 7: this store never held it, or holds it at another version."""
    version = await held(store, root)
    for stale in (version - 1, version + 1):
        assert await fence_create(store, root, stale, child(f"{root}.3", root)) is LOST
        assert await fence_settle(store, root, stale, f"{root}.2") is LOST
        assert await fulfill(store, root, stale) is LOST
    await ok(store, TaskRelease(root, version))
    assert await fence_create(store, root, version, child(f"{root}.3", root)) is LOST
    assert await fulfill(store, root, version) is LOST
    assert await fence_create(store, "none", 1, child("none.1", "none")) is LOST
    assert (await store.call(PromiseGet(f"{root}.3"))).status == 404


async def test_one_holder(open_store: OpenStore, able: Able, root: str) -> None:
    """Law 7: what another process took over is lost to the one that held it before."""
    if not (able.shares and able.fences and able.leases):
        pytest.skip("this store cannot be reached by two, or does not fence (S66)")
    first, second = await open_store(), await open_store()
    version = await held(first, root)
    assert (await second.call(acquire(root, version))).status == 409
    thief = TaskRelease(root, version)
    await ok(second, thief)  # as a lapsed lease leaves it
    task = (await ok(second, acquire(root, version, "q"))).task
    assert task is not None
    assert task.version == version + 1
    assert await fence_create(first, root, version, child(f"{root}.1", root)) is LOST
    assert await fulfill(first, root, version) is LOST
    assert await fulfill(second, root, version + 1, "2") is not LOST
    assert (await settled(first, root)).value.data == "2"


async def test_claims_and_refusals(store: Store, root: str) -> None:
    await held(store, root)
    assert (await store.call(TaskCreate("p", 1000, create(root)))).status == 409
    assert (await store.call(acquire(f"{root}-none", 1))).status in {404, 409}
    assert (await store.call(create(""))).status == 400


async def test_text_that_is_not_unicode_is_refused(store: Store, root: str) -> None:
    for request in (create("\ud800"), create(root, tags={"k": "a\udfffb"}), PromiseGet("\ud800")):
        reply = await store.call(request)
        assert reply.status == 400
        assert reply.error


async def test_cancelling_a_caller_never_cancels_the_request(store: Store, root: str) -> None:
    caller = asyncio.create_task(store.call(external(root)))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    async with asyncio.timeout(SOON_S):
        while (await store.call(PromiseGet(root))).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
