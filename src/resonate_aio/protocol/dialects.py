"""Id dialects and lineage tags: how an execution's promises name where they belong (S61, S62).

Two dialects share one protocol version. In the dot dialect a child of `root` is `root.1`, in
the colon dialect `root:1`; what lies deeper continues with dots in both. A dialect belongs to
an execution: it is kept in a tag of its root. Servers check what the lineage tags say against
the id that carries them, so a tag that could not fit is left out (current-protocol §1).
This file is pure text: it knows no store and no execution.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from .records import Promise

IDS_TAG: Final = "resonate-aio:ids"
"""On a root: the dialect of its children's ids."""

EXECUTION_TAG: Final = "resonate-aio:execution"
"""On everything an execution asked for: the execution's id, by which it is found again (S9)."""

PARKED: Final = "poll://any@resonate-aio-parked"
"""The target of timers and promises that only have to be swept: nobody polls there (S63)."""

TARGET: Final = "resonate:target"
ORIGIN: Final = "resonate:origin"
BRANCH: Final = "resonate:branch"
PARENT: Final = "resonate:parent"
PREFIX: Final = "resonate:prefix"


class Dialect(StrEnum):
    """How the ids of an execution's children begin."""

    DOT = "dot"
    COLON = "colon"


SEPARATORS: Final = {Dialect.DOT: ".", Dialect.COLON: ":"}


def origin_of(id: str, dialect: Dialect) -> str:
    """The origin that a server of this dialect reads out of an id."""
    return id.partition(SEPARATORS[dialect])[0]


def dialect_of(root: Promise) -> Dialect | None:
    """The dialect of an execution, as its own promise tells; None where it does not.

    Below a root the question is closed: `root:1` and `root.1` continue with dots.
    """
    named = root.tags.get(IDS_TAG)
    if named is not None and named in {*Dialect}:
        return Dialect(named)
    origin = root.tags.get(ORIGIN)
    if origin is not None and origin != root.id:
        return Dialect.DOT
    return Dialect.DOT if ":" in root.id else None


def root_tags(id: str, dialect: Dialect) -> dict[str, str]:
    """The lineage of a new top-level promise.

    An id that holds the separator is not its own origin to the server: it names none.
    """
    tags = {IDS_TAG: dialect.value, BRANCH: id, PARENT: id}
    if SEPARATORS[dialect] not in id:
        tags[ORIGIN] = id
        if "." not in id and ":" not in id:
            tags[PREFIX] = id
    return tags


class Lineage:
    """What the promises that one execution asks for carry.

    Args:
        root: The execution's own promise.
        dialect: Of its ids.
    """

    __slots__ = ("_branch", "_origin", "_prefix", "id", "start")

    def __init__(self, root: Promise, dialect: Dialect) -> None:
        self.id = root.id
        self.start = root.id + SEPARATORS[dialect]
        """How every id begins that continues the execution's."""
        self._origin = self._fitting(root, dialect)
        prefix = root.tags.get(PREFIX)
        self._prefix = prefix if prefix and not {".", ":"} & set(prefix) else None
        branch = root.tags.get(BRANCH)
        self._branch = branch if branch and _continues(root.id, branch) else root.id

    @staticmethod
    def _fitting(root: Promise, dialect: Dialect) -> str | None:
        """The origin to name: one that the server reads out of the id as well, or none."""
        origin = root.tags.get(ORIGIN, root.id)
        family = Dialect.COLON if ":" in root.id else dialect
        if SEPARATORS[family] in origin or not _continues(root.id, origin):
            return None
        return origin

    def covers(self, id: str) -> bool:
        """Whether the id continues the execution's."""
        return id.startswith(self.start)

    def tags(self, id: str, *, own_branch: bool) -> dict[str, str]:
        """The lineage of a promise asked for under this id.

        Args:
            own_branch: The promise begins an execution of its own, whose preload it heads.
        """
        tags = {EXECUTION_TAG: self.id}
        if not self.covers(id):
            return tags
        tags[BRANCH] = id if own_branch else self._branch
        tags[PARENT] = parent_of(id, self.id)
        if self._origin is not None:
            tags[ORIGIN] = self._origin
        if self._prefix is not None:
            tags[PREFIX] = self._prefix
        return tags


def parent_of(id: str, root: str) -> str:
    """The id of the call that asked for this one, at least `root`.

    The last number goes, and with it the segments of the asking branch: they hold a hyphen.
    """
    rest = id[len(root) + 1 :].split(".")
    rest.pop()
    while rest and not rest[-1].isdecimal():
        rest.pop()
    return id[: len(root) + 1] + ".".join(rest) if rest else root


def _continues(id: str, start: str) -> bool:
    return id == start or id.startswith((f"{start}.", f"{start}:"))
