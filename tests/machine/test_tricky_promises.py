"""The tricky places of current-protocol §6 about promises and schedules.

One test a row, named as the row is.
"""

from __future__ import annotations

from tests.machine.checked import (
    ADDRESS,
    EXTERNAL,
    FAR,
    HERE,
    ONE,
    TARGET,
    TIMER,
    CheckedMachine,
    execute,
)

from resonate_aio.protocol.records import EMPTY, PromiseState, TaskState
from resonate_aio.protocol.requests import PromiseSearch, PromiseSettle, ScheduleCreate, Unblock


def test_settle_an_already_settled_promise(m: CheckedMachine) -> None:
    m.create("x")
    first = m.resolve("x", now=1, value=ONE)
    again = m.ask(PromiseSettle("x", PromiseState.REJECTED), 2)
    assert again.status == 200
    assert again.promise == first.promise


def test_settle_at_exactly_t_is_timeoutat(m: CheckedMachine) -> None:
    for id, tags, state in (
        ("x", {}, PromiseState.TIMEDOUT),
        ("y", EXTERNAL, PromiseState.TIMEDOUT),
        ("z", TIMER, PromiseState.RESOLVED),
    ):
        m.create(id, tags, until=10)
        reply = m.resolve(id, now=10, value=ONE)
        assert reply.status == 200
        assert reply.promise is not None
        assert reply.promise.state is state
        assert reply.promise.value == EMPTY
        assert reply.promise.settled_at_ms == 10


def test_settle_into_pending_or_rejected_timedout(m: CheckedMachine) -> None:
    for state in (PromiseState.PENDING, PromiseState.TIMEDOUT):
        assert m.ask(PromiseSettle("absent", state), 0).status == 400


def test_create_on_an_existing_id(m: CheckedMachine) -> None:
    first = m.create("x", until=10)
    again = m.create("x", TARGET, now=5, until=99)
    assert (again.status, again.promise) == (200, first.promise)
    late = m.create("x", now=10, until=99)
    assert late.promise is not None
    assert late.promise.state is PromiseState.TIMEDOUT


def test_create_with_timeoutat_not_after_now(m: CheckedMachine) -> None:
    promise = m.create("t", TARGET, now=9, until=5).promise
    assert promise is not None
    assert promise.state is PromiseState.TIMEDOUT
    assert promise.created_at_ms == promise.settled_at_ms == 5
    assert m.task(now=9).state is TaskState.FULFILLED
    assert m.task(now=9).version == 0
    assert m.sent() == []


def test_create_with_timeoutat_is_now(m: CheckedMachine) -> None:
    promise = m.create("x", TIMER, now=5, until=5).promise
    assert promise is not None
    assert promise.state is PromiseState.RESOLVED
    assert promise.created_at_ms == promise.settled_at_ms == 5


def test_timer_target_accepted_the_sdk_compatible_default(m: CheckedMachine) -> None:
    assert m.create("t", TIMER | TARGET, until=10).status == 200
    assert m.sent() == [execute()]
    m.swept(10)
    assert m.get("t", now=10).state is PromiseState.RESOLVED
    assert m.task(now=10).state is TaskState.FULFILLED


def test_callback_to_own_promise(m: CheckedMachine) -> None:
    assert m.callback("absent", "absent").status == 400


def test_callback_on_settled_awaited(m: CheckedMachine) -> None:
    m.held()
    m.create("x", EXTERNAL)
    m.create("y", EXTERNAL)
    m.suspend("x")
    m.resolve("y")
    reply = m.callback("y")
    assert (reply.status, reply.promise) == (200, m.get("y"))
    assert m.callbacks == {"x": {"t": None}}
    assert m.task().state is TaskState.SUSPENDED


def test_callback_whose_awaiter_is_settled(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    m.resolve("t")
    m.create("x", EXTERNAL)
    assert m.callback("x").status == 200
    assert m.callbacks == {}


def test_listener_on_settled_promise(m: CheckedMachine) -> None:
    m.create("x", EXTERNAL)
    settled = m.resolve("x").promise
    reply = m.listen("x")
    assert (reply.status, reply.promise) == (200, settled)
    m.swept(FAR)
    assert m.sent() == []


def test_same_listener_callback_twice(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    m.create("x", EXTERNAL)
    for _ in range(2):
        assert m.listen("x").status == 200
        assert m.callback("x").status == 200
    assert m.listeners == {"x": {HERE: None}}
    assert m.callbacks == {"x": {"t": None}}


def test_two_listeners_at_different_addresses(m: CheckedMachine) -> None:
    m.create("x", EXTERNAL)
    m.listen("x", HERE)
    m.listen("x", "http://there/")
    settled = m.resolve("x").promise
    assert settled is not None
    assert m.outbox == {
        ("unblock", "x", HERE): (HERE, Unblock(settled)),
        ("unblock", "x", "http://there/"): ("http://there/", Unblock(settled)),
    }


def test_delay_in_the_future(m: CheckedMachine) -> None:
    m.create("t", TARGET | {"resonate:delay": "500"})
    assert (m.task().state, m.task().version) == (TaskState.PENDING, 0)
    m.swept(499)
    assert m.sent() == []
    assert m.next_due_ms() == 500
    m.swept(500)
    assert m.outbox == {("execute", "t"): (ADDRESS, execute())}
    m.create("early", TARGET | {"resonate:delay": "500"})
    assert m.acquire("early", now=1).status == 200


def test_search_served_the_sdk_compatible_default(m: CheckedMachine) -> None:
    m.create("x")
    reply = m.ask(PromiseSearch(), 0)
    assert (reply.status, reply.promises) == (200, (m.get("x"),))


def test_schedule_create_existing(m: CheckedMachine) -> None:
    first = m.ask(ScheduleCreate("s", "* * * * *", "{{.id}}.{{.timestamp}}", 1), 0)
    again = m.ask(ScheduleCreate("s", "0 0 * * *", "other", 2), 5)
    assert again == first


def test_several_missed_cron_instants(m: CheckedMachine) -> None:
    m.ask(ScheduleCreate("s", "* * * * *", "{{.id}}.{{.timestamp}}", FAR), 0)
    m.swept(180_000)
    assert list(m.promises) == ["s.60000", "s.120000", "s.180000"]
    assert m.next_due_ms() == 240_000
