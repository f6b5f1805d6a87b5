"""Laws over random programs: the invariants hold after every step, and time is only read."""

from __future__ import annotations

from hypothesis import given, settings
from tests.machine.checked import CheckedMachine
from tests.machine.programs import Program, programs

from resonate_aio.machine import PromiseMachine
from resonate_aio.protocol.requests import Reply


def replies(machine: PromiseMachine, program: Program) -> list[Reply | None]:
    answers: list[Reply | None] = []
    for request, now_ms in program:
        if request is None:
            machine.sweep(now_ms)
            answers.append(None)
        else:
            answers.append(machine.handle(request, now_ms))
    return answers


@settings(max_examples=500, deadline=None)
@given(programs())
def test_every_invariant_holds_after_every_step(program: Program) -> None:
    m = CheckedMachine()
    for request, now_ms in program:
        m.changed.clear()
        m.changed_schedules.clear()
        if request is None:
            m.swept(now_ms)
        else:
            reply = m.ask(request, now_ms)
            assert reply.status in {200, 300, 400, 404, 409, 422}
            assert (reply.error is not None) == (reply.status >= 400)


@settings(max_examples=200, deadline=None)
@given(programs())
def test_the_machine_is_a_function_of_its_input(program: Program) -> None:
    assert replies(PromiseMachine(), program) == replies(PromiseMachine(), program)


@settings(max_examples=200, deadline=None)
@given(programs())
def test_a_sweep_leaves_nothing_due(program: Program) -> None:
    m = PromiseMachine()
    for request, now_ms in program:
        if request is not None:
            m.handle(request, now_ms)
        m.sweep(now_ms)
        due_ms = m.next_due_ms()
        assert due_ms is None or due_ms > now_ms
        m.changed.clear()
        m.sweep(now_ms)
        assert not m.changed
