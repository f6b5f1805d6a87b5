"""Which promises in memory belong to which execution, found out when somebody asks.

Nearly no execution is ever loaded again, so nothing is kept up to date at a step: what came
since the last question is read off the machine's promises, which are in the order in which
they were made. This file knows no machine and no time.
"""

from __future__ import annotations

from itertools import islice

from ..protocol.records import Promise
from .lineage import is_derived, prefixes


class Belonging:
    """Two indexes of a store's promises.

    Attributes:
        owned: The ids that an execution or an explicit id owns, in the order they were made.
        foreign: By each id that continues in them after a dot: the ids that somebody else put
            where an execution would derive its own.
    """

    __slots__ = ("_count", "foreign", "owned")

    def __init__(self) -> None:
        self.owned: dict[str, dict[str, None]] = {}
        self.foreign: dict[str, dict[str, None]] = {}
        self._count = 0
        """How many of the promises were read, from the first on."""

    def read(self, promises: dict[str, Promise], most: int | None = None) -> bool:
        """Read what came since the last time, or the oldest `most` of it; whether that was all."""
        count = len(promises) - self._count
        if most is not None and count > most:
            for promise in islice(promises.values(), self._count, self._count + most):
                self._add(promise)
            self._count += most
            return False
        # From the end: to come there from the beginning would cost a look at all of them.
        for promise in reversed(list(islice(reversed(promises.values()), count))):
            self._add(promise)
        self._count += count
        return True

    def _add(self, promise: Promise) -> None:
        if promise.owner:
            self.owned.setdefault(promise.owner, {})[promise.id] = None
        if not is_derived(promise):
            for prefix in prefixes(promise.id):
                self.foreign.setdefault(prefix, {})[promise.id] = None

    def remove(self, promise: Promise) -> None:
        """One that was read leaves the store."""
        _drop(self.owned, promise.owner, promise.id)
        if not is_derived(promise):
            for prefix in prefixes(promise.id):
                _drop(self.foreign, prefix, promise.id)
        self._count -= 1


def _drop(index: dict[str, dict[str, None]], key: str, id: str) -> None:
    ids = index.get(key)
    if ids is not None:
        ids.pop(id, None)
        if not ids:
            del index[key]
