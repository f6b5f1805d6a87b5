"""A simulated server, a network and a virtual-time loop, for tests of the remote store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from tests.remote.rules import LENIENT, SimRules
from tests.remote.sim import SimNet, SimServer, remote_store
from tests.stores.drive import create, ok

from resonate_aio import Resonate
from resonate_aio.protocol.records import Promise, PromiseState
from resonate_aio.protocol.requests import (
    TaskCreate,
)
from resonate_aio.stores.remote import RemoteStore
from resonate_aio.testing import SimClock, SimLoop

T = TypeVar("T")
EXTERNAL = {"resonate:external": "true", "resonate:scope": "global"}
TIMER = {"resonate:timer": "true", "resonate:scope": "global"}


class World:
    """A server, a network and a virtual-time loop."""

    def __init__(self, rules: SimRules = LENIENT) -> None:
        self.loop = SimLoop()
        self.clock = SimClock(self.loop)
        self.server = SimServer(rules)
        self.server.attach(self.loop, self.clock)
        self.net = SimNet(self.server, Random(5))

    def store(self, **options: Any) -> RemoteStore:
        return remote_store(self.net, **options)

    def client(self, group: str = "default", **options: Any) -> Resonate:
        store = self.store(**options)
        return Resonate(store=store, group=group, pid=f"{group}1", clock=self.clock)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        result = self.loop.run_until_complete(work())
        left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        assert not left, left
        assert not self.loop.exceptions, self.loop.exceptions
        self.server.pause()
        self.loop.close()
        return result

    def with_store(self, work: Callable[[RemoteStore], Awaitable[T]], **options: Any) -> T:
        async def main() -> T:
            store = self.store(**options)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return self.run(main)

    def kinds(self) -> Counter[str]:
        return Counter(kind for kind, _ in self.server.requests)

    def task(self, id: str) -> Any:
        return self.server.machine.tasks[id]

    def promise(self, id: str) -> Promise:
        return self.server.machine.promises[id]

    def far_ms(self) -> int:
        return self.clock.now_ms() + 3_600_000

    def child(self, id: str, **more: Any) -> Promise:
        return Promise(id, PromiseState.PENDING, self.far_ms(), self.clock.now_ms(), **more)

    async def held(self, store: RemoteStore, id: str) -> int:
        action = create(id, timeout_at_ms=self.far_ms())
        task = (await ok(store, TaskCreate("p", 2**52, action))).task
        assert task is not None
        return task.version


def fault_once(*faults: tuple[str, str]) -> Callable[[str, Any], str]:
    """The first request of each of these kinds meets its fault."""
    left = dict(faults)

    def fault(kind: str, data: Any) -> str:
        inner = data.get("action", {}).get("kind", "") if kind == "task.fence" else ""
        return left.pop(f"{kind} {inner}".strip(), "")

    return fault
