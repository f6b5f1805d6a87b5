"""The differential run notices a wrong rule: each mutant of the model is told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from resonate_aio.protocol import requests as rq
from resonate_aio.protocol.records import Promise, PromiseState, Task, TaskState

from . import model as model_module
from .model import ReferenceModel, fulfilled
from .store_run import Difference
from .test_differential import run_on_machine

PROGRAMS = 60

right_project = model_module.project
right_resume = ReferenceModel._resume
right_acquire = ReferenceModel._acquire
right_to_pending = ReferenceModel._to_pending
right_heartbeat = ReferenceModel._task_heartbeat
right_register = ReferenceModel._promise_register_listener


def deadline_is_exclusive(promise: Promise, now: int) -> Promise:
    return right_project(promise, now - 1)


def anybody_may_send_heartbeats(
    self: ReferenceModel, request: rq.TaskHeartbeat, now: int
) -> rq.Reply:
    for pid in ("w1", "w2"):
        right_heartbeat(self, replace(request, pid=pid), now)
    return rq.Reply(200)


def acquiring_keeps_resumes(self: ReferenceModel, task: Task, pid: str, ttl: int, now: int) -> Task:
    kept = replace(right_acquire(self, task, pid, ttl, now), resumes=task.resumes)
    self.tasks[task.id] = kept
    return kept


def becoming_pending_raises_the_version(self: ReferenceModel, task: Task, retry_at: int) -> None:
    right_to_pending(self, replace(task, version=task.version + 1), retry_at)


def a_resumed_task_waits_for_a_retry(
    self: ReferenceModel, awaiter: str, awaited: str, now: int
) -> None:
    before = self.tasks.get(awaiter)
    right_resume(self, awaiter, awaited, now)
    if before is not None and before.state is not self.tasks[awaiter].state is TaskState.PENDING:
        self.tasks[awaiter] = replace(self.tasks[awaiter], retry_at_ms=now + 30_000)


def internal_promises_take_listeners(
    self: ReferenceModel, request: rq.PromiseRegisterListener, now: int
) -> rq.Reply:
    reply = right_register(self, request, now)
    if reply.status != 422:
        return reply
    return rq.Reply(200, promise=self.promise(request.awaited, now))


def settling_forgets_the_task(self: ReferenceModel, id: str, now: int) -> None:
    self.listeners = {pair for pair in self.listeners if pair[0] != id}
    if id in self.tasks:
        self.tasks[id] = fulfilled(self.tasks[id])


def leases_never_end(self: ReferenceModel, id: str, now: int) -> bool:
    promise = self.promise(id, now)
    if id in self.tasks:
        self.tasks[id] = replace(self.tasks[id], expires_at_ms=None)
    return promise is not None and promise.state is PromiseState.PENDING


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("_task_heartbeat", anybody_may_send_heartbeats),
        ("_resume", a_resumed_task_waits_for_a_retry),
        ("_acquire", acquiring_keeps_resumes),
        ("_to_pending", becoming_pending_raises_the_version),
        ("_promise_register_listener", internal_promises_take_listeners),
        ("_settled", settling_forgets_the_task),
        ("is_live", leases_never_end),
    ],
)
def test_a_wrong_rule_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, mutant: Callable[..., object]
) -> None:
    monkeypatch.setattr(ReferenceModel, name, mutant)
    with pytest.raises(Difference):
        run_programs()


def test_an_exclusive_deadline_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "project", deadline_is_exclusive)
    with pytest.raises(Difference):
        run_programs()


def run_programs() -> None:
    for seed in range(PROGRAMS):
        run_on_machine(seed, Counter())
