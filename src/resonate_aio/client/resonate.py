"""`Resonate`: one client in a process (mission table 1.2 to 1.4)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine, Generator
from datetime import timedelta
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, overload

from ..clock import Clock
from ..errors import ContextMisuseError, FunctionNotFoundError
from ..execution.attempts import RetryPolicy
from ..runtime.functions import Callee, Remote
from ..runtime.options import NO_OPTIONS, change, promise_id
from ..runtime.settings import Settings
from ..runtime.stamps import current_branch
from ..stores.base import Store
from .context import Context
from .dependencies import Dependencies
from .function import Function
from .handle import Handle
from .promises import Promises
from .registry import Registry
from .wiring import Synchronous, local_store, make_core, refuse_remote

P = ParamSpec("P")
R = TypeVar("R")

_CLIENT_KEYS = frozenset(
    {
        "check_arguments",
        "encoder",
        "idempotency_key",
        "retry_policy",
        "tags",
        "target",
        "timeout",
        "version",
    }
)


class Resonate:
    """A client: registers functions, starts them durably, runs those that come to this process.

    `Resonate()` and `Resonate.local()` keep promises in memory, `Resonate.local(path=...)`
    in one SQLite file. Constructing starts nothing and needs no event loop; the first call,
    `start()` or `async with` starts the client on the running loop.

    Args:
        url: Not yet supported: this version speaks to no server.
        group: Worker group, `default`.
        pid: Name of this process in its group; random.
        log_level: Level of the `resonate_aio` logger; None leaves logging alone.
        workers: How many functions execute at a time (None: coroutines unlimited, threads
            min(32, cpus)); a function that waits for something durable does not count (S27).
        store: Where promises live; clients given the same store exchange calls (S53).
        dependencies, registry: May be shared between clients.
        check_arguments: Whether a replay with other arguments is an error (S43).

    Raises:
        TypeError, ValueError: An argument of the wrong kind.
        UsageError: A server was named.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        group: str = "default",
        pid: str | None = None,
        log_level: int | str | None = None,
        workers: int | None = None,
        store: Store | None = None,
        dependencies: Dependencies | None = None,
        registry: Registry | None = None,
        check_arguments: bool = True,
        clock: Clock | None = None,
        settings: Settings | None = None,
    ) -> None:
        if store is None:
            refuse_remote(url)
            store = local_store(None, "FULL")
        if log_level is not None:
            logging.getLogger("resonate_aio").setLevel(log_level)
        self._core = make_core(
            store=store,
            group=group,
            pid=pid,
            workers=workers,
            registry=registry,
            dependencies=dependencies,
            clock=clock,
            settings=settings,
            check_arguments=check_arguments,
        )
        self._options = NO_OPTIONS

    @classmethod
    def local(
        cls,
        *,
        path: str | os.PathLike[str] | None = None,
        synchronous: Synchronous = "FULL",
        group: str = "default",
        pid: str | None = None,
        log_level: int | str | None = None,
        workers: int | None = None,
        dependencies: Dependencies | None = None,
        registry: Registry | None = None,
        check_arguments: bool = True,
    ) -> Resonate:
        """A client that needs no server: in memory, or in one SQLite file.

        Args:
            path: The SQLite file; memory where absent.
            synchronous: "FULL" survives power cuts, "NORMAL" is faster and survives a killed
                process but may lose the last commits in a power cut.
        """
        return cls(
            store=local_store(path, synchronous),
            group=group,
            pid=pid,
            log_level=log_level,
            workers=workers,
            dependencies=dependencies,
            registry=registry,
            check_arguments=check_arguments,
        )

    # -- life --------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take work: what an earlier process left goes on. Idempotent."""
        await self._core.start()

    async def stop(self) -> None:
        """Stop: frames end, leases are given back, everything of ours is closed.

        Bounded and idempotent; safe to cancel (it goes on) and to call from anywhere. The
        work itself goes on when a client starts again; this object may be the one.
        """
        await self._core.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.stop()

    # -- registering -------------------------------------------------------------------

    @overload
    def register(
        self,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        /,
        *,
        name: str | None = None,
        version: int = 1,
    ) -> Function[P, R]: ...
    @overload
    def register(
        self,
        func: Callable[Concatenate[Context, P], Generator[Any, Any, R]],
        /,
        *,
        name: str | None = None,
        version: int = 1,
    ) -> Function[P, R]: ...
    @overload
    def register(
        self,
        func: Callable[Concatenate[Context, P], R],
        /,
        *,
        name: str | None = None,
        version: int = 1,
    ) -> Function[P, R]: ...
    @overload
    def register(self, *, name: str | None = None, version: int = 1) -> _Register: ...
    def register(  # type: ignore[misc]  # a bare call gives the decorator, which has a type
        self, func: Any = None, /, *, name: str | None = None, version: int = 1
    ) -> Any:
        """Make a function startable by name: `@resonate.register`, with or without arguments.

        Args:
            name: The name; the function's own where absent.
            version: Several versions of one name may stand side by side (R6).

        Raises:
            TypeError: Not a function.
            ValueError: Name and version are taken, or the function has no name.
        """
        if func is None:
            return _Register(self, name, version)
        plain = func.func if isinstance(func, Function) else func
        return Function(plain, self._core.registry.add(plain, name, version), self)

    def set_dependency(self, name: str, obj: Any) -> None:
        """Give every durable function of this process an object, by name.

        Raises:
            ContextMisuseError: It is called inside a durable function.
        """
        branch = current_branch.get()
        if branch is not None:
            raise ContextMisuseError(
                f"set_dependency({name!r}) was called inside the durable function "
                f"{branch.body.id!r}: dependencies are set before functions run"
            )
        self._core.dependencies.add(name, obj)

    # -- starting ----------------------------------------------------------------------

    def options(
        self,
        *,
        encoder: Any = None,
        idempotency_key: str | Callable[[str], str] | None = None,
        retry_policy: RetryPolicy | Callable[[Callable[..., Any]], RetryPolicy] | None = None,
        tags: dict[str, str] | None = None,
        target: str | None = None,
        timeout: float | timedelta | None = None,
        version: int | None = None,
        check_arguments: bool | None = None,
    ) -> Resonate:
        """A copy of this client with options for the calls started through it (K8).

        Args:
            retry_policy: A policy, or a function of the function that gives one.
            tags: Tags of the promise.
            target: Where an rpc goes: a group name or an address.
            timeout: Seconds or timedelta until the promise times out; a year by default.
            version: Version of the function.

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
        }
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._options = change(self._options, given, _CLIENT_KEYS)
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
        func: Callable[Concatenate[Context, P], Generator[Any, Any, R]],
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
    def begin_run(self, id: str, func: str, *args: Any, **kwargs: Any) -> Handle[Any]: ...
    def begin_run(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start a registered function in this process; returns a handle at once.

        An id that was used before gives its recorded outcome, or joins the running
        execution: nothing runs twice (law 1). Durable once `await handle.created()` returns.

        Raises:
            FunctionNotFoundError: The function is not registered.
            ValueCodecError: An argument cannot be stored.
            TypeError, ValueError: The id is not a usable string.
        """
        callee = self._registered(func)
        return self._core.begin(promise_id(id), callee, args, kwargs, self._options, here=True)

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
        func: Callable[Concatenate[Context, P], Generator[Any, Any, R]],
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
    def rpc(self, id: str, func: str, *args: Any, **kwargs: Any) -> Handle[Any]: ...
    def rpc(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start a function in another process (`options(target=...)`); returns a handle at once.

        A function given by name need not be registered here. Otherwise as `begin_run`.
        """
        callee = Remote(func) if isinstance(func, str) else self._referenced(func)
        return self._core.begin(promise_id(id), callee, args, kwargs, self._options, here=False)

    run = begin_run
    """Start a registered function here: `await resonate.run(...)` gives its value.

    The same as `begin_run`: one awaitable handle serves both (mission table 1.12 a).
    """
    begin_rpc = rpc
    """The same as `rpc`: one awaitable handle serves both (mission table 1.12 a)."""

    def get(self, id: str) -> Handle[Any]:
        """A handle for an execution or promise that exists already.

        Awaiting it raises ResonateStoreError (code 404) when there is none of that id.
        """
        return self._core.attach(promise_id(id))

    @property
    def promises(self) -> Promises:
        """Durable promises by hand."""
        return Promises(self._core)

    def _registered(self, func: Any) -> Callee:
        version = self._options.version or 0
        if isinstance(func, str):
            return self._core.registry.find(func, version)
        if isinstance(func, Function):
            func = func.func
        callee = self._core.registry.of(func)
        if callee is None:
            raise FunctionNotFoundError(
                f"{getattr(func, '__qualname__', func)!r} is not registered: put "
                "@resonate.register on it, or call resonate.register(func)"
            )
        return self._core.registry.find(callee.name, version) if version else callee

    def _referenced(self, func: Any) -> Callee:
        if isinstance(func, Function):
            return func.callee
        return self._core.registry.callee_of(func)


class _Register:
    """`@resonate.register(name=..., version=...)`, waiting for its function."""

    def __init__(self, resonate: Resonate, name: str | None, version: int) -> None:
        self._resonate = resonate
        self._name = name
        self._version = version

    @overload
    def __call__(
        self, func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]
    ) -> Function[P, R]: ...
    @overload
    def __call__(
        self, func: Callable[Concatenate[Context, P], Generator[Any, Any, R]]
    ) -> Function[P, R]: ...
    @overload
    def __call__(self, func: Callable[Concatenate[Context, P], R]) -> Function[P, R]: ...
    def __call__(self, func: Any) -> Any:
        """Register the function."""
        return self._resonate.register(func, name=self._name, version=self._version)
