"""What a stored record says about where it belongs: pure readings of ids, owners and tags.

An execution's records are found by their stored owner. Ids only say where to look: a child's
id continues its parent's after a dot, but a user may choose any id with dots in it (S45).
This file knows no store and no time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ..protocol.records import Promise

EXPLICIT: Final = "resonate-aio:explicit"
"""Header of a log record's param: the explicit id it stands for (S4, S9)."""


_ENCODER: Final = msgspec.msgpack.Encoder()


def prefixes(id: str) -> Iterator[str]:
    """Every proper part of the id that ends before a dot, shortest first."""
    at = id.find(".")
    while at != -1:
        yield id[:at]
        at = id.find(".", at + 1)


def explicit_id(promise: Promise) -> str | None:
    """The explicit id a log record names, or None for any other record."""
    headers = promise.param.headers
    return headers.get(EXPLICIT) if headers else None


def is_targeted(promise: Promise) -> bool:
    """Whether the promise has a task, so that its subtree is an execution of its own."""
    return "resonate:target" in promise.tags


def is_root(promise: Promise) -> bool:
    """Whether retention judges the record by itself, not with its owner (S45)."""
    return not promise.owner or is_targeted(promise)


def is_derived(promise: Promise) -> bool:
    """Whether the owner asked for the promise under an id derived from its own."""
    owner = promise.owner
    return bool(owner) and promise.id.startswith(f"{owner}.")


def unstorable(request: Any) -> str | None:
    """What in a request cannot be written as UTF-8 text, or None if all of it can."""
    try:
        _ENCODER.encode(request)
    except (UnicodeEncodeError, OverflowError):  # numbers are judged by the machine
        return _unstorable_part(request)
    return None


def _unstorable_part(value: Any) -> str | None:
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return f"text must be valid Unicode, has a lone surrogate: {value!r:.100}"
        return None
    if isinstance(value, dict):
        parts: Any = (*value, *value.values())
    elif isinstance(value, tuple):
        parts = value
    elif isinstance(value, msgspec.Struct):
        parts = [getattr(value, name) for name in value.__struct_fields__]
    else:
        return None
    for part in parts:
        fault = _unstorable_part(part)
        if fault is not None:
            return fault
    return None
