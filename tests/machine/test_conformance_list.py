"""C1 to C12 of current-protocol §6, by name."""

from __future__ import annotations

from typing import get_args

from tests.machine.checked import EXTERNAL, FAR, HERE, TARGET, TIMER, TTL, CheckedMachine, execute

from resonate_aio.machine.deadlines import PROMISE
from resonate_aio.machine.machine import _HANDLERS
from resonate_aio.protocol.records import PromiseState, TaskState
from resonate_aio.protocol.requests import (
    PromiseSearch,
    PromiseSettle,
    Request,
    TaskSearch,
)


def test_c1_deadlines_are_armed_for_external_promises_no_more_no_fewer(m: CheckedMachine) -> None:
    external = {
        "targeted": TARGET,
        "timer": TIMER,
        "external": EXTERNAL,
        "global": {"resonate:scope": "global"},
    }
    internal = {
        "bare": {},
        "local": {"resonate:scope": "local"},
        "branch": {"resonate:branch": "b", "resonate:timer": "false"},
    }
    for id, tags in {**external, **internal}.items():
        m.create(id, tags, until=10)
    assert m.deadlines.armed[PROMISE].keys() == external.keys()
    m.swept(9)
    assert all(promise.state is PromiseState.PENDING for promise in m.promises.values())
    m.swept(10)
    assert {
        id for id, p in m.promises.items() if p.state is not PromiseState.PENDING
    } == external.keys()
    assert m.next_due_ms() is None
    assert m.get("bare", now=10).state is PromiseState.TIMEDOUT


def test_c2_no_callback_on_an_internal_promise(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    m.create("x")
    assert m.callback("x").status == 422
    assert m.callbacks == {}


def test_c3_no_listener_on_an_internal_promise(m: CheckedMachine) -> None:
    m.create("x")
    assert m.listen("x").status == 422
    assert m.listeners == {}


def test_c4_task_create_halt_and_continue_judge_the_projected_promise(m: CheckedMachine) -> None:
    for id in ("a", "b", "c"):
        m.held(id, until=10)
    m.halt("c")
    created = m.held("a", now=10)
    assert created.status == 200
    assert created.task is not None
    assert created.task.state is TaskState.FULFILLED
    assert m.halt("b", now=10).status == 409
    assert m.resume("c", now=10).status == 409


def test_c5_lease_expiry_and_dispatch_judge_the_projected_promise(m: CheckedMachine) -> None:
    m.held("leased", until=TTL)
    m.create("offered", TARGET, until=30_000)
    m.create("delayed", TARGET | {"resonate:delay": "29999"}, until=30_000)
    m.sent()
    m.swept(TTL)
    assert m.sent() == []
    assert all(task.state is TaskState.FULFILLED for task in m.tasks.values())


def test_c6_resume_skips_a_dead_awaiter(m: CheckedMachine) -> None:
    m.held("dead", until=10)
    m.held("live")
    m.create("x", EXTERNAL, until=10)
    m.suspend("x", id="dead")
    m.suspend("x", id="live")
    m.swept(10)
    assert m.sent() == [execute("live", 1)]


def test_c7_heartbeat_skips_a_task_whose_promise_is_dead(m: CheckedMachine) -> None:
    before = m.held(until=10).task
    m.heartbeat(now=10)
    assert m.tasks["t"] == before


def test_c8_every_response_is_projected(m: CheckedMachine) -> None:
    branch = {"resonate:branch": "b"}
    m.create("a", TARGET | branch, until=20)
    m.create("b", branch, until=10)
    acquired = m.acquire("a", now=10)
    assert [promise.state for promise in acquired.preload] == [PromiseState.TIMEDOUT]
    found = m.ask(PromiseSearch(state=PromiseState.TIMEDOUT), 20)
    assert [promise.id for promise in found.promises] == ["a", "b"]
    assert m.ask(PromiseSearch(state=PromiseState.PENDING), 20).promises == ()
    tasks = m.ask(TaskSearch(state=TaskState.FULFILLED), 20).tasks
    assert [(task.id, task.pid) for task in tasks] == [("a", None)]
    m.create("x", EXTERNAL, until=10)
    m.held("t", until=FAR)
    for reply in (
        m.create("b", now=20),
        m.resolve("b", now=20),
        m.listen("x", HERE, now=20),
        m.callback("x", now=20),
    ):
        assert reply.promise is not None
        assert reply.promise.state is PromiseState.TIMEDOUT
    fenced = m.fence(PromiseSettle("b", PromiseState.RESOLVED), now=20).inner
    assert fenced is not None
    assert fenced.promise is not None
    assert fenced.promise.state is PromiseState.TIMEDOUT


def test_c9_no_version_is_dispatched_before_it_was_issued(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    assert m.sent() == [execute(version=0)]
    for version in range(3):
        m.acquire(version=version)
        assert m.sent() == []
        m.release(version=version + 1)
        assert m.sent() == [execute(version=version + 1)]


def test_c10_at_most_one_claim_is_valid(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    claims = [m.acquire(pid="one"), m.acquire(pid="two"), m.held(pid="three")]
    assert [reply.status for reply in claims] == [200, 409, 409]
    assert m.task().pid == "one"


def test_c11_settled_promises_take_no_callbacks_or_listeners(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    m.create("x", EXTERNAL)
    m.create("y", EXTERNAL, until=10)
    m.resolve("x")
    for id, now in (("x", 1), ("y", 10)):
        assert m.listen(id, now=now).status == 200
        assert m.callback(id, now=now).status == 200
    assert (m.listeners, m.callbacks) == ({}, {})


def test_c12_the_machine_has_no_debug_verbs_to_guard() -> None:
    assert _HANDLERS.keys() == set(get_args(Request))
