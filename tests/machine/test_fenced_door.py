"""The fenced door answers as the requests do, without request objects."""

from __future__ import annotations

from itertools import product

import pytest
from tests.machine.checked import EXTERNAL, FAR, ONE, TARGET, TIMER, CheckedMachine, execute

from resonate_aio.protocol.records import EMPTY, Promise, PromiseState, TaskState
from resonate_aio.protocol.requests import PromiseCreate, PromiseSettle


def asked(id: str, now: int, until: int, tags: dict[str, str]) -> Promise:
    return Promise(id, PromiseState.PENDING, until, now, tags=tags, owner="t")


def scene(state: str, child: str) -> CheckedMachine:
    m = CheckedMachine()
    if state != "absent":
        m.held(until=50)
    if state == "released":
        m.release()
    elif state == "settled":
        m.resolve("t")
    if child != "absent":
        m.create("c", EXTERNAL if child == "external" else {}, until=30)
    if child == "settled":
        m.resolve("c", value=ONE)
    m.changed.clear()
    m.outbox.clear()
    return m


SCENES = list(
    product(
        ("absent", "held", "released", "settled"),
        ("absent", "internal", "external", "settled"),
        (0, 1),
        (5, 30, 50),
    )
)


@pytest.mark.parametrize(("state", "child", "version", "now"), SCENES)
@pytest.mark.parametrize("tags", [{}, TIMER, TARGET], ids=["internal", "timer", "targeted"])
def test_fence_create(state: str, child: str, version: int, now: int, tags: dict[str, str]) -> None:
    for until in (20, FAR):
        door, desk = scene(state, child), scene(state, child)
        promise = asked("c", now, until, tags)
        answer = door.checked(lambda: door.fence_create("t", version, promise, now), now)  # noqa: B023
        reply = desk.fence(PromiseCreate("c", until, tags=tags, owner="t"), version, now=now)
        assert answer == (reply.inner and reply.inner.promise)
        assert door.promises.get("c") == desk.promises.get("c")
        assert door.tasks.get("c") == desk.tasks.get("c")
        # A refused door looks at nothing; a request projects first and tells the holder.
        desk.outbox.pop(("held", "t"), None)
        assert door.outbox == desk.outbox
        if answer is not None and child == "absent" and until > now:
            assert answer is promise


@pytest.mark.parametrize(("state", "child", "version", "now"), SCENES)
def test_fence_settle(state: str, child: str, version: int, now: int) -> None:
    door, desk = scene(state, child), scene(state, child)
    answer = door.checked(
        lambda: door.fence_settle("t", version, "c", PromiseState.REJECTED, ONE, now), now
    )
    reply = desk.fence(PromiseSettle("c", PromiseState.REJECTED, ONE), version, now=now)
    assert answer == (reply.inner and reply.inner.promise)
    assert door.promises.get("c") == desk.promises.get("c")


@pytest.mark.parametrize(("state", "child", "version", "now"), SCENES)
def test_fulfill(state: str, child: str, version: int, now: int) -> None:
    door, desk = scene(state, child), scene(state, child)
    answer = door.checked(lambda: door.fulfill("t", version, PromiseState.RESOLVED, ONE, now), now)
    assert answer == desk.complete(version=version, now=now).promise
    if answer is not None:
        assert door.tasks["t"].state is TaskState.FULFILLED


def test_a_holder_cannot_settle_its_own_promise_by_a_fence(m: CheckedMachine) -> None:
    m.held()
    assert m.fence_settle("t", 1, "t", PromiseState.RESOLVED, ONE, 0) is None
    assert m.get("t").state is PromiseState.PENDING


def test_a_late_created_at_is_put_right(m: CheckedMachine) -> None:
    m.held()
    answer = m.checked(lambda: m.fence_create("t", 1, asked("c", 3, FAR, {}), 4), 4)
    assert answer == asked("c", 4, FAR, {})


def test_a_fenced_child_settles_with_its_waiters_in_one_step(m: CheckedMachine) -> None:
    m.held("other")
    m.held("t")
    m.fence_create("t", 1, asked("c", 0, FAR, EXTERNAL), 0)
    m.suspend("c", id="other")
    m.changed.clear()
    m.checked(lambda: m.fence_settle("t", 1, "c", PromiseState.RESOLVED, EMPTY, 5), 5)
    assert list(m.changed) == ["c", "other"]
    assert m.sent() == [execute("other", 1)]
