"""Registered functions, by name and version; may be shared between clients."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

from ..errors import FunctionNotFoundError
from ..runtime.functions import Callee, no_function
from ..runtime.options import text

F = TypeVar("F", bound=Callable[..., Any])

_SUGGESTED = 3
_LISTED = 10
_SEEN = 4096
"""How many functions are remembered with their callees; nested functions are made anew."""


@runtime_checkable
class HasCallee(Protocol):
    """A wrapper made by `register`."""

    func: Callable[..., Any]
    callee: Callee


class Registry:
    """Functions by name and version. Version 0 asks for the newest."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[int, Callee]] = {}
        self._by_func: dict[Any, Callee] = {}
        self._listeners: list[Callable[[], None]] = []
        self.seen: dict[Any, Callee] = {}
        self._hints: dict[str, str] = {}

    def add(self, func: Callable[..., Any], name: str | None, version: int) -> Callee:
        """Register a function.

        Raises:
            TypeError: Not a function, or name or version of the wrong type.
            ValueError: The name is empty, taken or cannot be stored (it holds NUL or a lone
                surrogate), or the version is less than 1.
        """
        if not callable(func):
            raise no_function(func)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a function is a string, got {name!r}")
        if isinstance(version, bool) or not isinstance(version, int):
            raise TypeError(f"the version of a function is an int, got {version!r}")
        name = getattr(func, "__name__", "") if name is None else name
        if not name or name == "<lambda>":
            raise ValueError(f"give {func!r} a name: register(func, name=...)")
        name = text(name, "the name of a function")
        if version < 1:
            raise ValueError(f"the version of {name!r} must be 1 or more, got {version}")
        versions = self._by_name.get(name, {})
        known = versions.get(version)
        if known is not None and known.func is not func:
            raise ValueError(
                f"function {name!r} version {version} is registered already: "
                "choose another name or version"
            )
        callee = Callee(func, name, version)
        callee.refuse_without_ctx()
        self._by_name.setdefault(name, {})[version] = callee
        self._by_func[func] = callee
        self.seen.clear()
        self._hints.clear()
        for heard in self._listeners:
            heard()
        return callee

    @overload
    def register(self, func: F, /, *, name: str | None = None, version: int = 1) -> F: ...
    @overload
    def register(self, *, name: str | None = None, version: int = 1) -> Callable[[F], F]: ...
    def register(  # type: ignore[misc]  # a bare call gives a decorator, which has a type
        self, func: Any = None, /, *, name: str | None = None, version: int = 1
    ) -> Any:
        """Register a function before there is a client: `@registry.register`, also with arguments.

        As `Resonate.register`, but the function stays what it is: without a client nothing can be
        started with it. `Resonate(registry=registry)` starts it by name or by itself.

        Args:
            name: The name; the function's own where absent.
            version: Several versions of one name may stand side by side (R6).

        Raises:
            TypeError: Not a function, or one that takes no ctx.
            ValueError: Name and version are taken, or the function has no name.
        """
        if func is None:
            return partial(self.register, name=name, version=version)
        self.add(func, name, version)
        return func

    @property
    def is_empty(self) -> bool:
        """Whether no function is registered."""
        return not self._by_name

    def find(self, name: str, version: int = 0) -> Callee:
        """The function registered under this name and version (0: the newest).

        Raises:
            FunctionNotFoundError: There is none.
        """
        versions = self._by_name.get(name)
        if not versions:
            raise FunctionNotFoundError(
                f"no function {name!r} is registered in this process; {self._hint(name)}",
                name,
                version,
            )
        if not version:
            return versions[max(versions)]
        if version not in versions:
            known = ", ".join(map(str, sorted(versions)))
            raise FunctionNotFoundError(
                f"function {name!r} has no version {version} in this process, only {known}: "
                "register that version too while executions of it run",
                name,
                version,
            )
        return versions[version]

    def has(self, callee: Callee) -> bool:
        """Whether this very registration was made here."""
        return self._by_name.get(callee.name, {}).get(callee.version) is callee

    def _hint(self, name: str) -> str:
        """What to do about a name that is not known; looked for once, however often it is met."""
        if len(self._hints) > _SEEN:
            self._hints.clear()
        if name not in self._hints:
            self._hints[name] = self._hint_of(name)
        return self._hints[name]

    def _hint_of(self, name: str) -> str:
        close = get_close_matches(name, self._by_name, _SUGGESTED)
        if close:
            return f"did you mean {' or '.join(map(repr, close))}?"
        known = sorted(self._by_name)
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        return f"registered: {', '.join(known[:_LISTED]) or 'none'}{more}"

    def of(self, func: Any) -> Callee | None:
        """The callee of a registered function object, or None."""
        try:
            return self._by_func.get(func)
        except TypeError:
            return None

    def callee_of(self, func: Any) -> Callee:
        """The callee of any function object: the registered one, or one by its own name.

        Raises:
            TypeError: It is no function.
        """
        try:
            return self.seen[func]
        except (KeyError, TypeError):
            pass
        plain = func.func if isinstance(func, HasCallee) else func
        callee = self.of(plain) or Callee(plain)
        _keep(self.seen, func, callee)
        return callee

    def remote_of(self, func: Any) -> Callee:
        """The callee of a function that runs elsewhere, by the name it has to have there.

        Raises:
            FunctionNotFoundError: It is not registered here. Asked for by its name it could wait
                for a worker for ever, unnoticed; a lambda would for sure.
            TypeError: It is no function.
        """
        callee = getattr(func, "callee", None)
        if isinstance(callee, Callee):  # it says itself which registration it stands for
            return callee
        callee = self.of(func)
        if callee is None:
            if not callable(func):
                raise no_function(func)
            raise not_registered(func, ", or give its name where only another process runs it")
        return callee

    def on_change(self, heard: Callable[[], None]) -> None:
        """Call this whenever a function is registered."""
        self._listeners.append(heard)


def not_registered(func: Any, otherwise: str = "") -> FunctionNotFoundError:
    """The error about a function object that has to be registered and is not."""
    return FunctionNotFoundError(
        f"{getattr(func, '__qualname__', func)!r} is not registered: put "
        f"@resonate.register on it, or call resonate.register(func){otherwise}"
    )


def _keep(seen: dict[Any, Callee], func: Any, callee: Callee) -> None:
    """Remember a callee; one that cannot be hashed is looked at each time."""
    if len(seen) >= _SEEN:
        seen.clear()
    with suppress(TypeError):
        seen[func] = callee
