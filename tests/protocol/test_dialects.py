"""Id dialects and lineage tags (S61, S62), judged by the rules of strict servers."""

from __future__ import annotations

import pytest

from resonate_aio.protocol.dialects import (
    BRANCH,
    EXECUTION_TAG,
    IDS_TAG,
    ORIGIN,
    PARENT,
    PREFIX,
    Dialect,
    Lineage,
    dialect_of,
    origin_of,
    parent_of,
    root_tags,
)
from resonate_aio.protocol.records import Promise, PromiseState

DOT, COLON = Dialect.DOT, Dialect.COLON


def promise(id: str, **tags: str) -> Promise:
    named = {name.replace("_", ":", 1): text for name, text in tags.items()}
    return Promise(id, PromiseState.PENDING, 10, 0, tags=named)


def root(id: str, dialect: Dialect) -> Promise:
    return Promise(id, PromiseState.PENDING, 10, 0, tags=root_tags(id, dialect))


def check_as_strict_server(id: str, tags: dict[str, str], dialect: Dialect) -> None:
    """The tag rules of current-protocol §1, as a server of one dialect applies them."""
    separator = "." if dialect is DOT else ":"
    origin = tags.get(ORIGIN)
    if origin is not None:
        assert separator not in origin
        assert id == origin or id.startswith(origin + separator)
    for name in (BRANCH, PARENT):
        start = tags.get(name)
        if start is not None:
            joint = "." if dialect is DOT or ":" in start else ":"
            assert id == start or id.startswith(start + joint), (name, id, start)
    assert "." not in tags.get(PREFIX, "")
    assert ":" not in tags.get(PREFIX, "")


@pytest.mark.parametrize("dialect", [DOT, COLON])
@pytest.mark.parametrize("id", ["order", "my.app", "a:b", "x/y-z", "ü", "a.b:c", "a:b.c"])
def test_tags_pass_a_strict_server(id: str, dialect: Dialect) -> None:
    parent = root(id, dialect)
    check_as_strict_server(id, parent.tags, dialect)
    lineage = Lineage(parent, dialect)
    for rest in ("1", "2.7", "1.0-helper-1.3", "10.1.2"):
        child = lineage.start + rest
        for own in (False, True):
            tags = lineage.tags(child, own_branch=own)
            if ":" not in id or dialect is DOT:
                # A strict colon server reads such a root as a child: what it derives is its own.
                check_as_strict_server(child, tags, dialect)
            assert tags[EXECUTION_TAG] == id
            assert tags[BRANCH] == (child if own else id)


@pytest.mark.parametrize("dialect", [DOT, COLON])
def test_an_rpc_child_continues_with_dots_and_keeps_the_origin(dialect: Dialect) -> None:
    lineage = Lineage(root("order", dialect), dialect)
    id = lineage.start + "3"
    child = Promise(id, PromiseState.PENDING, 10, 0, tags=lineage.tags(id, own_branch=True))
    assert dialect_of(child) is DOT
    below = Lineage(child, DOT)
    tags = below.tags(f"{id}.1", own_branch=False)
    check_as_strict_server(f"{id}.1", tags, dialect)
    assert (tags[ORIGIN], tags[BRANCH], tags[PARENT]) == ("order", id, id)


def test_the_root_says_its_dialect() -> None:
    assert dialect_of(root("a", COLON)) is COLON
    assert dialect_of(root("a.b", DOT)) is DOT
    assert dialect_of(promise("a")) is None
    assert dialect_of(promise("a", resonate_origin="a")) is None
    assert dialect_of(Promise("a", PromiseState.PENDING, 1, 0, tags={IDS_TAG: "other"})) is None


def test_below_a_root_the_dialect_is_settled() -> None:
    assert dialect_of(promise("a:1")) is DOT
    assert dialect_of(promise("a.1", resonate_origin="a")) is DOT


def test_an_explicit_id_carries_no_lineage() -> None:
    lineage = Lineage(root("order", DOT), DOT)
    assert lineage.tags("elsewhere", own_branch=False) == {EXECUTION_TAG: "order"}
    assert lineage.tags("orders.1", own_branch=True) == {EXECUTION_TAG: "order"}


def test_a_scheduled_root_whose_stamps_hold_a_dot_names_no_origin() -> None:
    # The server stamps an expanded id without looking at it (current-protocol §1).
    id = "nightly.1700000000000"
    stamps = {ORIGIN: id, BRANCH: id, PARENT: id, PREFIX: id}
    lineage = Lineage(Promise(id, PromiseState.PENDING, 10, 0, tags=stamps), DOT)
    tags = lineage.tags(f"{id}.1", own_branch=False)
    check_as_strict_server(f"{id}.1", tags, DOT)
    assert ORIGIN not in tags
    assert PREFIX not in tags


@pytest.mark.parametrize(
    ("id", "parent"),
    [
        ("r.1", "r"),
        ("r.1.2", "r.1"),
        ("r:1", "r"),
        ("r:1.2", "r:1"),
        ("r.3.0-helper-1.2", "r.3"),
        ("r.0-helper-1.2-inner-1.4", "r"),
    ],
)
def test_parent_of(id: str, parent: str) -> None:
    assert parent_of(id, "r") == parent


@pytest.mark.parametrize(
    ("id", "dot", "colon"),
    [("a", "a", "a"), ("a.1", "a", "a.1"), ("a:1.2", "a:1", "a"), ("my.app:1", "my", "my.app")],
)
def test_origin_of(id: str, dot: str, colon: str) -> None:
    assert (origin_of(id, DOT), origin_of(id, COLON)) == (dot, colon)
