"""`ctx.time` and `ctx.random`: the clock and chance, recorded, so that a replay sees the same."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

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
        "choice",
        "expovariate",
        "getrandbits",
        "randint",
        "random",
        "randrange",
        "triangular",
    )
}


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
        """One element of a non-empty sequence."""
        return self._ctx._inline(_RANDOM["choice"], (seq,))

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
