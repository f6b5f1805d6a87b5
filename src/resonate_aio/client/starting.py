"""Starting executions: `run` here, `rpc` somewhere, `get` what runs (mission table 1.4)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, overload

from ..encoders import Encoder
from ..execution.attempts import RetryPolicy
from ..protocol.values import PLAIN_SHAPE, Shape
from ..runtime.functions import Callee, Remote, no_function
from ..runtime.options import CallOptions, ExceptionClasses, change, promise_id, text
from .context import Context, S, Y
from .core import ClientCore
from .function import Function
from .handle import Handle
from .options import tell_of_unsent
from .registry import not_registered
from .stored import shape_of

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


_CLIENT_KEYS = frozenset(
    {
        "check_arguments",
        "encoder",
        "idempotency_key",
        "non_retryable_exceptions",
        "retry_policy",
        "tags",
        "target",
        "timeout",
        "version",
    }
)


class Starting:
    """The part of a client that starts executions and finds them again."""

    _core: ClientCore
    _options: CallOptions

    def options(
        self,
        *,
        encoder: Encoder | None = None,
        idempotency_key: str | Callable[[str], str] | None = None,
        retry_policy: RetryPolicy | Callable[[Callable[..., Any]], RetryPolicy] | None = None,
        tags: dict[str, str] | None = None,
        target: str | None = None,
        timeout: float | timedelta | None = None,
        version: int | None = None,
        check_arguments: bool | None = None,
        non_retryable_exceptions: ExceptionClasses | None = None,
    ) -> Self:
        """A copy of this client with options for the calls started through it (K8).

        Args:
            encoder: Turns arguments and results into text and back; see
                `resonate_aio.encoders`.
            idempotency_key: A key, or a function of the id that gives one; the id itself where
                absent. An id that was used with another key is refused (S52).
            retry_policy: A policy, or a function of the function that gives one. For what is
                run here: it does not travel with an `rpc` (a warning says so, once).
            tags: Tags of the promise.
            target: Where an rpc goes: a group name or an address.
            timeout: Seconds or timedelta until the promise times out; a year by default.
            version: Version of the function; 0 is the newest.
            check_arguments: Whether a replay with other arguments is an error (S43).
            non_retryable_exceptions: Error classes, or one, after which the function is not tried
                again; their subclasses count.

        Raises:
            TypeError, ValueError: An option of the wrong kind.
        """
        given = {
            "encoder": encoder,
            "idempotency_key": idempotency_key,
            "retry_policy": retry_policy,
            "tags": tags,
            "target": target,
            "timeout": timeout,
            "version": version,
            "check_arguments": check_arguments,
            "non_retryable_exceptions": non_retryable_exceptions,
        }
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._options = change(self._options, given, _CLIENT_KEYS)
        if encoder is not None:
            self._core.knows(encoder)
        return copy

    @overload
    def begin_run(
        self, id: str, func: Function[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]: ...
    @overload
    def begin_run(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Handle[R]: ...
    @overload
    def begin_run(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Handle[R]: ...
    @overload
    def begin_run(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Handle[R]: ...
    @overload
    def begin_run(
        self, id: str, func: str, *args: Any, returns: type[T], **kwargs: Any
    ) -> Handle[T]: ...
    @overload
    def begin_run(self, id: str, func: str, *args: Any, **kwargs: Any) -> Handle[Any]: ...
    def begin_run(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start a registered function in this process; returns a handle at once.

        An id that was used before gives its recorded outcome, or joins the running
        execution: nothing runs twice (law 1). Durable once `await handle.created()` returns.

        Args:
            id: Of the promise that holds the outcome.
            func: A registered function, or the name of one. What follows are its arguments;
                one that is called `id` or `func` itself has to be given by position.
            returns: With a name: the type to rebuild the result as.

        Raises:
            FunctionNotFoundError: The function is not registered.
            ValueCodecError: An argument cannot be stored.
            TypeError, ValueError: The id is not a usable string, or the function cannot take
                these arguments.
            UsageError: No event loop runs here.
        """
        shape = _returns(func, kwargs)
        callee = self._registered(func)
        handle = self._core.begin(promise_id(id), callee, args, kwargs, self._options, here=True)
        if shape is not None:
            handle._shape = shape
        return handle

    @overload
    def rpc(
        self, id: str, func: Function[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]: ...
    @overload
    def rpc(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Handle[R]: ...
    @overload
    def rpc(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Handle[R]: ...
    @overload
    def rpc(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Handle[R]: ...
    @overload
    def rpc(self, id: str, func: str, *args: Any, returns: type[T], **kwargs: Any) -> Handle[T]: ...
    @overload
    def rpc(self, id: str, func: str, *args: Any, **kwargs: Any) -> Handle[Any]: ...
    def rpc(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start a function in another process (`options(target=...)`); returns a handle at once.

        A function given by name need not be registered here: where it runs, it is. Without a
        target any worker of the group `default` takes it (S65). Otherwise as `begin_run`.
        """
        shape = _returns(func, kwargs)
        callee = (
            Remote(text(func, "func"))
            if isinstance(func, str)
            else self._core.registry.remote_of(func)
        )
        handle = self._core.begin(promise_id(id), callee, args, kwargs, self._options, here=False)
        tell_of_unsent(self._core, self._options, id, "rpc")
        if shape is not None:
            handle._shape = shape
        return handle

    run = begin_run
    """Start a registered function here: `await resonate.run(...)` gives its value.

    The same as `begin_run`: one awaitable handle serves both (mission table 1.12 a).
    """
    begin_rpc = rpc
    """The same as `rpc`: one awaitable handle serves both (mission table 1.12 a)."""

    @overload
    def get(self, id: str) -> Handle[Any]: ...
    @overload
    def get(self, id: str, *, returns: type[T]) -> Handle[T]: ...
    @overload
    def get(self, id: str, *, returns: object) -> Handle[Any]: ...
    def get(self, id: str, *, returns: Any = None) -> Handle[Any]:
        """A handle for an execution or promise that exists already; returns at once.

        Awaiting it raises ResonateStoreError (code 404) when there is none of that id.

        Args:
            returns: The type to rebuild the result as, also a union or a `NewType`; plain JSON
                data where absent.

        Raises:
            TypeError, ValueError: The id is not a usable string.
            UsageError: No event loop runs here.
        """
        shape = PLAIN_SHAPE if returns is None else shape_of(returns)
        return self._core.attach(promise_id(id), self._options.encoder, shape)

    def _registered(self, func: Any) -> Callee:
        version = self._options.version or 0
        registry = self._core.registry
        if isinstance(func, str):
            return registry.find(text(func, "func"), version)
        if not callable(func):
            raise no_function(func)
        callee: Callee | None
        if isinstance(func, Function):
            callee = func.callee if registry.has(func.callee) else registry.of(func.func)
        else:
            callee = registry.of(func)
        if callee is None:
            raise not_registered(func)
        return registry.find(callee.name, version) if version else callee


def _returns(func: Any, kwargs: dict[str, Any]) -> Shape | None:
    """The shape that `returns=` asks for; of a function given as such it is an argument."""
    if isinstance(func, str) and "returns" in kwargs:
        return shape_of(kwargs.pop("returns"))
    return None
