"""The guards of current-protocol §5 that the tricky places leave out: schema, absence, order."""

from __future__ import annotations

import pytest
from tests.machine.checked import EXTERNAL, FAR, TARGET, TTL, CheckedMachine

from resonate_aio.machine.state import WATCHED
from resonate_aio.protocol.addresses import is_address
from resonate_aio.protocol.records import PromiseState, TaskState
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
    Unblock,
)

RESOLVE = PromiseSettle("t", PromiseState.RESOLVED)
TARGETED = PromiseCreate("t", FAR, tags=TARGET)

BAD: list[Request] = [
    PromiseGet(""),
    PromiseGet("a\x00b"),
    PromiseCreate("", FAR),
    PromiseCreate("a\x00", FAR),
    PromiseCreate("a", -1),
    PromiseCreate("a", 2**63),
    PromiseCreate("a", FAR, tags={"resonate:target": ""}),
    PromiseCreate("a", FAR, tags={"resonate:delay": "5"}),
    PromiseCreate("a", FAR, tags=TARGET | {"resonate:delay": "soon"}),
    PromiseCreate("a", FAR, tags=TARGET | {"resonate:delay": "-1"}),
    PromiseCreate("a", FAR, tags=TARGET | {"resonate:delay": "٣"}),
    PromiseCreate("a", 10, tags=TARGET | {"resonate:delay": "10"}),
    PromiseCreate("a", FAR, tags=TARGET | {"resonate:delay": "9" * 5_000}),
    PromiseSettle("", PromiseState.RESOLVED),
    PromiseRegisterCallback("", "t"),
    PromiseRegisterListener("x", "nowhere"),
    PromiseRegisterListener("x", "://rest"),
    PromiseRegisterListener("x", "poll://"),
    PromiseRegisterListener("x", "not a url://x"),
    PromiseRegisterListener("x", "poll://a\x00"),
    PromiseSearch(limit=0),
    PromiseSearch(limit=1_001),
    TaskSearch(limit=0),
    ScheduleSearch(limit=0),
    TaskGet(""),
    TaskCreate("p", 0, TARGETED),
    TaskCreate("", TTL, TARGETED),
    TaskCreate("p", TTL, PromiseCreate("t", FAR)),
    TaskCreate("p", TTL, PromiseCreate("t", FAR, tags=TARGET | {"resonate:delay": "5"})),
    TaskAcquire("t", 0, "p", 0),
    TaskAcquire("t", 0, "", TTL),
    TaskAcquire("t", -1, "p", TTL),
    TaskFence("t", -1, PromiseCreate("x", FAR)),
    TaskHeartbeat("", ()),
    TaskSuspend("t", 0, (PromiseRegisterCallback("x", "other"),)),
    TaskFulfill("t", 0, PromiseSettle("other", PromiseState.RESOLVED)),
    TaskFulfill("t", 0, PromiseSettle("t", PromiseState.TIMEDOUT)),
    TaskRelease("", 0),
    TaskHalt(""),
    TaskContinue(""),
    ScheduleCreate("", "* * * * *", "x", 1),
    ScheduleCreate("s", "", "x", 1),
    ScheduleCreate("s", "* * * * *", "", 1),
    ScheduleCreate("s", "* * * * *", "x", -1),
    ScheduleCreate("s", "* * * * *", "x", 1, promise_tags={"resonate:target": ""}),
    ScheduleCreate("s", "* * * *", "x", 1),
    ScheduleCreate("s", "every day", "x", 1),
    ScheduleCreate("s", "0 0 30 2 *", "x", 1),
    ScheduleCreate("s", "*/" + "9" * 5_000 + " * * * *", "x", 1),
    ScheduleGet(""),
    ScheduleDelete(""),
]


@pytest.mark.parametrize("request_", BAD, ids=repr)
def test_schema_faults_answer_400_before_state_is_read(
    m: CheckedMachine, request_: Request
) -> None:
    reply = m.ask(request_, 0)
    assert reply.status == 400
    assert reply.error
    assert not m.changed
    assert not m.changed_schedules


ABSENT: list[Request] = [
    PromiseGet("x"),
    PromiseSettle("x", PromiseState.RESOLVED),
    PromiseRegisterCallback("x", "t"),
    PromiseRegisterListener("x", "poll://any@g"),
    TaskGet("t"),
    TaskAcquire("t", 0, "p", TTL),
    TaskFence("t", 0, PromiseCreate("x", FAR)),
    TaskSuspend("t", 0, (PromiseRegisterCallback("x", "t"),)),
    TaskFulfill("t", 0, RESOLVE),
    TaskRelease("t", 0),
    TaskHalt("t"),
    TaskContinue("t"),
    ScheduleGet("s"),
    ScheduleDelete("s"),
]


