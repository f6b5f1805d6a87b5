"""What an execution on a legacy server recorded, found before its replay by search (S9).

What an execution asks for carries its id in the tag `resonate:root`, as with SDK 0.6.7, so
that a search by that tag finds its records and leaves out those of the executions it called.
Promises under ids of their own are named by log records and read one by one, and what was
recorded below them is searched for by their ids, for another execution may have asked first.

Records without a fingerprint were made by other clients, or by hand. They belong to no log of
inputs, so a replay that was given them would wait for inputs nobody recorded: it meets them
when it asks for their ids again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from ...protocol.records import Promise
from ..lineage import explicit_id, is_targeted
from .codec import ROOT_TAG

FINGERPRINT: Final = "resonate-aio:fp"
"""Header of every promise that an execution of this library asked for (S43)."""


class Search(Protocol):
    """One page of the promises that match (see `LegacyRest.search`)."""

    def __call__(
        self, pattern: str, *, tags: Mapping[str, str] | None = None, cursor: str | None = None
    ) -> Awaitable[tuple[list[Promise], str | None]]:
        """The promises on the page, and where the next page begins."""
        ...


async def load(
    root: str, get: Callable[[str], Awaitable[Promise | None]], search: Search
) -> list[Promise]:
    """Every stored promise that replay of this execution may ask for.

    Raises:
        ResonateStoreError: The server refused to tell.
    """
    found: dict[str, Promise] = {}
    await _find(search, root, {ROOT_TAG: root}, found)
    waiting = [named for promise in found.values() if (named := explicit_id(promise))]
    seen: set[str] = set()
    while waiting:
        id = waiting.pop()
        if id in seen:
            continue
        seen.add(id)
        promise = found.get(id) or await get(id)
        if promise is None:
            continue
        found[id] = promise
        if is_targeted(promise):
            continue  # an execution of its own
        below: dict[str, Promise] = {}
        await _find(search, id, None, below)
        found.update(below)
        waiting += [named for one in below.values() if (named := explicit_id(one))]
    return list(found.values())


async def _find(
    search: Search, top: str, tags: Mapping[str, str] | None, found: dict[str, Promise]
) -> None:
    """Find the records below an id; the server's pattern matches more than it says."""
    start = f"{top}."
    pages: list[Promise] = []
    cursor: str | None = None
    while True:
        page, cursor = await search(f"{start}*", tags=tags, cursor=cursor)
        pages += page
        if cursor is None:
            break
    others = {promise.id for promise in pages if is_targeted(promise)}
    for promise in pages:
        if not promise.id.startswith(start) or FINGERPRINT not in (promise.param.headers or {}):
            continue
        if not _is_below(promise.id, start, others):
            found[promise.id] = promise


def _is_below(id: str, start: str, others: set[str]) -> bool:
    """Whether an execution of its own is between the id and where the search began."""
    at = id.find(".", len(start))
    while at != -1:
        if id[:at] in others:
            return True
        at = id.find(".", at + 1)
    return False
