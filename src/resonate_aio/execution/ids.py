"""Derived ids: children and branches (S1, S2), taken apart and put together.

A child is `{body}.{n}`. A call made in another asyncio task of the same body carries that
task's branch segments: `{body}.{segment}.{n}`, where a segment is
`{creator's ids so far}-{name}-{number among siblings of that name}`. A segment always holds
a hyphen and never a dot, a child's number holds neither, so the two never meet.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[^A-Za-z0-9_]+")
_NAME_CHARACTERS = 40


def segment(ids_so_far: int, qualname: str, number: int) -> str:
    """The branch segment of an asyncio task created inside a body (S2)."""
    name = _UNSAFE.sub("_", qualname.rpartition("<locals>.")[2])[:_NAME_CHARACTERS] or "task"
    return f"{ids_so_far}-{name}-{number}"


def body_of(id: str, root: str, joint: str = ".") -> str | None:
    """The id of the body that asked for this derived id, or None if root is not above it.

    Args:
        joint: What stands between the root's id and the rest (S61).
    """
    if not id.startswith(root) or id[len(root) : len(root) + 1] != joint:
        return None
    parts = id[len(root) + 1 :].split(".")
    if not parts[-1].isdecimal():
        return None
    parts.pop()
    while parts and not parts[-1].isdecimal():
        parts.pop()
    return f"{root}{joint}{'.'.join(parts)}" if parts else root


def order_of(suffix: str) -> tuple[tuple[int, str], ...]:
    """A sort key that puts `p.2` before `p.10`."""
    return tuple(
        (int(part), "") if part.isdecimal() else (int(part.partition("-")[0] or 0), part)
        for part in suffix.split(".")
    )
