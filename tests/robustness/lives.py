"""What the tests of this folder share: lives of one process on virtual time.

A life has one event loop, one store in memory and one client. The next life is given what
the store had recorded, as after `kill -9`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from resonate_aio import Function, Handle, Resonate
from resonate_aio.execution.log import CUT_HEADER
from resonate_aio.protocol.records import Promise, PromiseState
from resonate_aio.runtime.settings import Settings
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.testing.loop import Killed, SimClock, SimLoop

T = TypeVar("T")


class StepLoop(SimLoop):
    """A virtual-time loop that does something between two of its steps."""

    _steps = 0

    def __init__(self, *, start_s: float = 0.0) -> None:
        self._hooks: dict[int, list[Callable[[], object]]] = {}
        super().__init__(start_s=start_s)

    @property
    def steps(self) -> int:
        """How many steps were run; between two of them the hooks of the next one run."""
        return self._steps

    @steps.setter
    def steps(self, number: int) -> None:
        self._steps = number
        for hook in self._hooks.pop(number, ()):
            hook()

    def before_step(self, number: int, hook: Callable[[], object]) -> None:
        """Call the hook, outside every task, right before the loop's step of this number."""
        self._hooks.setdefault(number, []).append(hook)

    def live_timers(self) -> list[asyncio.TimerHandle]:
        """The timers that are set and were not cancelled."""
        return [timer for _, _, timer in self._timers if not timer.cancelled()]


class Client(Resonate):
    """A client that remembers the handles it gave, and takes a function's name twice.

    A program of the corpus registers its functions each time it is called, under the same
    names and with the same meaning.
    """

    begun: list[Handle[Any]]
    heard: Callable[[Handle[Any]], object] | None = None
    settles_from_outside = False
    gets = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.begun = []
        self._known: dict[tuple[str, int], Function[Any, Any]] = {}

    def register(self, func: Any = None, /, *, name: str | None = None, version: int = 1) -> Any:
        if func is None:
            return super().register(name=name, version=version)
        key = (name or func.__name__, version)
        if key not in self._known:
            self._known[key] = super().register(func, name=name, version=version)
        return self._known[key]

    def begin_run(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Handle[Any]:
        return self._keep(super().begin_run(id, func, *args, **kwargs))

    def rpc(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Handle[Any]:
        return self._keep(super().rpc(id, func, *args, **kwargs))

    run = begin_run
    begin_rpc = rpc

    def get(self, id: str, *, returns: Any = None) -> Handle[Any]:
        self.gets += 1
        return super().get(id, returns=returns)

    @property
    def promises(self) -> Any:
        self.settles_from_outside = True
        return super().promises

    def _keep(self, handle: Handle[Any]) -> Handle[Any]:
        self.begun.append(handle)
        if self.heard is not None:
            self.heard(handle)
        return handle


class Life:
    """One life of a process.

    Args:
        before: The life whose records this one finds.
    """

    def __init__(self, before: Life | None = None, *, settings: Settings | None = None) -> None:
        self.loop: StepLoop = StepLoop(start_s=0.0 if before is None else before.loop.time())
        self.clock = SimClock(self.loop)
        self.store: MemoryStore = (
            MemoryStore(clock=self.clock)
            if before is None
            else before.store.crash_copy(clock=self.clock)
        )
        self.resonate = Client(store=self.store, clock=self.clock, pid="life", settings=settings)

    def run(self, main: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """The whole life: start, main, stop; then nothing of it is left."""

        async def whole() -> T:
            async with self.resonate:
                return await main(self.resonate)

        result = self.run_bare(whole())
        self.check_nothing_left()
        self.loop.close()
        return result

    def run_bare(self, work: Awaitable[T]) -> T:
        """Run something on the life's loop."""
        return self.loop.run_until_complete(work)

    def run_killed(self, main: Callable[[Client], Coroutine[Any, Any, Any]]) -> None:
        """The same, but when main returns the process is killed: nothing more of it runs."""

        async def whole() -> None:
            await self.resonate.start()
            await main(self.resonate)
            self.loop.keep(self.resonate)
            self.loop.kill()
            await asyncio.sleep(1)

        try:
            self.loop.run_until_complete(whole())
        except Killed:
            return
        raise AssertionError("the loop went on after the kill")

    def check_nothing_left(self) -> None:
        """No task, no timer, nothing that reached the loop (law 16)."""
        tasks = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        assert not tasks, f"tasks left behind: {tasks}"
        timers = self.loop.live_timers()
        assert not timers, f"timers left behind: {timers}"
        assert not self.loop.exceptions, f"reached the loop: {self.loop.exceptions}"

    def promise(self, id: str) -> Promise:
        """The record, as the store has it."""
        return self.store.machine.promises[id]

    def state(self, id: str) -> str:
        """The record's state in a word; a call that was cut has a word of its own."""
        promise = self.promise(id)
        return "cut" if CUT_HEADER in (promise.value.headers or {}) else promise.state.value

    def ids(self) -> set[str]:
        """Every id there is."""
        return set(self.store.machine.promises)

    def settled(self) -> dict[str, tuple[str, str | None]]:
        """State and value of every settled record."""
        return {
            promise.id: (promise.state.value, promise.value.data)
            for promise in self.store.machine.promises.values()
            if promise.state is not PromiseState.PENDING
        }


def live(
    main: Callable[[Client], Coroutine[Any, Any, T]], *, settings: Settings | None = None
) -> T:
    """Run main in a life of its own."""
    return Life(settings=settings).run(main)


async def passes(count: int) -> None:
    """Let the loop go round this many times."""
    for _ in range(count):
        await asyncio.sleep(0)
