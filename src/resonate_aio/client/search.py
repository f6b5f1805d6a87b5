"""Searches: one page when awaited, everything when iterated over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from ..protocol.validation import MAX_SEARCH_LIMIT

T = TypeVar("T")


class Page(Generic[T]):
    """Some records, in the order of their ids.

    Attributes:
        items: The records.
        cursor: Where the next page begins: give it to the same search; None after the last.
    """

    __slots__ = ("cursor", "items")

    def __init__(self, items: tuple[T, ...], cursor: str | None) -> None:
        self.items = items
        self.cursor = cursor

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<Page of {len(self.items)}, cursor {self.cursor!r}>"


class Search(Generic[T]):
    """`await search` gives one `Page`, `async for record in search` every record, page by page.

    What is created or settled while a search goes on may or may not be in it.
    """

    __slots__ = ("_cursor", "_read")

    def __init__(
        self, read: Callable[[str | None], Awaitable[Page[T]]], cursor: str | None
    ) -> None:
        self._read = read
        self._cursor = cursor

    def __await__(self) -> Generator[Any, Any, Page[T]]:
        return self._read(self._cursor).__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        cursor = self._cursor
        while True:
            page = await self._read(cursor)
            for item in page.items:
                yield item
            cursor = page.cursor
            if cursor is None:
                return
            await asyncio.sleep(0)  # a store in memory answers at once: others go on meanwhile


def check_page(limit: Any, cursor: Any) -> str | None:
    """The size of a page and where it begins.

    Returns:
        The cursor.

    Raises:
        TypeError, ValueError: They cannot be meant.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit is an int, got {limit!r}")
    if not 1 <= limit <= MAX_SEARCH_LIMIT:
        raise ValueError(f"limit is 1 to {MAX_SEARCH_LIMIT}, got {limit}")
    if cursor is not None and not isinstance(cursor, str):
        raise TypeError(f"cursor is what an earlier page gave, got {cursor!r}")
    if cursor == "":
        raise ValueError("cursor is what an earlier page gave, got '': None begins at the start")
    return None if cursor is None else str.__str__(cursor)
