"""What the runtime knows of a user's function: its kind, its name, how to rebuild its values.

Looked at once per function (speed.md): annotations become shapes, and a function whose
parameters are all plain JSON data costs nothing per call.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from typing import Any, Final

from ..execution.call import RUN
from ..execution.fingerprint import fingerprint_prefix
from ..protocol.values import PLAIN_SHAPE, Shape, decode, encode

logger = logging.getLogger("resonate_aio.runtime")

_WRAPPED_DEPTH = 20
_SAID: set[tuple[str, str]] = set()
_MOST_SAID = 1000
_ANY_NUMBER = 1 << 30
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME_ONLY = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)


class FunctionKind(Enum):
    """How a function is driven (DESIGN §3)."""

    COROUTINE = auto()  # async def: an asyncio task
    GENERATOR = auto()  # yields its calls: stepped by the scheduler
    PLAIN = auto()  # blocks: runs on a worker thread
    INLINE = auto()  # ours, instant: runs on the loop


COROUTINE: Final = FunctionKind.COROUTINE
GENERATOR: Final = FunctionKind.GENERATOR
PLAIN: Final = FunctionKind.PLAIN
INLINE: Final = FunctionKind.INLINE


def no_function(given: object) -> TypeError:
    """What to say to somebody who gives something else where a function is wanted."""
    said = f"expected a function, got {type(given).__name__}: {given!r}"
    if isinstance(given, (types.CoroutineType, types.GeneratorType)):
        given.close()  # nobody will await it, and Python need not say so, too
        name = given.__name__
        said += f"; it was called already: write run({name}, ...), with its arguments after it"
    return TypeError(said)


class Callee:
    """A function as the runtime calls it.

    Attributes:
        name: Its registered name, or `__qualname__` (never a module path, S43).
        version: Its registered version, 1 where it has none.
        takes_plain: No parameter needs rebuilding.
        fewest, most: How many arguments it takes by position, after the ctx.
        result: How to rebuild its result.
    """

    __slots__ = (
        "_by_name",
        "_rest",
        "_shapes",
        "fewest",
        "func",
        "kind",
        "most",
        "name",
        "result",
        "run_prefix",
        "takes_plain",
        "version",
    )

    def __init__(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        version: int = 1,
        kind: FunctionKind | None = None,
    ) -> None:
        if not callable(func):
            raise no_function(func)
        self.func = func
        self.kind = kind or _kind_of(func)
        self.name = name or _name_of(func)
        self.version = version
        self.run_prefix = fingerprint_prefix(RUN, self.name, version)
        hints = {} if kind is FunctionKind.INLINE else _hints(func)
        self._shapes: list[Shape] = []
        self._by_name: dict[str, Shape] = {}
        self._rest: tuple[Shape, Shape] = (PLAIN_SHAPE, PLAIN_SHAPE)
        self.fewest = self.most = 0
        self._read_parameters(hints)
        every = [*self._shapes, *self._by_name.values(), *self._rest]
        self.takes_plain = all(shape.is_plain_data for shape in every)
        self.result = Shape(_result_hint(hints.get("return", inspect.Parameter.empty), self.kind))

    def _read_parameters(self, hints: dict[str, Any]) -> None:
        try:
            parameters = list(inspect.signature(self.func).parameters.values())
        except (TypeError, ValueError):
            self.most = _ANY_NUMBER
            return
        if not parameters or parameters[0].kind in _BY_NAME_ONLY:
            self.most = -1
        if parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            del parameters[0]
        required = [p for p in parameters if p.default is p.empty and p.kind in _POSITIONAL]
        self.fewest = len(required)
        if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
            self.fewest = _ANY_NUMBER  # always the long way round
        rest, rest_named = self._rest
        for parameter in parameters:
            shape = Shape(hints.get(parameter.name, inspect.Parameter.empty))
            if parameter.kind is parameter.VAR_POSITIONAL:
                rest = shape
                self.most = _ANY_NUMBER
            elif parameter.kind is parameter.VAR_KEYWORD:
                rest_named = shape
            else:
                self._by_name[parameter.name] = shape
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self._shapes.append(shape)
                    self.most += 1
        self._rest = (rest, rest_named)

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse arguments the function cannot take, before anything is stored.

        Raises:
            TypeError: As a direct call of the function would.
        """
        if not kwargs and self.fewest <= len(args) <= self.most:
            return  # callers that make many calls look themselves
        if self.kind is INLINE:
            return
        self._refuse_without_parameters()
        try:
            inspect.signature(self.func).bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(ctx, ...): {error}") from None
        except ValueError:
            return

    def shape_of(self, parameter: int | str) -> Shape:
        """How to rebuild one argument, by its position after the ctx or by its name."""
        if isinstance(parameter, str):
            return self._by_name.get(parameter, self._rest[1])
        return self._shapes[parameter] if parameter < len(self._shapes) else self._rest[0]

    def refuse_without_ctx(self) -> None:
        """A durable function takes its ctx first (P15).

        Raises:
            TypeError: This one takes nothing.
        """
        if isinstance(self.func, type):
            raise TypeError(f"{self.name} is a class: register a function")
        self._refuse_without_parameters()

    def _refuse_without_parameters(self) -> None:
        if self.most < 0:
            raise TypeError(f"{self.name} takes no argument: its first parameter must be the ctx")

    def invocation(self, args: tuple[Any, ...], kwargs: dict[str, Any], version: int) -> str:
        """What a root or rpc promise carries: the function's name, version and arguments.

        No version asks for the newest; other SDKs know no number for that (R6).

        Raises:
            ValueCodecError: An argument cannot be stored, or would come back as something else.
        """
        asked: dict[str, Any] = {"func": self.name, "args": args, "kwargs": kwargs}
        if version:
            asked["version"] = version
        text = encode(asked)
        if not self.takes_plain and version == self.version:
            stored = decode(text)
            for index, data in enumerate(stored["args"]):
                self.shape_of(index).seen(args[index], data)
            for name, data in stored["kwargs"].items():
                self.shape_of(name).seen(kwargs[name], data)
        return text

    def rebuild(
        self,
        args: list[Any],
        kwargs: dict[str, Any],
        live: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
    ) -> tuple[list[Any], dict[str, Any]]:
        """Arguments from plain data: by annotation, else by the type of the live argument (S29)."""
        shapes, (rest, rest_named) = self._shapes, self._rest
        known = len(shapes)
        rebuilt = []
        for index, data in enumerate(args):
            shape = shapes[index] if index < known else rest
            rebuilt.append(shape.rebuild(data) if live is None else shape.fit(live[0][index], data))
        named = {}
        for name, data in kwargs.items():
            shape = self._by_name.get(name, rest_named)
            named[name] = shape.rebuild(data) if live is None else shape.fit(live[1][name], data)
        return rebuilt, named


