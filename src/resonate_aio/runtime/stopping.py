"""Stopping: what executes comes to rest and is recorded, then frames end and leases go back.

From the first moment nothing is started and no body is given anything. A step that runs may
end, a function between two waits may come to its next one, and what that leads to is recorded:
a deploy then repeats no step that would have ended in a moment. What only waits is given back
at once. Whatever still executes when the grace is over is cut as a frame of a parked body is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from ..execution.execution import ALIVE, Execution
from .bodies import LiveBody
from .held import Held

if TYPE_CHECKING:
    from .worker import Worker

_AT_A_TIME: Final = 64
"""How many leases are given back in one pass of the loop (law 15)."""

_PASSES: Final = 1000
_PASSES_EACH: Final = 4
"""Loop passes in which cancels are carried to frames; a pass carries many, or a slow one."""


class Stopping:
    """One stop of a worker.

    Args:
        held: The executions the worker holds, by id; those given back leave it.
        stop_s: How long dropped frames, and releases, may take.
    """

    __slots__ = (
        "_busy",
        "_held",
        "_releases",
        "_rested",
        "_stop_s",
        "_turn",
        "_worker",
    )

    def __init__(self, worker: Worker, held: dict[str, Held], stop_s: float) -> None:
        self._worker = worker
        self._held = held
        self._stop_s = stop_s
        self._busy: dict[Any, dict[Any, None]] = {}  # what executes, by execution
        self._rested: dict[Held, None] = {}
        self._releases: dict[Held, asyncio.Task[None]] = {}
        self._turn: asyncio.Future[None] | None = None

    async def rest(self, grace_s: float) -> None:
        """Let what executes come to rest, for so long at most; then drop every frame."""
        worker = self._worker
        until_s = worker.loop.time() + grace_s
        worker.scheduler.rest(self)
        idle = []
        for execution in self._held.values():
            executing = {body: None for body in execution.bodies if _executes(body)}
            if executing or _ends(execution):
                self._busy[execution] = executing
            else:
                idle.append(execution)
        self._give_back(idle)
        while self._busy and worker.loop.time() < until_s:
            self._turn = worker.loop.create_future()
            await asyncio.wait([self._turn], timeout=until_s - worker.loop.time())
            rested, self._rested = self._rested, {}
            for execution in rested:
                self._busy.pop(execution, None)
            self._give_back(list(rested))
        taking = worker.taking
        if taking:  # a lease that comes now has to go back: here it would last for ever
            patience_s = self._stop_s if worker.store.in_process else until_s - worker.loop.time()
            await asyncio.wait(taking, timeout=max(patience_s, 0))
        self._give_back(list(self._held.values()))

    async def frames_end(self, dropped: list[Held]) -> None:
        """Wait a bounded time for dropped frames; cancel once more what is left (S31)."""
        worker = self._worker
        interrupts = worker.scheduler.interrupts
        for share in (0.5, 0.5):
            await self._cancels_arrive(dropped)
            pending = []
            for execution in dropped:
                if execution.bodies and execution.stopping is None:
                    execution.stopping = worker.loop.create_future()
                if execution.stopping is not None and not execution.stopping.done():
                    pending.append(execution.stopping)
            if not pending and not interrupts.leaving:
                return
            await asyncio.wait([*pending, *interrupts.leaving], timeout=self._stop_s * share)
            for execution in dropped:
                for body in list(execution.bodies.values()):
                    interrupts.cancel_again(body)  # type: ignore[arg-type]
            for task in list(interrupts.leaving):
                task.cancel()
        left: dict[Any, None] = dict.fromkeys(interrupts.leaving.values())
        left.update((body, None) for execution in dropped for body in execution.bodies.values())
        interrupts.immortal(list(left))

    async def _cancels_arrive(self, dropped: list[Held]) -> None:
        """A frame's time begins when it has heard of its end: there may be 100,000 before it."""
        most = _PASSES + _PASSES_EACH * sum(len(execution.bodies) for execution in dropped)
        while self._worker.scheduler.has_work and most:
            most -= 1
            await asyncio.sleep(0)

    async def release(self) -> None:
        """Give every lease back, in bounded time.

        A server that cannot be reached finds out by itself; a file that cannot be written holds
        no lease longer than this process has it open.
        """
        left = [held for held in self._held.values() if held not in self._releases]
        for number, execution in enumerate(left, start=1):
            self._release(execution)
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        releases = list(self._releases.values())
        if releases:
            await asyncio.wait(releases, timeout=self._stop_s)
        for task in releases:
            task.cancel()
        await asyncio.gather(*releases, return_exceptions=True)

    def _release(self, execution: Held) -> None:
        worker = self._worker
        release = worker.release(execution)
        context = worker.variables.copy()
        self._releases[execution] = worker.loop.create_task(release, context=context)

    def _give_back(self, executions: list[Held]) -> None:
        worker = self._worker
        for execution in executions:
            if execution.life is not ALIVE:
                continue
            worker.scheduler.interrupts.drop(execution)
            if not worker.store.in_process:
                self._release(execution)  # else once its frames are gone

    # -- what is heard meanwhile

    def rested(self, body: LiveBody) -> None:
        """A body came to a wait, or is over."""
        busy = self._busy.get(body.execution)
        if busy is not None and body in busy and not _executes(body):
            del busy[body]
            self._look(body.execution)

    def also(self, execution: Execution, chore: asyncio.Task[None]) -> None:
        """An outcome is being encoded: the execution is busy until that is done."""
        busy = self._busy.get(execution)
        if busy is not None:
            busy[chore] = None
            chore.add_done_callback(lambda _: self._encoded(execution, chore))

    def _encoded(self, execution: Execution, chore: asyncio.Task[None]) -> None:
        busy = self._busy.get(execution)
        if busy is not None:
            busy.pop(chore, None)
            self._look(execution)

    def gone(self, execution: Execution) -> None:
        """An execution is over, or not held any more."""
        if self._busy.pop(execution, None) is not None:
            self._wake()

    def _look(self, execution: Any) -> None:
        if not self._busy[execution] and not _ends(execution):
            self._rested[execution] = None
            self._wake()

    def _wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)


def _executes(body: Any) -> bool:
    """Whether a function runs: a step, or a body none of whose tasks is at a durable wait."""
    return (
        body.started
        and not body.frame_over
        and not body.is_dead
        and not (body.activity and body.at)
    )


def _ends(execution: Held) -> bool:
    """Whether the outcome of the execution itself is on its way to the store."""
    return execution.body is not None and execution.body.is_over