@pytest.mark.parametrize("request_", ABSENT, ids=repr)
def test_an_absent_id_answers_404(m: CheckedMachine, request_: Request) -> None:
    reply = m.ask(request_, 0)
    assert reply.status == 404
    assert reply.error
    assert not m.changed


def test_an_untargeted_promise_has_no_task(m: CheckedMachine) -> None:
    m.create("t")
    assert m.ask(TaskGet("t"), 0).status == 404
    assert m.acquire().status == 404


def test_a_callback_needs_an_awaiter_with_a_task(m: CheckedMachine) -> None:
    m.create("x", EXTERNAL)
    m.create("untargeted", EXTERNAL)
    assert m.callback("x", "absent").status == 422
    assert m.callback("x", "untargeted").status == 422


def test_the_action_in_a_fence_is_judged_after_the_fence(m: CheckedMachine) -> None:
    action = PromiseSettle("x", PromiseState.PENDING)
    assert m.fence(action).status == 404
    m.held()
    assert m.fence(action, version=2).status == 409
    reply = m.fence(action)
    assert reply.status == 200
    assert reply.inner is not None
    assert reply.inner.status == 400


def test_a_fence_does_not_extend_the_lease(m: CheckedMachine) -> None:
    before = m.held().task
    m.fence(PromiseCreate("t.1", FAR), now=5)
    assert m.task(now=5) == before


def test_an_empty_heartbeat_extends_every_lease_of_the_pid(m: CheckedMachine) -> None:
    m.held("a", pid="p")
    m.held("b", pid="p")
    m.held("c", pid="other")
    assert m.ask(TaskHeartbeat("p", ()), 5).status == 200
    assert [m.tasks[id].expires_at_ms for id in "abc"] == [5 + TTL, 5 + TTL, TTL]


def test_settling_a_held_promise_fences_its_holder_out(m: CheckedMachine) -> None:
    m.held()
    m.resolve("t")
    assert m.task().state is TaskState.FULFILLED
    assert m.release().status == 409


def test_continue_needs_a_halted_task(m: CheckedMachine) -> None:
    m.held()
    assert m.resume().status == 409


def test_a_task_is_told_of_everything_that_settled_while_it_was_busy(m: CheckedMachine) -> None:
    m.held()
    for id in ("x", "y"):
        m.create(id, EXTERNAL)
        m.callback(id)
        m.resolve(id)
    assert m.task().resumes == ("x", "y")


def test_the_shell_hears_once_of_a_promise_it_watches_internal_or_not(m: CheckedMachine) -> None:
    m.create("x")
    m.create("y", EXTERNAL, until=10)
    m.watched.update(x=None, y=None)
    m.resolve("x")
    m.swept(10)
    assert m.outbox == {("watched", id): (WATCHED, Unblock(m.promises[id])) for id in ("x", "y")}
    assert m.watched == {}


def test_preload_holds_the_rest_of_the_branch(m: CheckedMachine) -> None:
    branch = {"resonate:branch": "t"}
    for id in ("t.2", "t.1"):
        m.create(id, branch)
    m.create("other", {"resonate:branch": "other"})
    held = m.ask(TaskCreate("p", TTL, PromiseCreate("t", FAR, tags=TARGET | branch)), 0)
    assert [promise.id for promise in held.preload] == ["t.1", "t.2"]
    m.create("x", EXTERNAL)
    m.resolve("x")
    assert [promise.id for promise in m.suspend("x").preload] == ["t.1", "t.2"]
    m.release()
    assert [promise.id for promise in m.acquire(version=1).preload] == ["t.1", "t.2"]


def test_searches_page_in_id_order(m: CheckedMachine) -> None:
    for id in ("c", "a", "b"):
        m.create(id, TARGET | {"k": id})
        m.ask(ScheduleCreate(id, "* * * * *", "x", 1, promise_tags={"k": id}), 0)
    first = m.ask(PromiseSearch(limit=2), 0)
    assert ([p.id for p in first.promises], first.cursor) == (["a", "b"], "b")
    rest = m.ask(PromiseSearch(limit=2, cursor=first.cursor), 0)
    assert ([p.id for p in rest.promises], rest.cursor) == (["c"], None)
    tagged = m.ask(PromiseSearch(tags={"k": "b"}), 0)
    assert [p.id for p in tagged.promises] == ["b"]
    tasks = m.ask(TaskSearch(limit=2), 0)
    assert ([t.id for t in tasks.tasks], tasks.cursor) == (["a", "b"], "b")
    schedules = m.ask(ScheduleSearch(limit=2), 0)
    assert ([s.id for s in schedules.schedules], schedules.cursor) == (["a", "b"], "b")
    assert [s.id for s in m.ask(ScheduleSearch(tags={"k": "c"}), 0).schedules] == ["c"]


@pytest.mark.parametrize("address", ["poll://any@g/p", "http://h/", "nats://resonate.recv.g"])
def test_addresses(address: str) -> None:
    assert is_address(address)
