"""The tricky places of current-protocol §6 about tasks.

One test a row, named as the row is.
"""

from __future__ import annotations

from tests.machine.checked import EXTERNAL, FAR, ONE, TARGET, TTL, CheckedMachine, execute

from resonate_aio.protocol.records import PromiseState, TaskState
from resonate_aio.protocol.requests import PromiseCreate, PromiseSettle, TaskHeartbeat, TaskRef


def test_acquire_wrong_version(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    assert m.acquire(version=1).status == 409
    assert m.acquire(version=0).status == 200
    assert m.acquire(version=7).status == 409


def test_acquire_twice(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    assert m.acquire(version=0).status == 200
    assert m.acquire(version=0).status == 409
    assert m.acquire(version=1).status == 409


def test_acquire_a_task_whose_promise_is_past_its_deadline(m: CheckedMachine) -> None:
    m.create("t", TARGET, until=10)
    assert m.acquire(now=10).status == 409


def test_task_get_on_such_a_task(m: CheckedMachine) -> None:
    m.held(until=10)
    task = m.task(now=10)
    assert task.state is TaskState.FULFILLED
    assert (task.pid, task.ttl_ms, task.resumes, task.version) == (None, None, (), 1)


def test_task_create_on_pending_task(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    reply = m.held(now=3)
    assert reply.status == 200
    assert reply.task is not None
    assert (reply.task.state, reply.task.version) == (TaskState.ACQUIRED, 1)
    assert reply.task.expires_at_ms == 3 + TTL
    assert reply.task.acquired_at_ms == 3
    assert m.sent() == []


def test_task_create_on_acquired_suspended_halted(m: CheckedMachine) -> None:
    m.held()
    assert m.held().status == 409
    m.create("x", EXTERNAL)
    m.suspend("x")
    assert m.held().status == 409
    m.halt()
    assert m.held().status == 409


def test_task_create_on_fulfilled(m: CheckedMachine) -> None:
    m.held()
    m.complete()
    reply = m.held(now=1)
    assert reply.status == 200
    assert reply.task is not None
    assert reply.promise is not None
    assert (reply.task.state, reply.promise.value) == (TaskState.FULFILLED, ONE)


def test_task_create_over_an_untargeted_promise(m: CheckedMachine) -> None:
    m.create("t")
    assert m.held().status == 422


def test_task_create_existing_promise_expired(m: CheckedMachine) -> None:
    m.create("t", TARGET, until=10)
    reply = m.held(now=10)
    assert reply.status == 200
    assert reply.task is not None
    assert reply.task.state is TaskState.FULFILLED


def test_expired_lease_no_sweep_yet_still_valid(m: CheckedMachine) -> None:
    late = TTL + 1
    m.held()
    assert m.fence(PromiseCreate("t.1", FAR), now=late).status == 200
    assert m.heartbeat(now=late).status == 200
    assert m.task(now=late).expires_at_ms == late + TTL
    m.swept(late)
    assert m.complete(now=late).status == 200
    m.create("x", EXTERNAL, now=late)
    m.held("a")
    assert m.suspend("x", id="a", now=late).status == 200
    m.held("b")
    assert m.release(id="b", now=late).status == 200


def test_after_r5_fired(m: CheckedMachine) -> None:
    m.held()
    m.create("x", EXTERNAL)
    m.swept(TTL)
    assert m.task(now=TTL).state is TaskState.PENDING
    assert m.fence(PromiseCreate("t.1", FAR), now=TTL).status == 409
    assert m.suspend("x", now=TTL).status == 409
    assert m.complete(now=TTL).status == 409
    assert m.release(now=TTL).status == 409
    before = m.task(now=TTL)
    assert m.heartbeat(now=TTL).status == 200
    assert m.task(now=TTL) == before
    again = m.acquire(version=1, now=TTL)
    assert again.task is not None
    assert again.task.version == 2


def test_stale_holder_after_re_acquire_by_another(m: CheckedMachine) -> None:
    m.held()
    m.swept(TTL)
    m.acquire(version=1, now=TTL, pid="other")
    m.create("x", EXTERNAL)
    for reply in (
        m.complete(now=TTL),
        m.release(now=TTL),
        m.suspend("x", now=TTL),
        m.fence(PromiseSettle("x", PromiseState.RESOLVED), now=TTL),
    ):
        assert reply.status == 409
    assert m.get("x", now=TTL).state is PromiseState.PENDING


def test_fulfil_when_the_promise_was_settled_elsewhere(m: CheckedMachine) -> None:
    m.held()
    m.resolve("t", now=1)
    assert m.complete(now=2).status == 409


def test_fulfil_at_t_not_before_timeoutat(m: CheckedMachine) -> None:
    m.held(until=10)
    assert m.complete(now=10).status == 409
    assert m.get("t", now=10).state is PromiseState.TIMEDOUT


def test_fence_settle_on_an_already_settled_child(m: CheckedMachine) -> None:
    m.held()
    m.create("t.1")
    first = m.resolve("t.1", now=1)
    reply = m.fence(PromiseSettle("t.1", PromiseState.REJECTED), now=2)
    assert reply.status == 200
    assert reply.inner is not None
    assert (reply.inner.status, reply.inner.promise) == (200, first.promise)


def test_fence_settle_on_an_absent_child(m: CheckedMachine) -> None:
    m.held()
    reply = m.fence(PromiseSettle("t.1", PromiseState.RESOLVED))
    assert reply.status == 200
    assert reply.inner is not None
    assert reply.inner.status == 404


def test_fence_on_own_promise(m: CheckedMachine) -> None:
    assert m.fence(PromiseSettle("t", PromiseState.RESOLVED)).status == 400
    m.held()
    assert m.fence(PromiseCreate("t", FAR), version=9).status == 400


def test_fence_with_stale_version(m: CheckedMachine) -> None:
    m.held()
    m.changed.clear()
    assert m.fence(PromiseCreate("t.1", FAR), version=0).status == 409
    assert "t.1" not in m.promises
    assert m.changed == {}


def test_suspend_with_an_awaited_already_settled(m: CheckedMachine) -> None:
    held = m.held().task
    m.create("x", EXTERNAL)
    m.create("y", EXTERNAL)
    m.resolve("y")
    assert m.suspend("x", "y", now=5).status == 300
    assert m.task(now=5) == held
    assert m.callbacks == {}


def test_suspend_with_one_awaited_absent_and_another_settled(m: CheckedMachine) -> None:
    m.held()
    m.create("x", EXTERNAL)
    m.resolve("x")
    assert m.suspend("x", "absent").status == 422
    assert m.suspend("absent", "x").status == 422


def test_suspend_awaiting_an_internal_promise(m: CheckedMachine) -> None:
    m.held()
    m.create("x", {"resonate:scope": "local"})
    assert m.suspend("x").status == 422
    m.create("y", {"resonate:scope": "global"})
    assert m.suspend("y").status == 200


def test_suspend_with_duplicates_empty_self(m: CheckedMachine) -> None:
    for awaited in (("x", "x"), (), ("t",)):
        assert m.suspend(*awaited).status == 400


def test_awaited_settles_between_two_suspends_while_the_task_is_acquired(m: CheckedMachine) -> None:
    m.held()
    for id in ("x", "y", "z"):
        m.create(id, EXTERNAL)
    m.suspend("x", "y")
    m.resolve("x")
    m.acquire(version=1)
    m.resolve("y")
    assert m.task().resumes == ("y",)
    assert m.suspend("y", "z", version=2).status == 300
    assert m.task().resumes == ()
    assert m.suspend("z", version=2).status == 200


def test_resume(m: CheckedMachine) -> None:
    m.held()
    m.create("x", EXTERNAL)
    m.suspend("x")
    m.resolve("x", now=7)
    task = m.task(now=7)
    assert (task.state, task.version, task.resumes) == (TaskState.PENDING, 1, ("x",))
    assert m.sent() == [execute(version=1)]
    acquired = m.acquire(version=1, now=8).task
    assert acquired is not None
    assert (acquired.version, acquired.resumes) == (2, ())


def test_resume_of_an_awaiter_that_is_past_its_own_deadline(m: CheckedMachine) -> None:
    m.held(until=10)
    m.create("x", EXTERNAL)
    m.suspend("x")
    m.resolve("x", now=10)
    assert m.tasks["t"].state is TaskState.SUSPENDED
    assert m.sent() == []
    assert m.task(now=10).state is TaskState.FULFILLED


def test_resume_of_a_halted_task(m: CheckedMachine) -> None:
    m.held()
    m.create("x", EXTERNAL)
    m.suspend("x")
    m.halt()
    m.resolve("x")
    assert (m.task().state, m.task().resumes) == (TaskState.HALTED, ("x",))
    assert m.sent() == []
    assert m.resume().status == 200
    assert (m.task().state, m.task().resumes) == (TaskState.PENDING, ("x",))
    assert m.sent() == [execute(version=1)]


def test_heartbeat_with_foreign_pid_wrong_version_unknown_id(m: CheckedMachine) -> None:
    m.held()
    before = m.task()
    refs = (TaskRef("absent", 1), TaskRef("t", 0), TaskRef("t", 2))
    assert m.ask(TaskHeartbeat("p", refs), 5).status == 200
    assert m.heartbeat(pid="other", now=5).status == 200
    assert m.task() == before


def test_halt_on_a_task_whose_promise_has_expired(m: CheckedMachine) -> None:
    m.held(until=10)
    assert m.halt(now=10).status == 409


def test_continue_on_a_halted_task_whose_promise_has_expired(m: CheckedMachine) -> None:
    m.held(until=10)
    assert m.halt().status == 200
    assert m.resume(now=10).status == 409
    assert m.sent() == []


def test_halt_on_suspended(m: CheckedMachine) -> None:
    m.held()
    m.create("x", EXTERNAL)
    m.suspend("x")
    assert m.halt().status == 200
    assert m.halt().status == 200
    assert m.task().state is TaskState.HALTED
    assert m.callbacks == {"x": {"t": None}}


def test_release_keeps_resumes(m: CheckedMachine) -> None:
    m.held()
    m.create("x", EXTERNAL)
    m.callback("x")
    m.resolve("x")
    assert m.release().status == 200
    assert m.task().resumes == ("x",)
    assert m.sent() == [execute(version=1)]
    m.acquire(version=1)
    assert m.task().resumes == ()
