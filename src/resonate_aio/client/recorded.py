"""`ctx.time` and `ctx.random`: the clock and chance, recorded, so that a replay sees the same."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import NonDeterminismError, ValueCodecError
from ..protocol.values import Shape
from ..runtime.awaitables import DurableCall
from ..runtime.functions import Callee, FunctionKind

if TYPE_CHECKING:
    from .context import Context

T = TypeVar("T")

_STRFTIME = Callee(time.strftime, "time.strftime", kind=FunctionKind.INLINE)


class Time:
    """`ctx.time`: the clock, recorded."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def time(self) -> DurableCall[float]:
        """Seconds since the epoch."""
        return self._ctx._inline(self._ctx._core.time_callee, ())

    def strftime(self, format: str) -> DurableCall[str]:  # noqa: A002  seed 001's name
        """The local time, formatted."""
        return self._ctx._inline(_STRFTIME, (format,))


_UUID4 = Callee(uuid.uuid4, "random.uuid4", kind=FunctionKind.INLINE)
_UUID4.result = Shape(uuid.UUID)
_SOURCE = random.SystemRandom()
_RANDOM = {
    name: Callee(getattr(_SOURCE, name), f"random.{name}", kind=FunctionKind.INLINE)
    for name in (
        "betavariate",
        "expovariate",
        "getrandbits",
        "randint",
        "random",
        "randrange",
        "triangular",
    )
}


def _no_element(_: int) -> int:
    raise NotImplementedError  # each call draws from its own sequence


_CHOICE = Callee(_no_element, "random.choice", kind=FunctionKind.INLINE)


class _Element(Shape):
    """One element of a live sequence: what is recorded is its index."""

    __slots__ = ("_drawn", "_seq")

    def __init__(self, seq: Any) -> None:
        super().__init__(int)
        self.is_plain_data = False
        self._seq = seq
        self._drawn: Any = None

    def draw(self, length: int) -> int:
        """The index to record. What the sequence itself raises is the call's rejection."""
        index = _SOURCE.choice(range(length))
        self._drawn = self._seq[index]
        return index

    def seen(self, value: Any, data: Any) -> Any:
        """The element that was drawn."""
        return self._drawn

    def rebuild(self, data: Any) -> Any:
        """The element at the recorded index.

        Raises:
            ValueCodecError: What is recorded is no index.
            NonDeterminismError: The sequence has no such element (any more).
        """
        if type(data) is not int or data < 0:
            raise ValueCodecError("what is recorded is not the index of an element")
        try:
            return self._seq[data]
        except Exception as error:
            raise NonDeterminismError(
                f"element {data} was chosen and recorded, but the sequence the program now passes "
                f"does not give it ({type(error).__name__}): pass the sequence it was chosen from"
            ) from error


class Random:
    """`ctx.random`: random numbers, recorded."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def random(self) -> DurableCall[float]:
        """A float in [0, 1)."""
        return self._ctx._inline(_RANDOM["random"], ())

    def betavariate(self, alpha: float, beta: float) -> DurableCall[float]:
        """Beta distribution."""
        return self._ctx._inline(_RANDOM["betavariate"], (alpha, beta))

    def choice(self, seq: Sequence[T]) -> DurableCall[T]:
        """One element of a non-empty sequence: that very element, of whatever type.

        Its index is recorded. A replay gives the element at that index of the sequence it then
        passes, so that has to be the same one. Another length is another argument, and stops the
        execution with NonDeterminismError, which names the call; with
        `.options(check_arguments=False)` it does only where the index lies outside.

        Raises:
            TypeError: It is no sequence.
            IndexError: It is empty (when awaited).
        """
        if not hasattr(type(seq), "__getitem__"):
            raise TypeError(f"ctx.random.choice takes a sequence, got {type(seq).__name__}")
        element = _Element(seq)
        callee = copy(_CHOICE)
        callee.func, callee.result = element.draw, element
        return self._ctx._inline(callee, (len(seq),))

    def expovariate(self, lambd: float) -> DurableCall[float]:
        """Exponential distribution."""
        return self._ctx._inline(_RANDOM["expovariate"], (lambd,))

    def getrandbits(self, k: int) -> DurableCall[int]:
        """An integer of k random bits."""
        return self._ctx._inline(_RANDOM["getrandbits"], (k,))

    def randint(self, a: int, b: int) -> DurableCall[int]:
        """An integer from a to b, both included."""
        return self._ctx._inline(_RANDOM["randint"], (a, b))

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> DurableCall[int]:
        """An element of range(start, stop, step)."""
        return self._ctx._inline(_RANDOM["randrange"], (start, stop, step))

    def triangular(
        self, low: float = 0.0, high: float = 1.0, mode: float | None = None
    ) -> DurableCall[float]:
        """Triangular distribution."""
        return self._ctx._inline(_RANDOM["triangular"], (low, high, mode))

    def uuid4(self) -> DurableCall[uuid.UUID]:
        """A random UUID."""
        return self._ctx._inline(_UUID4, ())
