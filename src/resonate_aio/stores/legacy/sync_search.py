"""What an execution recorded, on a store that cannot list: its ids are asked for in turn (S9).

Children are numbered, so `p.1`, `p.2` and on are asked for until some are not there. The names of
the branches of helper tasks (S2) cannot be guessed: before the first record in a branch its name
is put into a small promise `{root}.~1`, `{root}.~2` and on, which nobody waits for. What was
recorded below an explicit id by another execution's helpers is not found: it is met when the
program asks for it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .codec import ROOT_TAG
from .sync_records import promise_to_rest, status_of

_GAP: Final = 4
"""Calls that were made and not awaited leave numbers out: so many are looked beyond."""

_ROOTS: Final = 4096
_TAKEN: Final = frozenset({403, 409})
_CANNOT_LIST: Final = "a store of SDK release 0.6.7 cannot list what it has"

Rest = dict[str, Any]


class NotListedError(Exception):
    """The store was asked to list; its code is a refusal."""

    code = 400


class Finder:
    """Finds records by their ids. Blocking, for the store's thread.

    Args:
        store: The object of release 0.6.7.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._branches: dict[str, list[str]] = {}
        """Root -> the prefixes of its branches that are kept in the store."""

    def page(self, kind: str, query: dict[str, list[str]]) -> Rest:
        """The answer to a search for what is below one id.

        Raises:
            NotListedError: It is another search.
        """
        pattern = query.get("id", ["*"])[0]
        top = pattern.removesuffix(".*")
        if kind != "promises" or "*" in top or top == pattern:
            raise NotListedError(_CANNOT_LIST)
        return {"promises": list(self._below(top)), "cursor": None}

    def keep_branch(self, body: Rest) -> None:
        """Keep the name of the branch that this create is the first of."""
        root = body.get("tags", {}).get(ROOT_TAG)
        prefix = body["id"].rpartition(".")[0]
        if root is None or not prefix.startswith(f"{root}."):
            return
        if prefix.rpartition(".")[2].isdecimal():
            return
        while prefix not in (known := self._known_branches(root)):
            id = f"{root}.~{len(known) + 1}"
            try:
                kept = self._store.promises.create(
                    id=id, timeout=body["timeout"], ikey=prefix, data=prefix, tags={}
                )
            except Exception as error:
                if status_of(error) not in _TAKEN:
                    raise
                kept = self._store.promises.get(id)  # who held the execution before us kept it
            known.append(str(kept.param.data))

    def _known_branches(self, root: str) -> list[str]:
        known = self._branches.get(root)
        if known is None:
            if len(self._branches) >= _ROOTS:
                self._branches.clear()
            known = self._branches[root] = []
            while (kept := self._get(f"{root}.~{len(known) + 1}")) is not None:
                known.append(str(kept.param.data))
        return known

    def _below(self, top: str) -> Iterator[Rest]:
        self._branches.pop(top, None)  # others may have held it meanwhile
        self._known_branches(top)
        yield from self._numbered(top)
        for prefixes in list(self._branches.values()):
            for prefix in prefixes:
                if prefix.startswith(f"{top}."):
                    yield from self._numbered(prefix)

    def _numbered(self, prefix: str) -> Iterator[Rest]:
        number = missed = 0
        while missed < _GAP:
            number += 1
            promise = self._get(f"{prefix}.{number}")
            if promise is None:
                missed += 1
                continue
            missed = 0
            yield promise_to_rest(promise)
            if "resonate:invoke" not in (promise.tags or {}):
                yield from self._numbered(promise.id)

    def _get(self, id: str) -> Any:
        try:
            return self._store.promises.get(id)
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise
