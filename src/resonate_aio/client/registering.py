"""`register`: how functions get a name under which they can be started (mission table 1.3)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast, overload

from .context import Context, S, Y
from .core import ClientCore
from .function import CoroutineFunction, Function, GeneratorFunction, PlainFunction, function_of

if TYPE_CHECKING:
    from .resonate import Resonate

P = ParamSpec("P")
R = TypeVar("R")


class Registering:
    """The part of a client that registers functions."""

    _core: ClientCore

    # The result of a plain function may be anything, a coroutine too: overloads 1 and 2 go first.
    @overload
    def register(  # type: ignore[overload-overlap]
        self,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        /,
        *,
        name: str | None = None,
        version: int = 1,
    ) -> CoroutineFunction[P, R]: ...
    @overload
    def register(  # type: ignore[overload-overlap]
        self,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        /,
        *,
        name: str | None = None,
        version: int = 1,
    ) -> GeneratorFunction[P, R]: ...
    @overload
    def register(
        self,
        func: Callable[Concatenate[Context, P], R],
        /,
        *,
        name: str | None = None,
        version: int = 1,
    ) -> PlainFunction[P, R]: ...
    @overload
    def register(self, *, name: str | None = None, version: int = 1) -> _Register: ...
    def register(  # type: ignore[misc]  # a bare call gives the decorator, which has a type
        self, func: Any = None, /, *, name: str | None = None, version: int = 1
    ) -> Any:
        """Make a function startable by name: `@resonate.register`, with or without arguments.

        Functions may be registered before and after the client starts, and in a registry that
        several clients share.

        Args:
            name: The name; the function's own where absent.
            version: Several versions of one name may stand side by side (R6).

        Returns:
            The function as a `Function`: call it directly, or start it durably.

        Raises:
            TypeError: Not a function, or one that takes no ctx.
            ValueError: Name and version are taken, or the function has no name.
        """
        if func is None:
            return _Register(self, name, version)
        plain = func.func if isinstance(func, Function) else func
        callee = self._core.registry.add(plain, name, version)
        return function_of(plain, callee, cast("Resonate", self))


class _Register:
    """`@resonate.register(name=..., version=...)`, waiting for its function."""

    def __init__(self, resonate: Registering, name: str | None, version: int) -> None:
        self._resonate = resonate
        self._name = name
        self._version = version

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]
    ) -> CoroutineFunction[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, func: Callable[Concatenate[Context, P], Generator[Y, S, R]]
    ) -> GeneratorFunction[P, R]: ...
    @overload
    def __call__(self, func: Callable[Concatenate[Context, P], R]) -> PlainFunction[P, R]: ...
    def __call__(self, func: Any) -> Any:
        """Register the function."""
        return self._resonate.register(func, name=self._name, version=self._version)
