"""`resonate-aio tree`: the calls of an execution, live, whoever runs it and wherever.

What belongs to an execution is found by its tags, by its ids (a child's continues its
parent's after a dot or a colon) and by the explicit ids its records name, so that executions
of every client are shown, of local ones too. Drawing is pure.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final

import click
import msgspec

from ..execution.log import EXPLICIT_HEADER, FINGERPRINT_HEADER
from ..protocol.dialects import TARGET
from ..protocol.records import Promise, is_pending, is_timer
from ..protocol.requests import PromiseGet, PromiseSearch, TaskSearch
from .connection import Asker, server_options, speak, target_of
from .output import emit, emit_json, escaped, note
from .records import data_of, promise_json, span

MOST: Final = 10_000
"""Records that are read for one tree."""

_PAGE: Final = 1_000
_ROOT: Final = "resonate:root"
_ORIGINS: Final = ("resonate:origin", _ROOT)
"""What the generations of servers call the execution a promise belongs to."""

_PARENT: Final = "resonate:parent"
_PARTS: Final = re.compile(r"[.:]")
_MARKS: Final = {
    "pending": "…",
    "resolved": "✓",
    "rejected": "✗",
    "rejected_canceled": "⊘",
    "rejected_timedout": "⏱",
}


class Node(msgspec.Struct):
    """A call with the calls it made."""

    promise: Promise
    children: list[Node]


@click.command(short_help="Show the calls of an execution.")
@click.argument("id")
@click.option("--depth", type=click.IntRange(min=0), help="How many levels to show.")
@server_options
def tree(id: str, depth: int | None, as_json: bool, **options: Any) -> None:
    """Show what the execution ID did so far and what it waits for, as a tree.

    It is read from the server alone, so it works while the execution runs, while its worker
    is dead, and after its end.
    """
    found, is_all = speak(target_of(options), lambda asker: collect(asker, id))
    root = nested(id, found)
    now_ms = time.time_ns() // 1_000_000
    if as_json:
        emit_json(_json(root, depth))
    else:
        for line in drawn(root, now_ms, depth):
            emit(line)
    if not is_all:
        note(f"Only the first {MOST} calls were read.")


async def collect(asker: Asker, id: str) -> tuple[list[Promise], bool]:
    """Every promise of the execution, and whether there was no limit in the way.

    Raises:
        ResonateStoreError: There is no promise of that id (code 404).
    """
    root = (await asker.done(PromiseGet(id))).promise
    assert root is not None  # what a reply of 200 shows
    found = {id: root}
    is_all = True
    for tag in _ORIGINS:
        is_all &= await _tagged(asker, {tag: root.tags.get(tag, id)}, found)
    if _ROOT in root.tags:
        is_all &= await _called(asker, id, found)
    # Legacy servers list no tasks, go by age and not by id, and have other cursors.
    goes_by_id = (await asker.reply(TaskSearch(limit=1))).status == 200
    trees = [id]
    for tree in trees:  # it grows: calls under an explicit id may make such calls themselves
        for separator in (".", ":") if goes_by_id else ():
            is_all &= await _continuing(asker, tree + separator, found)
        named = {name for promise in found.values() if (name := _named(promise)) is not None}
        for name in sorted(named.difference(trees)):
            if name not in found:
                promise = (await asker.reply(PromiseGet(name))).promise
                if promise is None:
                    continue
                found[name] = promise
            trees.append(name)
    return list(found.values()), is_all


async def _called(asker: Asker, id: str, found: dict[str, Promise]) -> bool:
    """On legacy servers what an rpc asked for names the rpc, not its caller, as its root."""
    is_all = True
    asked = {id}
    while calls := [p.id for p in found.values() if TARGET in p.tags and p.id not in asked]:
        asked.update(calls)
        for call in calls:
            is_all &= await _tagged(asker, {_ROOT: call}, found)
    return is_all


async def _tagged(asker: Asker, tags: dict[str, str], found: dict[str, Promise]) -> bool:
    cursor: str | None = None
    while len(found) < MOST:
        request = PromiseSearch(tags=tags, limit=_PAGE, cursor=cursor)
        reply = await asker.done(request)
        found.update({promise.id: promise for promise in reply.promises})
        cursor = reply.cursor
        if cursor is None:
            return True
    return False


async def _continuing(asker: Asker, start: str, found: dict[str, Promise]) -> bool:
    """Searches go in the order of ids, so what begins alike lies together."""
    cursor: str | None = start
    while len(found) < MOST:
        reply = await asker.done(PromiseSearch(limit=_PAGE, cursor=cursor))
        for promise in reply.promises:
            if not promise.id.startswith(start):
                return True
            found[promise.id] = promise
        cursor = reply.cursor
        if cursor is None:
            return True
    return False


def nested(id: str, promises: list[Promise]) -> Node:
    """The tree under an id; what does not hang together with it is left out."""
    nodes = {promise.id: Node(promise, []) for promise in promises}
    stands_for = {named: promise.id for promise in promises if (named := _named(promise)) in nodes}
    for promise in promises:
        if promise.id == id or promise.id in stands_for.values():
            continue
        record = stands_for.get(promise.id)
        parent = _parent_of(promise if record is None else nodes[record].promise, nodes, id)
        if parent is not None and parent != promise.id:
            nodes[parent].children.append(nodes[promise.id])
    for node in nodes.values():
        node.children.sort(
            key=lambda child: _order(stands_for.get(child.promise.id, child.promise.id))
        )
    return nodes[id]


def drawn(root: Node, now_ms: int, depth: int | None = None) -> Iterator[str]:
    """The lines of a tree."""
    stack: list[tuple[Node, str, str, int]] = [(root, "", "", 0)]
    seen: set[str] = set()
    while stack:
        node, before, below, level = stack.pop()
        if node.promise.id in seen:
            continue
        seen.add(node.promise.id)
        yield before + _line(node.promise, now_ms)
        if depth is not None and level >= depth:
            continue
        last = len(node.children) - 1
        for place in range(last, -1, -1):
            corner, bar = ("└─ ", "   ") if place == last else ("├─ ", "│  ")
            stack.append((node.children[place], below + corner, below + bar, level + 1))


def _json(node: Node, depth: int | None) -> dict[str, Any]:
    shown = {**promise_json(node.promise), "what": _what(node.promise)}
    below = [] if depth == 0 else node.children
    deeper = None if depth is None else depth - 1
    return {**shown, "children": [_json(child, deeper) for child in below]}


def _parent_of(promise: Promise, nodes: dict[str, Node], root: str) -> str | None:
    named = promise.tags.get(_PARENT)
    if named is not None and named != promise.id and named in nodes:
        return named
    id = promise.id
    for match in reversed(list(_PARTS.finditer(id))):
        if id[: match.start()] in nodes:
            return id[: match.start()]
    return root if root in map(promise.tags.get, _ORIGINS) else None


def _named(promise: Promise) -> str | None:
    """The explicit id whose log record this is (S4)."""
    return (promise.param.headers or {}).get(EXPLICIT_HEADER)


def _order(id: str) -> list[tuple[int, int, str]]:
    """Puts `p.2` before `p.10`."""
    return [
        (0, int(part), "") if part.isdecimal() and len(part) < 20 else (1, 0, part)
        for part in _PARTS.split(id)
    ]


def _line(promise: Promise, now_ms: int) -> str:
    state = promise.state.value
    end_ms = promise.settled_at_ms if promise.settled_at_ms is not None else now_ms
    took = span(max(0, end_ms - promise.created_at_ms))
    since = "for" if is_pending(promise) else "in"
    return (
        f"{_MARKS[state]} {escaped(promise.id)}  {escaped(_what(promise))}  {state} {since} {took}"
    )


def _what(promise: Promise) -> str:
    """What a promise stands for, in a word or two."""
    data = data_of(promise.param)
    func = data.get("func") if isinstance(data, dict) else None
    fingerprint = (promise.param.headers or {}).get(FINGERPRINT_HEADER)
    if fingerprint is not None:
        kind, _, rest = fingerprint.partition("|")
        name = rest.partition("|")[0] or (func if isinstance(func, str) else "")
        return f"{kind} {name}".strip()
    if is_timer(promise):
        return "sleep"
    if isinstance(func, str):
        return func
    return "run" if promise.tags.get("resonate:scope") == "local" else "promise"
