"""The branches of a body: one for each of its asyncio tasks (S2, S3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ids import segment

if TYPE_CHECKING:
    from .body import Body


class Branch:
    """One asyncio task of a body, as far as ids go: it counts the calls made in it (S2).

    Attributes:
        made_for: What its asyncio task is being made of, while it is.
    """

    parent: Branch | None = None
    prefix: str = ""
    count: int = 0
    siblings: dict[str, int] | None = None
    is_unordered: bool = False
    made_for: object = None

    def __init__(self, parent: Branch | None, prefix: str) -> None:
        self.parent = parent
        if parent is not None and parent.is_unordered:
            self.is_unordered = True
        self.body: Body = parent.body if parent is not None else self  # type: ignore[assignment]
        self.prefix = prefix

    def fork_unordered(self) -> Branch:
        """The branch of a task whose place among its siblings is luck: it makes no call (S3)."""
        branch = Branch(self, "")
        branch.is_unordered = True
        branch.body = None  # type: ignore[assignment]  # so that it is nobody's branch
        return branch

    def may_wait_in(self, body: Body) -> bool:
        """Whether a promise of the body may be awaited here: that takes no id."""
        if self.body is body:
            return True
        return self.is_unordered and self.parent is not None and self.parent.body is body

    def fork(self, qualname: str) -> Branch:
        """The branch of an asyncio task that is being created in this one."""
        if self.siblings is None:
            self.siblings = {}
        number = self.siblings[qualname] = self.siblings.get(qualname, 0) + 1
        return Branch(self, f"{self.prefix}{segment(self.count, qualname, number)}.")
