"""`ctx`: what a durable function makes its durable calls with (mission table 1.7)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from ..errors import ContextMisuseError
from ..execution.body import Branch
from ..execution.call import DETACHED, RUN, TIMEOUT, CallKind
from ..runtime.awaitables import DurableCall, DurablePromise
from ..runtime.functions import Callee, Remote
from ..runtime.options import NO_OPTIONS, PROMISE_KEYS, ContextOptions, change, seconds, text
from ..runtime.refusals import misuse
from ..runtime.stamps import branch_here
from ..runtime.time_limits import TimeLimit
from .recorded import Random, Time
from .spans import sleep_s
from .stored import shape_of
from .surroundings import Surroundings

if TYPE_CHECKING:
    from .function import Function

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")
S = TypeVar("S")
# What a generator yields, and what it is sent. mypy takes an overload that has Any in their place
# for ambiguous, and infers nothing.
T = TypeVar("T")


class Context(Surroundings):
    """The first argument of every durable function.

    Calls made with it are checkpointed: `await ctx.run(f)` (or `yield ctx.run(f)` in a
    generator) runs `f` once, records its result, and gives the recorded result ever after.
    Calls are lazy objects: they start when awaited, yielded or wrapped in an asyncio task.
    """

    __slots__ = ()

    # -- about this call ---------------------------------------------------------------

    def get_dependency(self, name: str, default: Any = None) -> Any:
        """An object set with `Resonate.set_dependency` in this process, or the default.

        May be called anywhere, without `await` or `yield`. `ctx.dependencies[name]` raises
        where there is none of that name.

        Raises:
            TypeError: The name is no string.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a dependency is a string, got {name!r}")
        return self._core.dependencies.get(name, default)

    # -- calls that run here -----------------------------------------------------------

    @overload
    def run(self, func: Function[P, R], *args: P.args, **kwargs: P.kwargs) -> DurableCall[R]: ...
    @overload
    def run(
        self,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[R]: ...
    @overload
    def run(
        self,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[R]: ...
    @overload
    def run(
        self, func: Callable[Concatenate[Context, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> DurableCall[R]: ...
    @overload
    def run(self, func: str, *args: Any, **kwargs: Any) -> DurableCall[Any]: ...
    def run(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[Any]:
        """Run a function in this process, checkpointed; awaiting gives its result.

        On return the result is recorded; a recorded call never runs again. Options:
        `.options(timeout=..., retry_policy=..., id=..., ...)` before awaiting.

        Raises (when awaited):
            What the function raised, rebuilt from the record; ResonateTimedoutError;
            ResonateCanceledError; NonDeterminismError; ValueCodecError.
        """
        branch = branch_here()
        if branch is None or branch.body is not self._body:
            branch = self._branch()
        try:
            callee = self._core.registry.seen[func]
        except (KeyError, TypeError):
            callee = self._callee(func)
        return DurableCall(RUN, branch, callee, args, kwargs, True, sys._getframe(1))

    @overload
    def begin_run(
        self, func: Function[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def begin_run(
        self,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def begin_run(
        self,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def begin_run(
        self, func: Callable[Concatenate[Context, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def begin_run(self, func: str, *args: Any, **kwargs: Any) -> DurableCall[Any]: ...
    def begin_run(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[Any]:
        """Begin a function in this process; awaiting gives its Promise without waiting."""
        return DurableCall(
            RUN, self._branch(), self._callee(func), args, kwargs, False, sys._getframe(1)
        )

    lfc = run
    """Alias of `run` (0.6.7: local function call)."""
    lfi = begin_run
    """Alias of `begin_run` (0.6.7: local function invocation)."""

    # -- calls that run elsewhere ------------------------------------------------------

    @overload
    def rpc(self, func: Function[P, R], *args: P.args, **kwargs: P.kwargs) -> DurableCall[R]: ...
    @overload
    def rpc(
        self,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[R]: ...
    @overload
    def rpc(
        self,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[R]: ...
    @overload
    def rpc(
        self, func: Callable[Concatenate[Context, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> DurableCall[R]: ...
    @overload
    def rpc(self, func: str, *args: Any, returns: type[T], **kwargs: Any) -> DurableCall[T]: ...
    @overload
    def rpc(self, func: str, *args: Any, **kwargs: Any) -> DurableCall[Any]: ...
    def rpc(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[Any]:
        """Run a registered function in another process; awaiting gives its result.

        Without `.options(target=...)` any worker of the group `default` takes it (S65).

        Args:
            func: A function, or the registered name of one that need not be known here. What
                follows are its arguments.
            returns: With a name: the type to rebuild the result as.
        """
        return self._remote(CallKind.RPC, func, args, kwargs, direct=True)

    @overload
    def begin_rpc(
        self, func: Function[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def begin_rpc(
        self,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def begin_rpc(
        self,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def begin_rpc(
        self, func: Callable[Concatenate[Context, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def begin_rpc(
        self, func: str, *args: Any, returns: type[T], **kwargs: Any
    ) -> DurableCall[DurablePromise[T]]: ...
    @overload
    def begin_rpc(
        self, func: str, *args: Any, **kwargs: Any
    ) -> DurableCall[DurablePromise[Any]]: ...
    def begin_rpc(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[Any]:
        """Begin a function in another process; awaiting gives its Promise without waiting."""
        return self._remote(CallKind.RPC, func, args, kwargs, direct=False)

    rfc = rpc
    """Alias of `rpc` (0.6.7: remote function call)."""
    rfi = begin_rpc
    """Alias of `begin_rpc` (0.6.7: remote function invocation)."""

    @overload
    def detached(
        self, func: Function[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def detached(
        self,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def detached(
        self,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def detached(
        self, func: Callable[Concatenate[Context, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> DurableCall[DurablePromise[R]]: ...
    @overload
    def detached(
        self, func: str, *args: Any, returns: type[T], **kwargs: Any
    ) -> DurableCall[DurablePromise[T]]: ...
    @overload
    def detached(
        self, func: str, *args: Any, **kwargs: Any
    ) -> DurableCall[DurablePromise[Any]]: ...
    def detached(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[DurablePromise[Any]]:
        """Begin a function elsewhere that this one does not wait for at its end.

        Its deadline is its own. Awaiting gives its Promise without waiting.
        """
        return self._remote(DETACHED, func, args, kwargs, direct=False)

    # -- promises and time -------------------------------------------------------------

    def promise(
        self,
        *,
        id: str | None = None,
        timeout: float | timedelta | None = None,
        idempotency_key: str | Callable[[str], str] | None = None,
        data: Any = None,
        tags: dict[str, str] | None = None,
    ) -> DurableCall[DurablePromise[Any]]:
        """Get or create a promise that something outside will settle.

        Awaiting gives the Promise; awaiting that waits for `promises.resolve`.

        Args:
            id: Its id; derived where absent. An existing promise of that id is returned.
            timeout: Seconds until it is rejected as timed out.
            idempotency_key: A key, or what makes one of the id; the id itself where absent.
                Awaiting the promise of an existing id raises ResonateStoreError (code 409)
                when it was created with another key.
            data: JSON-able data stored with it.
            tags: Tags stored with it.
        """
        given = {"id": id, "timeout": timeout, "tags": tags, "idempotency_key": idempotency_key}
        is_given = any(value is not None for value in given.values())
        options = change(NO_OPTIONS, given, PROMISE_KEYS) if is_given else NO_OPTIONS
        args = () if data is None else (data,)
        call: DurableCall[DurablePromise[Any]] = DurableCall(
            CallKind.PROMISE, self._branch(), None, args, {}, False, sys._getframe(1)
        )
        call.options_ = options
        return call

    @overload
    def sleep(self, delay: float | timedelta) -> DurableCall[None]: ...
    @overload
    def sleep(self, *, until: datetime | float) -> DurableCall[None]: ...
    def sleep(
        self, delay: float | timedelta | None = None, *, until: datetime | float | None = None
    ) -> DurableCall[None]:
        """Sleep durably: never early, not reset by a restart, no thread.

        Args:
            delay: Seconds or a timedelta, as long as you like.
            until: In its place, an instant: a datetime with a time zone, or seconds since the
                epoch. One that is past is no sleep.

        Raises:
            TypeError, ValueError: Neither or both are given, or one of the wrong kind.
        """
        delay_s = sleep_s(delay, until, self._core.clock.now_ms())
        call: DurableCall[None] = DurableCall(
            CallKind.SLEEP, self._branch(), None, (), {}, True, sys._getframe(1)
        )
        call.delay_s = delay_s
        return call

    def timeout(self, delay: float | timedelta) -> TimeLimit:
        """A durable time limit: `async with ctx.timeout(5): ...` raises TimeoutError (S11a).

        Args:
            delay: Seconds or a timedelta, counted from the first run's entry.
        """
        delay_s = seconds(delay, "timeout")
        call: DurableCall[None] = DurableCall(TIMEOUT, self._branch(), None, (), {}, True)
        call.delay_s = delay_s
        return TimeLimit(call, sys._getframe(1))

    @property
    def time(self) -> Time:
        """Durable time: `await ctx.time.time()` gives the same after recovery."""
        return Time(self)

    @property
    def random(self) -> Random:
        """Durable randomness: `await ctx.random.random()` gives the same after recovery."""
        return Random(self)

    def typesafe(self, call: DurableCall[T] | DurablePromise[T]) -> Generator[Any, Any, T]:
        """A call for generators whose result type checkers know.

        `value = yield from ctx.typesafe(ctx.run(f))` is `value = yield ctx.run(f)` with a type.
        """
        value: T = yield call
        return value

    def options(self, **options: Unpack[ContextOptions]) -> Context:
        """This ctx with options for the calls made through it: `ctx.options(id="a").run(f)`.

        The same as `.options(...)` after each call, which wins where both are given. May be kept
        and used for many calls; the ctx itself stays as it is. A call that does not take one of
        the options raises TypeError where it is made.

        Raises:
            TypeError, ValueError: An option that no call takes, or one of the wrong kind.
        """
        from .options import ContextWithOptions  # noqa: PLC0415  it is a ctx itself

        return ContextWithOptions(self._core, self._body).options(**options)

    # -- inside ------------------------------------------------------------------------

    def _branch(self) -> Branch:
        branch = branch_here()
        if branch is None or branch.body is not self._body or self._body.is_over:
            if self._body.is_dead:
                return self._body
            raise ContextMisuseError(misuse(self._body, branch))
        return branch

    def _callee(self, func: Any) -> Callee:
        if isinstance(func, str):
            return self._core.registry.find(func)
        return self._core.registry.callee_of(func)

    def _remote(
        self, kind: CallKind, func: Any, args: Any, kwargs: Any, *, direct: bool
    ) -> DurableCall[Any]:
        if isinstance(func, str):
            callee: Callee = Remote(text(func, "func"))
            if "returns" in kwargs:
                callee.result = shape_of(kwargs.pop("returns"))
        else:
            callee = self._core.registry.remote_of(func)
        return DurableCall(kind, self._branch(), callee, args, kwargs, direct, sys._getframe(2))

    def _inline(self, callee: Callee, args: tuple[Any, ...]) -> DurableCall[Any]:
        return DurableCall(RUN, self._branch(), callee, args, {}, True, sys._getframe(2))
