"""A machine that holds a part of the promises answers as one that holds them all."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from tests.machine.checked import EXTERNAL, FAR, HERE, TARGET, TTL, CheckedMachine, execute
from tests.machine.programs import Program, programs

from resonate_aio.machine import PromiseMachine
from resonate_aio.machine.invariants import check
from resonate_aio.protocol.records import Promise, PromiseState, Schedule, Task, TaskState
from resonate_aio.protocol.requests import (
    PromiseRegisterCallback,
    PromiseSearch,
    Reply,
    Request,
    ScheduleGet,
    TaskHeartbeat,
    TaskRef,
    TaskSearch,
    TaskSuspend,
)


class Partial:
    """What a store does that keeps settled promises out of memory."""

    def __init__(self) -> None:
        self.machine = PromiseMachine()
        self.file: dict[str, tuple[Promise, Task | None]] = {}

    def ask(self, request: Request, now_ms: int) -> Reply:
        for id in self.machine.ids_named(request):
            self.fetch(id)
        reply = self.machine.handle(request, now_ms)
        self.commit()
        return reply

    def sweep(self, now_ms: int) -> None:
        for id in self.machine.ids_swept(now_ms):
            self.fetch(id)
        self.machine.sweep(now_ms)
        self.commit()

    def fetch(self, id: str) -> None:
        if id in self.file:
            self.machine.load(*self.file[id])

    def commit(self) -> None:
        machine = self.machine
        for id in machine.changed:
            self.file[id] = (machine.promises[id], machine.tasks.get(id))
        machine.changed.clear()
        for id, promise in list(machine.promises.items()):
            if promise.state is not PromiseState.PENDING:
                machine.forget(id)


SEARCHES = (PromiseSearch, TaskSearch)


@settings(max_examples=300, deadline=None)
@given(programs())
def test_forgetting_settled_promises_changes_no_answer(program: Program) -> None:
    whole, part = PromiseMachine(), Partial()
    for request, now_ms in program:
        if request is None:
            whole.sweep(now_ms)
            part.sweep(now_ms)
        elif not isinstance(request, SEARCHES):
            expected = msgspec.structs.replace(whole.handle(request, now_ms), preload=())
            answer = msgspec.structs.replace(part.ask(request, now_ms), preload=())
            assert answer == expected, request
        check(part.machine, now_ms)
        assert part.machine.outbox == whole.outbox
        assert part.machine.next_due_ms() == whole.next_due_ms()
    for id, (promise, task) in part.file.items():
        assert whole.promises[id] == promise
        assert whole.tasks.get(id) == task


def test_ids_named(m: CheckedMachine) -> None:
    actions = (PromiseRegisterCallback("x", "t"), PromiseRegisterCallback("y", "t"))
    assert m.ids_named(TaskSuspend("t", 1, actions)) == ("t", "x", "y")
    assert m.ids_named(TaskHeartbeat("p", (TaskRef("t", 1),))) == ()
    assert m.ids_named(ScheduleGet("s")) == ()


def test_load_arms_and_marks_nothing_changed(m: CheckedMachine) -> None:
    x = Promise("x", PromiseState.PENDING, 10, 0, tags=EXTERNAL)
    t = Promise("t", PromiseState.PENDING, FAR, 0, tags=TARGET)
    u = Promise("u", PromiseState.PENDING, FAR, 0, tags=TARGET)
    m.load(x, None, ["t"], [HERE])
    m.load(t, Task("t", TaskState.SUSPENDED, 1))
    m.load(u, Task("u", TaskState.ACQUIRED, 3, ttl_ms=TTL, pid="p", expires_at_ms=20))
    m.load_schedule(Schedule("s", "* * * * *", "s{{.timestamp}}", 5, 0, 60_000))
    check(m, 0)
    assert (m.changed, m.changed_schedules, m.outbox) == ({}, {}, {})
    assert m.next_due_ms() == 10
    m.swept(20)
    assert list(m.outbox) == [("unblock", "x", HERE), ("execute", "t"), ("execute", "u")]
    assert m.outbox["execute", "u"][1] == execute("u", 3)
    m.swept(60_000)
    assert "s60000" in m.promises


def test_load_never_overwrites_what_is_in_memory(m: CheckedMachine) -> None:
    old = m.create("x", EXTERNAL).promise
    assert old is not None
    new = m.resolve("x").promise
    m.load(old)
    assert m.promises["x"] is new


def test_forget_refuses_what_is_not_settled(m: CheckedMachine) -> None:
    m.held()
    with pytest.raises(ValueError, match="only settled"):
        m.forget("t")
    m.complete()
    m.forget("t")
    m.forget("t")
    assert (m.promises, m.tasks) == ({}, {})


def test_a_forgotten_awaiter_is_not_missed(m: CheckedMachine) -> None:
    m.held()
    m.create("x", EXTERNAL)
    m.callback("x")
    m.complete()
    m.forget("t")
    m.resolve("x")
    assert m.sent() == []
