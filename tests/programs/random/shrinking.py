"""Smaller programs: what a random program is still without one of its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from .nodes import Node, Part, parts_of


def smaller(part: Part) -> Iterator[Part]:
    """Programs with a little less in them, the smallest first."""
    nodes = part.nodes
    for n, node in enumerate(nodes):
        if len(nodes) > 1:
            yield replace(part, nodes=(*nodes[:n], *nodes[n + 1 :]))
        for inner in parts_of(node):
            yield replace(part, nodes=(*nodes[:n], *inner.nodes, *nodes[n + 1 :]))
    if part.raises:
        yield replace(part, raises=False)
    for n, node in enumerate(nodes):
        for less in _smaller_node(node):
            yield replace(part, nodes=(*nodes[:n], less, *nodes[n + 1 :]))


def _smaller_node(node: Node) -> Iterator[Node]:
    for field in fields(node):
        for less in _smaller_value(getattr(node, field.name)):
            changed: dict[str, Any] = {field.name: less}
            yield replace(node, **changed)


def _smaller_value(value: Any) -> Iterator[Any]:
    if isinstance(value, Part):
        yield from smaller(value)
    elif isinstance(value, tuple) and value and isinstance(value[0], Part):
        for n, part in enumerate(value):
            if len(value) > 1:
                yield (*value[:n], *value[n + 1 :])
            for less in smaller(part):
                yield (*value[:n], less, *value[n + 1 :])
