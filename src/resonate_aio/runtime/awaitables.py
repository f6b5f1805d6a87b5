"""What a body holds and awaits: calls and their promises.

A `DurableCall` is the node of the execution machine and the lazy coroutine that the user's code
gets in one object (speed.md). It suspends the user's task on an `AsyncWait`.
"""

from __future__ import annotations

import asyncio
import warnings
from asyncio import CancelledError, current_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context as ContextVars
from threading import get_ident
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from ..errors import ContextMisuseError
from ..execution.body import Branch
from ..execution.call import (
    ASKED,
    CALLED,
    DETACHED,
    ENDED,
    GIVEN,
    RUN,
    Call,
    CallKind,
    CallState,
)
from ..execution.execution import ALIVE
from ..protocol.records import Promise
from .async_wait import AsyncWait
from .options import (
    LOCAL_KEYS,
    NO_OPTIONS,
    PROMISE_KEYS,
    REMOTE_KEYS,
    SLEEP_KEYS,
    CallOptions,
    ContextOptions,
    PromiseId,
    change,
)
from .refusals import dying, misuse, unstamped
from .stamps import branch_here

if TYPE_CHECKING:
    from .bodies import LiveBody
    from .functions import Callee

R = TypeVar("R")
OPTION_KEYS = {
    RUN: LOCAL_KEYS,
    CallKind.RPC: REMOTE_KEYS,
    DETACHED: REMOTE_KEYS,
    CallKind.PROMISE: PROMISE_KEYS,
    CallKind.SLEEP: SLEEP_KEYS,
}
"""The options that each kind of call takes."""


class Yieldable:
    """What a generator function yields: a durable call, or the promise of one.

    Such a function is annotated `Generator[Yieldable, Any, R]`, as for 0.6.7.
    """

    __slots__ = ()


