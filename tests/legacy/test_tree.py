"""The call tree of an execution on a legacy server goes on below its rpcs."""

from __future__ import annotations

from tests.legacy.drive import create, hold, record, target
from tests.legacy.opening import MakeStore

from resonate_aio.cli.connection import Asker
from resonate_aio.cli.tree import Node, collect, nested
from resonate_aio.protocol.requests import TaskAcquire
from resonate_aio.protocol.values import encode


def shape(node: Node) -> dict[str, object]:
    return {child.promise.id: shape(child) for child in node.children}


async def test_what_an_rpc_asked_for_is_shown_below_it(open_store: MakeStore) -> None:
    store = await open_store()
    task = await hold(store, "r")
    await create(store, task, record("r.1", "r"))
    await create(store, task, record("r.1.1", "r"))
    await create(store, task, record("r.2", "r", target(), data=encode({"func": "g"})))
    other = await hold(store, "other")
    await create(store, other, record("other.1", "other"))
    # The worker of r.2 asks under its own root, and calls on.
    claimed = await store.call(TaskAcquire("r.2", 1, "p", 1000))
    assert claimed.task is not None
    await create(store, claimed.task, record("r.2.1", "r.2", target(), data=encode({"func": "h"})))
    again = await store.call(TaskAcquire("r.2.1", 1, "p", 1000))
    assert again.task is not None
    await create(store, again.task, record("r.2.1.1", "r.2.1"))
    found, is_all = await collect(Asker(store.call), "r")
    assert is_all
    assert shape(nested("r", found)) == {
        "r.1": {"r.1.1": {}},
        "r.2": {"r.2.1": {"r.2.1.1": {}}},
    }
