"""The messages of an in-process store, as a message source (S53)."""

from __future__ import annotations

import asyncio

from resonate_aio.protocol.requests import Execute, Message, PromiseCreate
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.transports.local import LocalMessages

FAR_MS = 4_102_444_800_000


async def test_pending_and_new_tasks_are_delivered_until_stop() -> None:
    store = MemoryStore()
    await store.open()
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    source = LocalMessages(store)

    async def create(id: str) -> None:
        tags = {"resonate:target": "poll://any@g"}
        assert (await store.call(PromiseCreate(id, FAR_MS, tags=tags))).status == 200

    await create("before")
    await source.start("g", "p", inbox.put_nowait)
    assert await inbox.get() == Execute("before", 0)
    await create("while")
    while (message := await inbox.get()) != Execute("while", 0):
        assert message == Execute("before", 0), "a message may come twice: it is a hint (S50)"
    await source.stop()
    await source.stop()
    await create("after")
    await asyncio.sleep(0.01)
    assert inbox.empty()
    await store.close()
