"""The holder of a task hears that somebody else settled its promise (S13, S14)."""

from __future__ import annotations

from resonate_aio.machine import PromiseMachine
from resonate_aio.machine.state import WATCHED
from resonate_aio.protocol.records import PromiseState, Value
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseSettle,
    TaskCreate,
    TaskFulfill,
    Unblock,
)

TAGS = {"resonate:target": "poll://any@g"}


def held() -> PromiseMachine:
    machine = PromiseMachine()
    reply = machine.handle(TaskCreate("me", 1000, PromiseCreate("t", 500, tags=TAGS)), 0)
    assert reply.status == 200
    machine.outbox.clear()
    return machine


def told(machine: PromiseMachine) -> list[str]:
    return [
        message.promise.id
        for address, message in machine.outbox.values()
        if address == WATCHED and isinstance(message, Unblock)
    ]


def test_settled_by_somebody_else() -> None:
    machine = held()
    machine.handle(PromiseSettle("t", PromiseState.CANCELED), 1)
    assert told(machine) == ["t"]


def test_timed_out() -> None:
    machine = held()
    machine.sweep(500)
    assert told(machine) == ["t"]


def test_the_holder_itself_is_not_told() -> None:
    machine = held()
    assert machine.fulfill("t", 1, PromiseState.RESOLVED, Value(None, "1"), 1) is not None
    assert told(machine) == []


def test_the_holder_itself_is_not_told_by_request() -> None:
    machine = held()
    action = PromiseSettle("t", PromiseState.RESOLVED)
    assert machine.handle(TaskFulfill("t", 1, action), 1).status == 200
    assert told(machine) == []


def test_nobody_holds_it() -> None:
    machine = PromiseMachine()
    machine.handle(PromiseCreate("t", 500, tags=TAGS), 0)
    machine.handle(PromiseSettle("t", PromiseState.RESOLVED), 1)
    assert told(machine) == []