class DurableCall(Call, Yieldable, Coroutine[Any, Any, R], Generic[R]):
    """A durable call: lazy until it is awaited, yielded, or wrapped in an asyncio task.

    Its id is taken where it is made, in program order. `.options(...)` may follow.
    """

    # As for a body: what every call sets, or every step reads.
    __slots__ = (
        "_code",
        "_instruction",
        "args",
        "body",
        "callee",
        "cancelled_by",
        "child",
        "closed",
        "data",
        "direct",
        "durable",
        "ending",
        "failed",
        "fingerprint",
        "home",
        "id",
        "kind",
        "kwargs",
        "more_waits",
        "options_",
        "passed_on",
        "position",
        "promise_id",
        "settled_text",
        "state",
        "suffix",
        "takes_live",
        "timeout_at_ms",
        "timer",
        "value",
        "variables",
        "wait",
        "waited",
    )

    home: LiveBody
    delay_s: float | None = None
    expired: Callable[[], None] | None = None
    decoded: tuple[Any, bool] | None = None
    _driver: Generator[Any, Any, R] | None = None

    def __init__(
        self,
        kind: CallKind,
        branch: Branch,
        callee: Callee | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        direct: bool,
        site: FrameType | None = None,
    ) -> None:
        self.kind = kind
        self.direct = direct
        self.callee = callee
        self.args = args
        self.kwargs = kwargs
        self.options_ = NO_OPTIONS
        self.state = CallState.NEW
        self.id = self.promise_id = self.suffix = self.fingerprint = ""
        self.position = self.timeout_at_ms = self.waited = 0
        self.body = self.child = self.wait = self.more_waits = None
        self.data = self.value = self.ending = self.cancelled_by = None
        self.durable = True
        self.failed = self.closed = self.takes_live = self.passed_on = False
        self.variables: ContextVars | None = None
        self.settled_text: str | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._code: CodeType | None = None  # where it was made
        self._instruction = -1
        self.home = branch.body  # type: ignore[assignment]  # our bodies are live ones
        if get_ident() != self.home.scheduler.thread:
            raise ContextMisuseError(misuse(self.home, None))
        if site is not None:
            self._code, self._instruction = site.f_code, site.f_lasti
        if not self.home.is_dead:
            if self.home.is_over:
                raise ContextMisuseError(misuse(self.home, branch))
            self.home.called(self, branch)

    def options(self, **options: Unpack[ContextOptions]) -> DurableCall[R]:
        """Change the options of this call, before it starts; returns the call itself.

        Local calls take `check_arguments`, `durable`, `encoder`, `id`, `idempotency_key`,
        `non_retryable_exceptions`, `retry_policy`, `tags` and `timeout` (seconds); remote
        ones `check_arguments`, `encoder`, `id`, `idempotency_key`, `tags`, `target`,
        `timeout` and `version` (seed 001).

        Raises:
            TypeError: An unknown option or a value of the wrong type.
            ContextMisuseError: The call has started.
        """
        if self.state not in (CallState.NEW, CALLED):
            raise ContextMisuseError(f"call {self.id!r} has started: options come before")
        self.take_options(change(self.options_, options, OPTION_KEYS[self.kind]))
        return self

    def take_options(self, options: CallOptions) -> None:
        """Have these options in place of those before; they were checked."""
        self.options_ = options
        if options.encoder is not None and self.kind is not RUN:
            from .encoding import EncodedCall  # noqa: PLC0415  it is a call itself

            self.__class__ = EncodedCall

    def made_at(self, site: FrameType) -> None:
        """Say which line of the user's made the call, where that is not the caller's caller."""
        self._code, self._instruction = site.f_code, site.f_lasti

    def start(self) -> None:
        """Ask for the call, if that was not done yet."""
        self._check_caller()
        if self.state is CALLED:
            self.home.scheduler.asking.ask(self)

    def begin_branch(self) -> str:
        """A task is made of it: it counts as asked from now on (S22).

        Returns:
            What the task is called in the ids of its branch (S2).
        """
        if self.home.execution.life is ALIVE:
            self.start()
        return self.branch_name

    def __await__(self) -> Generator[Any, Any, R]:
        home = self.home
        if home.is_dead:
            yield from dying(home)
        branch = branch_here()
        if branch is None or branch.body is not home:
            raise ContextMisuseError(misuse(home, branch))
        # The task is looked up twice: a frame that holds it is a cycle when it is dropped.
        if branch is home and current_task() is not home.task:
            home.refused(self)
            raise ContextMisuseError(unstamped(home))
        if self.state is CALLED:
            home.scheduler.asking.ask(self)
        if not self.direct:
            return DurablePromise(self)  # type: ignore[return-value]  # begin_*: R is the Promise
        if self.state is not GIVEN:
            wait = AsyncWait(self, home, True, current_task())
            begun = home.scheduler.wait_begun
            begun(home, wait, wait.task)
            yield wait
        if self.failed:
            raise self.value
        return self.value  # type: ignore[no-any-return]

    def _check_caller(self) -> None:
        branch = branch_here()
        if branch is None or branch.body is not self.home:
            raise ContextMisuseError(misuse(self.home, branch))

    def take(self) -> Any:
        """The outcome, once it was given: the value, or its error raised."""
        if self.failed:
            raise self.value
        return self.value

    # A call is a coroutine, so that gather, create_task and TaskGroup take it.

    def send(self, value: Any) -> Any:
        """Step the call as a coroutine (an asyncio task does this)."""
        if self._driver is None:
            self._driver = self.__await__()
        return self._driver.send(value)

    def throw(
        self,
        typ: Any,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        """Throw into the call as a coroutine."""
        if self._driver is None and (self.state is ASKED or self.state is ENDED):
            # Cancelled before its task's first step: the call runs already (S22), or its outcome
            # was recorded, so the cancel reaches it as it would at its wait (S10).
            error = typ if val is None else val
            if error is CancelledError or isinstance(error, CancelledError):
                waiting = self.send(None)
                if waiting is not None:  # else its frame dies, and it raises at its next step
                    waiting.cancel()
                return waiting
        if self._driver is None:
            self._driver = self.__await__()
        try:
            return self._driver.throw(typ) if val is None else self._driver.throw(typ, val, tb)
        finally:
            del typ, val  # the error holds this frame

    def close(self) -> None:
        """Close the call as a coroutine."""
        if self._driver is not None:
            self._driver.close()

    @property
    def branch_name(self) -> str:
        """What the call is of: a function, or its kind."""
        return self.callee.name if self.callee is not None else str(self.kind)

    def __repr__(self) -> str:
        return f"<durable {self.kind} {self.id or '(dying)'} {self.state}>"

    def settled_elsewhere(self, promise: Promise) -> None:
        """The store's call-back: others settled the promise, or its deadline did."""
        self.home.scheduler.executions.call_settled(self, promise)

    def where(self) -> str:
        """The user's line that made the call, for a message."""
        if self._code is None:
            return ""
        return f" at {self._code.co_filename}:{_line(self._code, self._instruction)}"

    def warn_unasked(self) -> None:
        """The function ended, and this call of it was never awaited or yielded."""
        if self._code is not None:
            warnings.warn_explicit(
                f"durable call {self.id!r} ({self.kind} {self.branch_name}) was never awaited "
                "or yielded: nothing ran; use ctx.detached for fire and forget",
                RuntimeWarning,
                self._code.co_filename,
                _line(self._code, self._instruction),
            )


class RootCall(Call):
    """The top-level call of an execution: nobody in this execution awaits it."""

    settled_text: str | None = None

    def __init__(self, callee: Callee, record: Promise, options: CallOptions) -> None:
        super().__init__(RUN, direct=True)
        self.id = self.promise_id = record.id
        self.timeout_at_ms = record.timeout_at_ms
        self.callee: Callee | None = callee
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.options_ = options


class DurablePromise(Yieldable, Generic[R]):
    """What `await ctx.begin_run(...)` gives: the promise of a call that is under way.

    Await it (as often as you like) for the value. It is no coroutine: asyncio's helpers
    take it through `asyncio.ensure_future`.
    """

    __slots__ = ("_call",)

    def __init__(self, call: DurableCall[Any]) -> None:
        self._call = call

    @property
    def id(self) -> PromiseId:
        """The promise's id: whoever knows it may settle or await it. Also `await promise.id()`."""
        return PromiseId(self._call.promise_id)

    def done(self) -> bool:
        """Whether the body was given the outcome (the same answer on a replay, S7)."""
        return self._call.state is GIVEN

    def result(self) -> DurablePromise[R]:
        """The promise itself: `await promise.result()` reads like `await promise` (1.12 b)."""
        return self

    async def created(self) -> DurablePromise[R]:
        """Wait until the promise is durably stored; returns the promise."""
        await self._call.home.scheduler.created(self._call.promise_id)
        return self

    def __await__(self) -> Generator[Any, Any, R]:
        call = self._call
        home = call.home
        if home.is_dead:
            yield from dying(home)
        branch = branch_here()
        if branch is None or not branch.may_wait_in(home):
            raise ContextMisuseError(misuse(home, branch))
        if branch is home and current_task() is not home.task:
            raise ContextMisuseError(unstamped(home))
        if call.state is not GIVEN:
            wait = AsyncWait(call, home, False, current_task())
            home.scheduler.wait_begun(home, wait, wait.task)
            yield wait
        return call.take()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<promise {self.id} {self._call.state}>"


def _line(code: CodeType, instruction: int) -> int:
    """The line of an instruction, looked up only when a warning needs it."""
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno
