"""What is recorded of an execution, as text: its calls as a tree (H3, P12).

Read from the store alone, so that it can be asked for wherever the execution runs, and after
it has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import ResonateStoreError, ValueCodecError
from ..execution.ids import body_of, order_of
from ..execution.log import EXPLICIT_HEADER, FINGERPRINT_HEADER, VOLATILE_HEADER
from ..protocol.records import Promise, target_of
from ..protocol.requests import PromiseGet
from ..protocol.values import decode
from ..stores.base import Store

_MOST_LINES = 1_000
_INDENT = "  "


async def explain(store: Store, id: str, now_ms: int) -> str:
    """The execution's calls as a tree, one line each: id, state, what it is, how long it took.

    Raises:
        ResonateStoreError: There is no promise of that id (code 404).
    """
    root = await _read(store, id)
    if root is None:
        raise ResonateStoreError(f"no promise {id!r} exists: nothing was started under it", 404)
    lines: list[str] = []
    stack: list[tuple[str, Promise, dict[str, list[Promise]] | None]] = [("", root, None)]
    while stack and len(lines) < _MOST_LINES:
        indent, promise, children = stack.pop()
        untaken = untaken_target(store, promise.id) if target_of(promise) is not None else None
        where = "" if untaken is None else f", waits for a worker at {in_short(untaken)}"
        lines.append(f"{indent}{_line(promise, now_ms)}{where}")
        if children is None or target_of(promise) is not None:
            children = _by_parent(promise.id, await store.load(promise.id))
        below = children.get(promise.id, [])
        stack.extend((indent + _INDENT, child, children) for child in reversed(below))
    if stack:
        lines.append("… and more")
    return "\n".join(lines)


def untaken_target(store: Any, id: str) -> str | None:
    """Where an execution waits for somebody to take it, as far as the store can tell."""
    asked: Callable[[str], str | None] | None = getattr(store, "untaken_target", None)
    return None if asked is None else asked(id)


def in_short(address: str) -> str:
    """The address without the pid of a preferred worker: any other one of its group may do."""
    scheme, separator, rest = address.partition("://any@")
    return scheme + separator + rest.partition("/")[0] if separator else address


async def _read(store: Store, id: str) -> Promise | None:
    return (await store.call(PromiseGet(id))).promise


def _by_parent(root: str, records: list[Promise]) -> dict[str, list[Promise]]:
    """The records of an execution by the id of the call that asked for them, in order."""
    named = {name: promise.id for promise in records if (name := _named(promise)) is not None}
    children: dict[str, list[Promise]] = {}
    for promise in records:
        parent = named.get(promise.id)
        if parent is None:
            bodies = (_asked_by(promise.id, top) for top in (*named, root))
            parent = next((body for body in bodies if body is not None), root)
        children.setdefault(parent, []).append(promise)
    for above, found in children.items():
        found.sort(key=partial(_place, above))
    return children


def _place(parent: str, promise: Promise) -> tuple[bool, Any]:
    """Where a record stands among its siblings: in the order of the calls, others at the end."""
    if _asked_by(promise.id, parent) != parent:
        return True, promise.id
    return False, order_of(promise.id[len(parent) + 1 :])


def _asked_by(id: str, root: str) -> str | None:
    """The id of the body that asked for a derived id, in either dialect (S61)."""
    return body_of(id, root) or body_of(id, root, ":")


def _named(promise: Promise) -> str | None:
    """The explicit id whose log record this is (S4)."""
    return (promise.param.headers or {}).get(EXPLICIT_HEADER)


def _line(promise: Promise, now_ms: int) -> str:
    explicit = _named(promise)
    if explicit is not None:
        return f"{promise.id} -> {explicit}"
    end_ms = promise.settled_at_ms
    took_s = ((end_ms if end_ms is not None else now_ms) - promise.created_at_ms) / 1000
    since = "for" if end_ms is None else "after"
    return f"{promise.id} {promise.state} {_what(promise)} {since} {took_s:g} s"


def _what(promise: Promise) -> str:
    headers = promise.param.headers or {}
    fingerprint = headers.get(FINGERPRINT_HEADER)
    if fingerprint is not None:
        kind, _, rest = fingerprint.partition("|")
        name = rest.partition("|")[0]
        what = f"{kind} {name}" if name else kind
        return f"{what} (not durable)" if VOLATILE_HEADER in headers else what
    try:
        data = decode(promise.param.data)
    except ValueCodecError:
        data = None
    func = data.get("func") if isinstance(data, dict) else None
    return func if isinstance(func, str) else "promise"
