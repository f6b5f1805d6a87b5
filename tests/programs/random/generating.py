"""Random programs, by seed.

What a generated program never does is what no rule can order (semantics.md, end of part B):
a real sleep is followed by a ctx call and shares no state with another helper, and nothing
under an `asyncio.timeout` waits for anything but its own durable calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from .nodes import (
    Attempt,
    Begin,
    Calls,
    Cancelled,
    Deadline,
    Detached,
    Fails,
    First,
    Flaky,
    Function,
    Gather,
    Group,
    Guarded,
    Limit,
    Node,
    Outside,
    Part,
    Passes,
    Shielded,
    Sleep,
    Step,
)

_TAKES_S: Final = (0.0, 0.1, 0.3, 1.0, 2.0, 4.0)
_LIMITS_S: Final = (0.0, 0.05, 0.5, 1.0, 2.0, 3.0)
GENEROUS_S: Final = 50_000.0
"""A limit that nothing reaches."""


@dataclass(frozen=True)
class _Place:
    """Where a node goes.

    Attributes:
        in_generator: The function is a generator: it makes one call at a time.
        by_clock: Under an `asyncio.timeout`, whose timer is not recorded (S14).
        may_nap: No helper is left behind here before it made a ctx call (S22).
        shares: Other helpers see what it sees.
    """

    depth: int = 0
    in_generator: bool = False
    by_clock: bool = False
    may_nap: bool = True
    shares: bool = False

    def deeper(self) -> _Place:
        return replace(self, depth=self.depth + 1)


def program_of(seed: int, size: int = 14) -> Part:
    """The program of a seed.

    Args:
        size: About how many nodes it has at most.
    """
    return _Generator(Random(f"program {seed}"), size).part(_Place(), 5)


class _Generator:
    def __init__(self, rng: Random, size: int) -> None:
        self._rng = rng
        self._left = rng.randint(3, size)
        self._count = 0

    def part(self, place: _Place, longest: int = 3, *, may_raise: bool = False) -> Part:
        """A part; never an empty one."""
        rng = self._rng
        name = self._name()
        nodes = [self._node(place)]
        for _ in range(rng.randint(0, longest - 1)):
            if self._left > 0:
                nodes.append(self._node(place))
        return Part(name, tuple(nodes), raises=may_raise and rng.random() < 0.3)

    def _helpers(self, place: _Place, *, may_raise: bool) -> tuple[Part, ...]:
        helpers = []
        for _ in range(self._rng.randint(2, 3)):
            helper = self.part(place, may_raise=may_raise)
            naps = place.may_nap and not place.shares and not place.by_clock
            if naps and self._rng.random() < 0.3:
                first = Step(self._name(), self._takes())
                nap_s = self._rng.choice((0.05, 0.7))
                helper = replace(helper, nodes=(first, *helper.nodes), nap_s=nap_s)
            helpers.append(helper)
        return tuple(helpers)

    def _node(self, place: _Place) -> Node:
        self._left -= 1
        kinds = [*_SIMPLE]
        if place.depth < 4 and self._left > 0:
            kinds += _NESTED_IN_GENERATORS
            if not place.in_generator:
                kinds += _NESTED
        if not place.in_generator:
            kinds += _ASYNC
            if not place.by_clock:
                kinds += _WAITS
        return self._rng.choice(kinds)(self, self._name(), place)

    def _name(self) -> str:
        self._count += 1
        return f"n{self._count}"

    def _takes(self) -> float:
        takes_s = self._rng.choice(_TAKES_S)
        # Some fall on the very same instant as others, most do not.
        return (
            takes_s if self._rng.random() < 0.3 else round(takes_s * self._rng.uniform(0.7, 1.3), 3)
        )

    def _several(self) -> tuple[float, ...]:
        return tuple(self._takes() for _ in range(3))

    def _limit(self) -> float:
        return GENEROUS_S if self._rng.random() < 0.1 else self._rng.choice(_LIMITS_S)

    # -- the kinds

    def _step(self, name: str, _: _Place) -> Node:
        how = self._rng.choice(("plain", "plain", "plain", "plain", "id", "volatile"))
        return Step(name, self._takes(), how)  # type: ignore[arg-type]  # one of the literals

    def _fails(self, name: str, _: _Place) -> Node:
        return Fails(name, self._takes())

    def _flaky(self, name: str, _: _Place) -> Node:
        return Flaky(name, self._takes())

    def _sleep(self, name: str, _: _Place) -> Node:
        return Sleep(name, self._rng.choice((0, 0.5, 1, 2)))

    def _begin(self, name: str, _: _Place) -> Node:
        return Begin(name, self._takes(), self._rng.random() < 0.6)

    def _passes(self, name: str, _: _Place) -> Node:
        return Passes(name, self._rng.randint(1, 3))

    def _detached(self, name: str, _: _Place) -> Node:
        return Detached(name, self._takes())

    def _outside(self, name: str, _: _Place) -> Node:
        return Outside(name)

    def _function(self, name: str, place: _Place) -> Node:
        in_generator = self._rng.random() < 0.35
        inner = replace(place.deeper(), in_generator=in_generator, shares=False)
        return Function(
            name,
            self.part(inner, may_raise=True),
            self._rng.choice(("run", "run", "run", "rpc")),
            "generator" if in_generator else "async",
            self._rng.choice(("passes", "passes", "cleans", "returns")),
        )

    def _attempt(self, name: str, place: _Place) -> Node:
        return Attempt(name, self.part(place.deeper(), may_raise=True))

    def _gather(self, name: str, place: _Place) -> Node:
        inner = self._beside(place)
        may_raise = self._rng.random() < 0.5
        if may_raise:  # the other helpers run on
            inner = replace(inner, may_nap=False)
        return Gather(name, self._helpers(inner, may_raise=may_raise), inner.shares)

    def _group(self, name: str, place: _Place) -> Node:
        inner = self._beside(place)
        # A group that fails spoils the asyncio.timeout around it, up to Python 3.12 (gh-116720).
        return Group(name, self._helpers(inner, may_raise=not place.by_clock), inner.shares)

    def _beside(self, place: _Place) -> _Place:
        return replace(place.deeper(), shares=place.shares or self._rng.random() < 0.5)

    def _limited(self, name: str, place: _Place) -> Node:
        is_durable = self._rng.random() < 0.6
        inner = replace(place.deeper(), by_clock=place.by_clock or not is_durable)
        return Limit(name, self.part(inner), self._limit(), is_durable, place.by_clock)

    def _cancelled(self, name: str, place: _Place) -> Node:
        inner = replace(place.deeper(), may_nap=False)  # it is left behind if its canceller is
        return Cancelled(name, self.part(inner), self._rng.choice((0, 0.5, 1, 2)))

    def _guarded(self, name: str, place: _Place) -> Node:
        cleanup = Part(self._name(), (Step(self._name(), self._takes()),))
        return Guarded(name, self.part(place.deeper()), cleanup)

    def _calls(self, name: str, _: _Place) -> Node:
        return Calls(name, self._several(), "gather")

    def _completed(self, name: str, _: _Place) -> Node:
        return Calls(name, self._several(), "as_completed")

    def _first(self, name: str, _: _Place) -> Node:
        return First(name, self._several())

    def _shielded(self, name: str, _: _Place) -> Node:
        return Shielded(name, self._takes(), self._limit())

    def _deadline(self, name: str, _: _Place) -> Node:
        return Deadline(name, self._rng.choice((0.5, 1)), self._rng.choice((0.4, 2)))


_Kind = Callable[[_Generator, str, _Place], Node]
_SIMPLE: Final[list[_Kind]] = [
    _Generator._step,
    _Generator._step,
    _Generator._fails,
    _Generator._flaky,
    _Generator._sleep,
    _Generator._begin,
    _Generator._detached,
    _Generator._outside,
]
_ASYNC: Final[list[_Kind]] = [_Generator._passes, _Generator._calls, _Generator._deadline]
_WAITS: Final[list[_Kind]] = [_Generator._first, _Generator._completed, _Generator._shielded]
_NESTED_IN_GENERATORS: Final[list[_Kind]] = [
    _Generator._function,
    _Generator._function,
    _Generator._attempt,
]
_NESTED: Final[list[_Kind]] = [
    _Generator._gather,
    _Generator._gather,
    _Generator._group,
    _Generator._group,
    _Generator._limited,
    _Generator._limited,
    _Generator._cancelled,
    _Generator._cancelled,
    _Generator._guarded,
]
