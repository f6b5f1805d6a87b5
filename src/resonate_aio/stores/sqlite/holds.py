"""What a store with partial memory must keep in it for the executions that are held.

A fenced create takes "not in memory" for "does not exist". That is sound for an id below a
held root as long as every record that somebody else put there is in memory; what the holder
itself recorded may be forgotten, because it asks for an id once. This file keeps the account
of who keeps what. It knows no machine, file or loop.
"""

from __future__ import annotations

from ...protocol.records import Promise
from ..lineage import prefixes


class Hold:
    """One execution that is held, or about to be.

    `found` is what a scan at the acquire brought to light, until `load` asks for it or the
    first fenced create makes it stale.
    """

    __slots__ = ("claims", "found", "kept", "root", "trees")

    def __init__(self, root: str) -> None:
        self.root = root
        self.claims = 0
        self.found: list[Promise] | None = None
        # There may be many thousand holds: most never keep a record or cover a second tree.
        self.kept: dict[str, None] | None = None
        self.trees: tuple[str, ...] = ()
        """The explicit ids that it covers beside its root."""


class Holds:
    """The holds of a store, by root and by the trees of ids they cover."""

    __slots__ = ("_by_tree", "_keepers", "by_root", "known")

    def __init__(self) -> None:
        self.by_root: dict[str, Hold] = {}
        self.known: dict[str, str] = {}
        """Roots below which absence from memory means absence, with the ids' beginning."""
        self._by_tree: dict[str, tuple[Hold, ...]] = {}
        self._keepers: dict[str, int] = {}

    def claim(self, root: str) -> Hold:
        """The hold of the root, made if need be; counts an acquire that is on its way."""
        hold = self.by_root.get(root)
        if hold is None:
            hold = self.by_root[root] = Hold(root)
            self._by_tree[root] = (*self._by_tree.get(root, ()), hold)
        hold.claims += 1
        return hold

    def trust(self, hold: Hold) -> None:
        """Everything that others put below the root and its trees is in memory from now on."""
        hold.found = None
        self.known[hold.root] = f"{hold.root}."

    def doubt(self, root: str) -> None:
        """The root is held anew: what is below it is looked at before memory is trusted."""
        self.known.pop(root, None)

    def cover(self, hold: Hold, tree: str) -> None:
        """Let the hold cover the ids below this explicit id too."""
        if tree != hold.root and tree not in hold.trees:
            hold.trees = (*hold.trees, tree)
            self._by_tree[tree] = (*self._by_tree.get(tree, ()), hold)

    def covers(self, root: str, id: str) -> bool:
        """Whether absence of the id from memory means absence, for the holder of the root."""
        if root not in self.known:
            return False
        trees = self.by_root[root].trees
        return any(prefix == root or prefix in trees for prefix in prefixes(id))

    def keep(self, hold: Hold, id: str) -> None:
        """Keep the record in memory for as long as the hold lasts."""
        if hold.kept is None:
            hold.kept = {}
        if id not in hold.kept:
            hold.kept[id] = None
            self._keepers[id] = self._keepers.get(id, 0) + 1

    def keep_below(self, id: str) -> None:
        """Keep the record for every hold that covers its id."""
        if "." not in id:
            return
        for prefix in prefixes(id):
            for hold in self._by_tree.get(prefix, ()):
                self.keep(hold, id)

    def may_forget(self, promise: Promise) -> bool:
        """Whether no hold needs the settled record in memory."""
        return bool(self.not_needed([promise]))

    def not_needed(self, promises: list[Promise]) -> list[Promise]:
        """Those of the settled records that no hold needs in memory."""
        if self.by_root:
            for promise in promises:
                owner = promise.owner
                # As `is_derived`, which is one call too many for what every step goes through.
                if not owner or not promise.id.startswith(f"{owner}."):
                    self.keep_below(promise.id)
        keepers = self._keepers
        if not keepers:
            return promises
        return [promise for promise in promises if promise.id not in keepers]

    def end(self, hold: Hold) -> list[str]:
        """End the hold.

        Returns:
            The ids that nobody keeps any more.
        """
        del self.by_root[hold.root]
        self.known.pop(hold.root, None)
        for tree in (hold.root, *hold.trees):
            holds = self._by_tree[tree]
            if len(holds) == 1:
                del self._by_tree[tree]
            else:
                self._by_tree[tree] = tuple(other for other in holds if other is not hold)
        freed = []
        for id in hold.kept or ():
            self._keepers[id] -= 1
            if not self._keepers[id]:
                del self._keepers[id]
                freed.append(id)
        return freed
