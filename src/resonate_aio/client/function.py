"""`Function`: what `@resonate.register` leaves in place of a function (R7 to R12).

There is one class for each kind of durable function, so that a type checker knows what a
direct call gives. They differ in nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from ..runtime.functions import COROUTINE, GENERATOR, Callee
from ..runtime.options import ClientOptions
from .context import Context
from .handle import Handle

if TYPE_CHECKING:
    from collections.abc import Callable

    from .resonate import Resonate

P = ParamSpec("P")
R = TypeVar("R")


class Function(Generic[P, R]):
    """A registered function: call it directly as before, or start it durably.

    Attributes:
        name: The name it is registered under.
        func: The function itself.
        version: The version it is registered as.
    """

    def __init__(
        self,
        func: Callable[Concatenate[Context, P], Any],
        callee: Callee,
        resonate: Resonate,
    ) -> None:
        self.func = func
        self.callee = callee
        self.name = callee.name
        self.version = callee.version
        self._resonate = resonate
        functools.update_wrapper(self, func)

    def __call__(self, ctx: Context, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function directly: nothing is recorded of this call itself."""
        return self.func(ctx, *args, **kwargs)

    def run(self, id: str, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start it here under this id; await the handle for its result."""
        return self._resonate.run(id, self, *args, **kwargs)

    def begin_run(self, id: str, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start it here under this id; the same as `run`."""
        return self._resonate.begin_run(id, self, *args, **kwargs)

    def rpc(self, id: str, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start it in another process under this id; await the handle for its result."""
        return self._resonate.rpc(id, self, *args, **kwargs)

    def begin_rpc(self, id: str, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start it in another process under this id; the same as `rpc`."""
        return self._resonate.begin_rpc(id, self, *args, **kwargs)

    def options(self, **options: Unpack[ClientOptions]) -> Self:
        """A copy with these options for the calls started through it: see `Resonate.options`.

        Raises:
            TypeError, ValueError: An unknown option, or one of the wrong kind.
        """
        return type(self)(self.func, self.callee, self._resonate.options(**options))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Function):
            return bool(self.func == other.func)
        return bool(self.func == other)

    def __hash__(self) -> int:
        return hash(self.func)

    def __repr__(self) -> str:
        return f"<durable function {self.name!r} version {self.version}>"


class CoroutineFunction(Function[P, R]):
    """A registered `async def`."""

    if TYPE_CHECKING:

        def __call__(
            self, ctx: Context, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R]:
            """Call the function directly."""


class GeneratorFunction(Function[P, R]):
    """A registered generator function."""

    if TYPE_CHECKING:

        def __call__(
            self, ctx: Context, *args: P.args, **kwargs: P.kwargs
        ) -> Generator[Any, Any, R]:
            """Call the function directly."""


class PlainFunction(Function[P, R]):
    """A registered `def`."""

    if TYPE_CHECKING:

        def __call__(self, ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R:
            """Call the function directly."""


def function_of(func: Any, callee: Callee, resonate: Resonate) -> Function[Any, Any]:
    """The registered function, as the class of its kind."""
    if callee.kind is COROUTINE:
        return CoroutineFunction(func, callee, resonate)
    if callee.kind is GENERATOR:
        return GeneratorFunction(func, callee, resonate)
    return PlainFunction(func, callee, resonate)