class Remote(Callee):
    """A function known by name only: it runs elsewhere."""

    __slots__ = ()

    def __init__(self, name: str, version: int = 0) -> None:
        super().__init__(_elsewhere, name, version, FunctionKind.INLINE)


def _elsewhere(_: Any) -> Any:
    return None


def _unwrapped(func: Callable[..., Any]) -> Callable[..., Any]:
    for _ in range(_WRAPPED_DEPTH):
        if isinstance(func, functools.partial) or isinstance(getattr(func, "callee", None), Callee):
            func = func.func  # type: ignore[attr-defined]  # a partial, or what register gives
        else:
            break
    return func


def _kind_of(func: Callable[..., Any]) -> FunctionKind:
    plain = _unwrapped(func)
    if not (inspect.isfunction(plain) or inspect.ismethod(plain)):
        plain = getattr(plain, "__call__", plain)  # noqa: B004 - the bound method itself is wanted
    if inspect.iscoroutinefunction(plain):
        return FunctionKind.COROUTINE
    if inspect.isgeneratorfunction(plain):
        return FunctionKind.GENERATOR
    if inspect.isasyncgenfunction(plain):
        raise TypeError(f"{_name_of(func)} is an async generator; a durable function returns once")
    return FunctionKind.PLAIN


def _name_of(func: Callable[..., Any]) -> str:
    plain = _unwrapped(func)
    return getattr(plain, "__qualname__", None) or type(plain).__qualname__


def _hints(func: Callable[..., Any]) -> dict[str, Any]:
    plain = _unwrapped(func)
    if not (inspect.isfunction(plain) or inspect.ismethod(plain)):
        plain = getattr(plain, "__call__", plain)  # noqa: B004 - as above
    try:
        return typing.get_type_hints(plain)
    except Exception:  # noqa: BLE001  annotations are the user's code: some do not resolve
        return _resolvable_hints(plain)


def _resolvable_hints(func: Any) -> dict[str, Any]:
    """Each annotation by itself: one name that is only there for type checkers spoils no other.

    Names of the function around are found where the function itself uses them.
    """
    written = inspect.unwrap(func)  # a decorator's wrapper knows other names
    code = getattr(written, "__code__", None)
    cells = getattr(written, "__closure__", None) or ()
    around = dict(_filled_cells(code.co_freevars, cells)) if code is not None else {}
    names = getattr(written, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, hint in getattr(func, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: hint})
        with contextlib.suppress(Exception):  # as above
            hints.update(typing.get_type_hints(alone, names, around))
    _say_what_is_plain(func, hints)
    return hints


def _say_what_is_plain(func: Any, hints: dict[str, Any]) -> None:
    """Name, once, the annotations that mean nothing here; that of the ctx need not."""
    where = (func.__module__, func.__qualname__)
    unknown = {name: hint for name, hint in func.__annotations__.items() if name not in hints}
    if not unknown or where in _SAID or len(_SAID) > _MOST_SAID:
        return
    unknown.pop(next(iter(inspect.signature(func).parameters), ""), None)
    if not unknown:
        return
    _SAID.add(where)
    logger.warning(
        "%s: the annotations %s cannot be resolved at run time, so their values stay plain JSON "
        "data: import or define what they name where the module can see it",
        func.__qualname__,
        ", ".join(f"{name}: {hint}" for name, hint in unknown.items()),
    )


def _filled_cells(names: Iterable[str], cells: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(names, cells, strict=False):
        with contextlib.suppress(ValueError):  # not assigned yet
            yield name, cell.cell_contents


def _result_hint(hint: Any, kind: FunctionKind) -> Any:
    """A generator function is annotated with the generator; its result is the last argument."""
    if kind is FunctionKind.GENERATOR:
        arguments = typing.get_args(hint)
        return arguments[-1] if len(arguments) == 3 else inspect.Parameter.empty
    return hint
