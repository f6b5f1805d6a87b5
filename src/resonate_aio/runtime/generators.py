"""Generators: bodies that the scheduler steps itself, in the dialect of 0.6.7 (DESIGN §5).

What is yielded is a durable call or the promise of one; what comes of it is sent back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..execution.call import GIVEN, Wait
from .awaitables import DurableCall, DurablePromise
from .endings import ends_process

if TYPE_CHECKING:
    from .bodies import LiveBody


def start_generator(body: LiveBody) -> None:
    """Call a generator function and run it to its first wait."""
    body.started = True
    try:
        args, kwargs = body.scheduler.arguments(body)
        body.generator = body.call.callee.func(body.scheduler.context_of(body), *args, **kwargs)  # type: ignore[union-attr]
    except BaseException as error:
        body.scheduler.over(body, None, error)
        if ends_process(error):
            raise
        return
    step_generator(body, None, None)


def step_generator(body: LiveBody, value: Any, error: BaseException | None) -> None:
    """Run a generator body to its next wait, or to its end."""
    generator = body.generator
    assert generator is not None
    run = body.variables.run
    scheduler = body.scheduler
    while True:
        try:
            if error is not None:
                yielded = run(generator.throw, error)
            else:
                yielded = run(generator.send, value)
        except StopIteration as stop:
            scheduler.over(body, stop.value, None)
            return
        except BaseException as raised:
            scheduler.over(body, None, raised)
            if ends_process(raised):
                raise
            return
        value = error = None
        if body.is_dead:
            body.dying_calls += 1
            if body.dying_calls > scheduler.settings.dying_calls:
                return
            error = scheduler.interrupts.farewell(body)
            continue
        wait, value, error = _yielded(body, yielded)
        if wait is not None:
            body.generator_wait = wait
            scheduler.wait_begun(body, wait, body)
            return


def _yielded(body: LiveBody, yielded: Any) -> tuple[Wait | None, Any, BaseException | None]:
    """What a generator gets for what it yielded: a wait to suspend on, a value or an error."""
    if isinstance(yielded, DurablePromise):
        call, direct = yielded._call, False
    elif isinstance(yielded, DurableCall):
        call, direct = yielded, yielded.direct
        try:
            body.variables.run(call.start)
        except BaseException as error:
            return None, None, error
        if not direct:
            return None, DurablePromise(call), None
    else:
        return (
            None,
            None,
            TypeError(
                f"{body.id!r} yielded {type(yielded).__name__}: a durable generator yields ctx "
                "calls (ctx.run, ctx.rpc, ctx.sleep, ...) and the promises they give"
            ),
        )
    if call.state is GIVEN:
        return (None, None, call.value) if call.failed else (None, call.value, None)
    return Wait(call, direct=direct), None, None
