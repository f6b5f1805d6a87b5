"""Bodies with a frame: how each kind of function is driven (DESIGN §5).

Coroutines run in an asyncio task of their own, plain functions on worker threads, generators
are stepped by the scheduler (`generators.py`). Whatever happens, a driver reports exactly
once, through `Scheduler.over`, and nothing a user's function raises ever leaves it: only what
a signal raised in it does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context as ContextVars
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from ..execution.body import Body
from ..execution.interruptions import NOTHING
from .endings import ends_process
from .functions import COROUTINE, GENERATOR, PLAIN
from .generators import start_generator
from .stamps import current_branch

if TYPE_CHECKING:
    from ..execution.call import Wait
    from ..execution.execution import Execution
    from .awaitables import DurableCall, RootCall
    from .scheduler import Scheduler

_EAGER = sys.version_info >= (3, 12)


_NO_VARIABLES = ContextVars()


class BodyTask(asyncio.Task[None]):
    """The task that drives a body: it sees in whose context it is cancelled (S10).

    A cancel from outside ends the execution's frames even where the function waits for what is
    not durable; else that cancel could not be told from one that the function sends itself.
    """

    __slots__ = ("body",)

    body: LiveBody

    def cancel(self, msg: Any | None = None) -> bool:
        """As `asyncio.Task.cancel`."""
        if not self.done() and not self.body.frame_over:
            self.body.scheduler.interrupts.task_cancelled(self.body)
        return super().cancel(msg)


_new_task: Callable[[type[BodyTask]], BodyTask] = BodyTask.__new__
_make_task: Callable[..., None] = asyncio.Task.__init__


class LiveBody(Body):
    """A body with its frame.

    Attributes:
        call: The durable call it computes (a `DurableCall`, or the root's).
        variables: The context variables it runs in (S25).
        task: The asyncio task that drives it, for coroutines and threads.
        branch_tasks: Other asyncio tasks it created, held strongly (S30).
        abandoned: It passed its deadline: it is ended, and what it does is dropped.
        attempt: Counts from 1 for this holder (S40).
        outcome: What its function returned or raised, while calls it asked still run.
    """

    # What every step reads or writes: an attribute with a default on its class costs three times
    # as much to read up to Python 3.12, and a slot costs no more than any other attribute.
    __slots__ = (
        "_creates",
        "_log",
        "_made",
        "_sequential",
        "activity",
        "at",
        "attempt",
        "body",
        "branch_tasks",
        "call",
        "count",
        "execution",
        "frame_over",
        "generator",
        "held_timer",
        "id",
        "idle",
        "is_dead",
        "is_over",
        "is_owed",
        "is_plain",
        "joint",
        "live_tasks",
        "open_calls",
        "outcome",
        "owner",
        "position",
        "prefix",
        "scheduler",
        "siblings",
        "started",
        "task",
        "unawaited_failures",
        "unordered",
        "variables",
        "waiting",
    )

    call: DurableCall[Any] | RootCall  # the shell's own calls
    generator_wait: Wait | None = None
    retry_timer: asyncio.TimerHandle | None = None
    dying_calls: int = 0
    made_calls_before: int = 0
    abandoned: bool = False
    has_slot: bool = False
    awaits_slot: bool = False

    def __init__(
        self,
        scheduler: Scheduler,
        execution: Execution,
        call: DurableCall[Any] | RootCall,
        variables: ContextVars,
        owner: str,
    ) -> None:
        self.body = self
        self.execution = execution
        self.call = call
        self.id = call.promise_id
        self.joint = "."
        self.prefix = ""
        self.count = self.position = self.activity = self.open_calls = self._creates = 0
        self.siblings = None
        self.waiting = self.at = NOTHING
        self._log = None
        self._made = self.idle = None
        self._sequential = self.is_plain = True
        self.unordered = scheduler.is_unordered
        self.is_owed = self.is_dead = False
        self.unawaited_failures = None
        self.live_tasks = self.attempt = 0
        self.scheduler = scheduler
        self.variables = variables
        self.owner = owner
        self.task: asyncio.Task[None] | None = None
        self.generator: Generator[Any, Any, Any] | None = None
        self.branch_tasks: dict[asyncio.Task[Any], Any] | None = None  # -> its branch, or its call
        self.outcome: tuple[Any, BaseException | None] | None = None
        self.held_timer: asyncio.TimerHandle | None = None
        self.started = self.is_over = self.frame_over = False

    def stop_timers(self) -> None:
        """Nothing happens to this body by time any more."""
        for timer in (self.held_timer, self.retry_timer, getattr(self.call, "timer", None)):
            if timer is not None:
                timer.cancel()
        self.held_timer = self.retry_timer = None

    def let_go(self) -> None:
        """It is over: drop what refers back to it, so that nothing waits for the collector."""
        self.body = None  # type: ignore[assignment]  # nobody makes a call in it any more
        self.variables = _NO_VARIABLES
        self.task = None
        self.generator = None
        self._made = self.idle = None

    @property
    def made_calls(self) -> bool:
        """Whether this attempt made a ctx call: it is then no leaf (S40)."""
        return self.activity > self.made_calls_before


def start(body: LiveBody) -> None:
    """Begin an attempt: only from the scheduler's queue (S26)."""
    body.attempt += 1
    if body.attempt > 1:
        body.made_calls_before = body.activity
        body.started = body.frame_over = False
    body.live_tasks = 1 if body.branch_tasks is None else 1 + len(body.branch_tasks)
    callee = body.call.callee
    assert callee is not None  # every driven call has a function
    kind = callee.kind
    if kind is COROUTINE:
        _start_task(body, _drive_coroutine)
    elif kind is GENERATOR:
        start_generator(body)
    elif kind is PLAIN:
        _start_task(body, _drive_thread)
    else:
        _run_inline(body)


def _start_task(body: LiveBody, drive: Callable[[LiveBody], Coroutine[Any, Any, None]]) -> None:
    scheduler = body.scheduler
    # Held before it is anything: a signal handler may raise while it is being made.
    task = body.task = _new_task(BodyTask)
    task.body = body
    driver = drive(body)
    variables = body.variables
    try:
        if _EAGER:
            eager: Any = {"eager_start": True}  # a keyword the oldest Python does not have
            _make_task(task, driver, loop=scheduler.loop, name=body.id, context=variables, **eager)
        else:
            loop: Any = scheduler.loop  # mypy refuses methods that are replaced
            steps = scheduler.first_steps
            steps.step, steps.variables = None, variables
            loop.call_soon = steps.catch
            try:
                _make_task(task, driver, loop=loop, name=body.id, context=variables)
            finally:
                del loop.call_soon
                step, steps.step, steps.variables = steps.step, None, None
            variables.run(step)
    except BaseException as error:
        _interrupted(body, task, driver, error)
        raise


class FirstSteps:
    """Catches the first step of a task that is being made, where Python has no eager tasks.

    Before 3.12 that step goes through `call_soon`: it is caught there, to be made at once from
    this loop callback, as later versions do. A signal handler may run meanwhile, too (that of
    asyncio.run cancels the main task): whatever else it puts there goes on to the loop.

    Attributes:
        catch: Stands in for `call_soon` while a task is made.
        variables: The context of that task.
        step: Its first step, once it was caught.
    """

    __slots__ = ("_call_soon", "catch", "step", "variables")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self.catch = self._catch  # bound once
        self.variables: ContextVars | None = None
        self.step: Any = None

    def _catch(
        self, callback: Callable[..., object], *args: Any, context: ContextVars | None = None
    ) -> Any:
        if context is self.variables and not args and self.step is None:
            self.step = callback
            return None
        return self._call_soon(callback, *args, context=context)


def _interrupted(
    body: LiveBody,
    task: asyncio.Task[None],
    driver: Coroutine[Any, Any, None],
    error: BaseException,
) -> None:
    """A signal handler raised before the driver's first line: nothing stays behind (law 16)."""
    if body.started:
        return  # it has reported this itself, or waits and is ended as any other frame
    driver.close()
    body.task = None
    if task.done():
        _retrieve(task)
    else:
        unstarted: Any = task
        unstarted._log_destroy_pending = False
        asyncio._unregister_task(task)  # asyncio.run would wait for it for ever
    body.scheduler.over(body, None, error)


async def _drive_coroutine(body: LiveBody) -> None:
    body.started = True
    try:
        if body.is_dead:
            raise asyncio.CancelledError
        call = body.call
        if call.takes_live:
            args, kwargs = call.args, call.kwargs
        else:
            args, kwargs = body.scheduler.arguments(body)
        func, ctx = call.callee.func, body.scheduler.context_of(body)  # type: ignore[union-attr]
        value = await (func(ctx, *args, **kwargs) if kwargs else func(ctx, *args))
    except BaseException as error:
        body.scheduler.over(body, None, error)
        if ends_process(error):
            _leave_to_the_loop()
            raise
    else:
        body.scheduler.over(body, value, None)


def _leave_to_the_loop() -> None:
    driver = asyncio.current_task()
    assert driver is not None  # we run in it
    driver.add_done_callback(_retrieve)


def _retrieve(driver: asyncio.Task[None]) -> None:
    """Whoever runs the loop gets what ends the process; that nobody awaits its task is no news."""
    if not driver.cancelled():
        driver.exception()


async def _drive_thread(body: LiveBody) -> None:
    body.started = True
    scheduler = body.scheduler
    try:
        if body.is_dead:
            raise asyncio.CancelledError
        args, kwargs = scheduler.arguments(body)
        function = partial(body.call.callee.func, scheduler.context_of(body), *args, **kwargs)  # type: ignore[union-attr]
        scheduler.running_threads[body] = True
        # A thread cannot be cancelled: cancelling ends the wait, a late result is dropped (S28).
        value, error = await anyio.to_thread.run_sync(
            _guarded, function, body, abandon_on_cancel=True, limiter=scheduler.limiter
        )
    except BaseException as raised:
        if ends_process(raised):  # it was raised here, on the loop's thread, not by the function
            scheduler.interrupts.drop_from_outside(body.execution)
            scheduler.over(body, None, raised)
            _leave_to_the_loop()
            raise
        value, error = None, raised
    scheduler.over(body, value, error)


def _guarded(function: Any, body: LiveBody) -> tuple[Any, BaseException | None]:
    current_branch.set(None)  # a thread may not make ctx calls (S23)
    try:
        return function(), None
    except BaseException as error:
        return None, error
    finally:
        body.scheduler.running_threads.pop(body, None)


def _run_inline(body: LiveBody) -> None:
    body.started = True
    try:
        value = body.call.callee.func(*body.call.args)  # type: ignore[union-attr]
    except BaseException as error:
        body.scheduler.over(body, None, error)
        if ends_process(error):
            raise
    else:
        body.scheduler.over(body, value, None)
