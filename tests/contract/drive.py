"""Short forms of what the contract suite asks of every store."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.stores.drive import (
    TTL_MS,
    Inbox,
    acquire,
    child,
    create,
    ok,
)

from resonate_aio.protocol.records import Promise, Value, is_pending
from resonate_aio.protocol.requests import (
    Execute,
    PromiseCreate,
    PromiseGet,
    TaskCreate,
    TaskRelease,
)
from resonate_aio.stores.base import Store

EXTERNAL = {"resonate:external": "true", "resonate:scope": "global"}
TIMER = {"resonate:timer": "true", "resonate:scope": "global"}
FINGERPRINT = "resonate-aio:fp"
EXPLICIT = "resonate-aio:explicit"
SOON_S = 15.0
"""What a server may take to tell (S66)."""


def external(id: str, **more: Any) -> PromiseCreate:
    return create(id, target=None, tags=EXTERNAL, **more)


def call(id: str, root: str, headers: dict[str, str] | None = None, **more: Any) -> Promise:
    """A call of an execution, as the runtime records it: with a fingerprint (S43)."""
    return child(id, root, param=Value({FINGERPRINT: "run|f|1|", **(headers or {})}), **more)


def taken(group: str, id: str) -> PromiseCreate:
    """A top-level promise for a group of its own."""
    return create(id, target=f"poll://any@{group}")


async def heard(inbox: Inbox, id: str) -> Execute:
    """The message that offers this task, once it comes."""
    async with asyncio.timeout(SOON_S):
        while True:
            for message in inbox.seen:
                if isinstance(message, Execute) and message.id == id:
                    return message
            await inbox.until(len(inbox.seen) + 1)


async def retaken(before: Store, after: Store, root: str, version: int) -> int:
    """Give a task back and take it again, as one worker after another does; its new version."""
    inbox = Inbox()
    leave = after.subscribe(f"g{root}", "next", inbox)
    await asyncio.sleep(0.3)
    await ok(before, TaskRelease(root, version))
    message = await heard(inbox, root)
    task = (await ok(after, acquire(root, message.version, "next"))).task
    assert task is not None
    leave()
    return task.version


async def hold(store: Store, root: str) -> int:
    """Create an execution of a group of its own, and hold it; its version."""
    task = (await ok(store, TaskCreate("p", TTL_MS, taken(f"g{root}", root)))).task
    assert task is not None
    return task.version


async def settled(store: Store, id: str) -> Promise:
    """Read until the promise is settled."""
    async with asyncio.timeout(SOON_S):
        while True:
            promise = (await ok(store, PromiseGet(id))).promise
            assert promise is not None
            if not is_pending(promise):
                return promise
            await asyncio.sleep(0.05)
