"""Taking work: from a message that there is some to an execution that runs here.

In a store of this process a task is looked at before it is acquired. On a server it is
acquired first, which saves a request of four, and given back where it cannot run here. What
cannot run here is put aside with a growing delay (S42).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from typing import TYPE_CHECKING, Any

from ..errors import (
    FunctionNotFoundError,
    ResonateError,
    ResonateStoreError,
    UnreadableRecordError,
    ValueCodecError,
)
from ..protocol.records import Promise, Task, TaskState, is_pending, is_timer
from ..protocol.requests import Execute, Message, PromiseGet, TaskAcquire, TaskGet, TaskRelease
from ..protocol.values import decode, encode
from .awaitables import RootCall
from .encoding import open_arguments
from .functions import Callee
from .held import Ended, Held
from .options import NO_OPTIONS, CallOptions
from .poison import Poison

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("resonate_aio.worker")

FOREVER_MS = 2**52
"""The lease of an in-process holder ends with the process; servers' stores name a shorter one."""


class Taking:
    """The worker's part that takes work.

    Args:
        resolve: Finds a registered function by name and version (0: the newest).
        failed: Told (id, error) when an execution cannot run here.
    """

    def __init__(
        self,
        worker: Worker,
        pid: str,
        resolve: Callable[[str, int], Callee],
        failed: Callable[[str, BaseException], None],
        poison: Poison,
    ) -> None:
        self._worker = worker
        self._store = worker.store
        self._pid = pid
        self._resolve = resolve
        self._failed = failed
        self._poison = poison
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._under_way: dict[asyncio.Task[None], None] = {}
        """All of them: who begins an execution may do so while a message's task takes it."""
        self._came_meanwhile: dict[str, Execute] = {}
        self.settled_outside: dict[str, set[str]] = {}
        """Of each execution whose records are being read: the calls that others settled since."""

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is being taken now."""
        return list(self._under_way)

    def deliver(self, message: Message) -> None:
        """Hear a message: there is an execution to take."""
        if not isinstance(message, Execute) or not self._worker.accepts:
            return
        id = message.id
        if self._worker.holds(id) or self._poison.is_set_aside(id):
            return
        if id in self._tasks:
            # The task may have been claimed and given back since the message being acted on: the
            # store says so once, and only half a minute later again (S53).
            self._came_meanwhile[id] = message
            return
        self.soon(id, self._take(message))

    def soon(self, id: str, work: Coroutine[Any, Any, None]) -> None:
        """Take an execution in a task of its own."""
        worker = self._worker
        task = worker.loop.create_task(
            work, name=f"resonate_aio take {id}", context=worker.variables.copy()
        )
        self._tasks[id] = task
        self._under_way[task] = None
        task.add_done_callback(lambda done: self._taken(id, done))

    def _taken(self, id: str, done: asyncio.Task[None]) -> None:
        del self._under_way[done]
        if self._tasks.get(id) is done:
            del self._tasks[id]
            later = self._came_meanwhile.pop(id, None)
            if later is not None:
                self.deliver(later)
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.error("taking %r failed: %r", id, error, exc_info=error, extra={"id": id})

    async def _take(self, message: Execute) -> None:
        """An execute message: acquire the task, find its function, replay it."""
        if not self._store.in_process:
            await self._take_from_server(message)
            return
        found = await self._store.call(PromiseGet(message.id))
        if found.promise is None or not is_pending(found.promise):
            return
        try:
            callee = self._callee_for(found.promise)
        except ResonateError as error:
            self.set_aside(message.id, error)
            return
        try:
            reply = await self._store.call(
                TaskAcquire(message.id, message.version, self._pid, FOREVER_MS)
            )
        except UnreadableRecordError as error:
            self._failed(message.id, error)
            self.set_aside(message.id, error)
            return
        if reply.status == 200 and reply.task is not None and reply.promise is not None:
            await self.resume(reply.task, reply.promise, callee, NO_OPTIONS)

    async def _take_from_server(self, message: Execute) -> None:
        try:
            reply = await self._store.call(
                TaskAcquire(message.id, message.version, self._pid, FOREVER_MS)
            )
        except ResonateStoreError as error:
            self.set_aside(message.id, error)
            return
        task, promise = reply.task, reply.promise
        if reply.status != 200 or task is None or promise is None:
            return  # somebody else was faster, or it is over
        if is_timer(promise):
            # Another client's sleep with a target: its deadline ends it, nobody runs it. To give
            # it back would bring it again at once.
            self._poison.set_aside(task.id, self._try_again)
            return
        try:
            callee = self._callee_for(promise)
            await self.resume(task, promise, callee, NO_OPTIONS)
        except ResonateError as error:
            self.set_aside(task.id, error)
            await self.give_back(task)

    async def resume(
        self,
        task: Task,
        promise: Promise,
        callee: Callee,
        options: CallOptions,
        ended: Ended | None = None,
    ) -> None:
        """Start an execution that is held, with what earlier lives recorded."""
        try:
            held, records = await self._prepared(task, promise, callee, options)
        except Exception as error:  # noqa: BLE001  whatever was stored, the others go on (law 14)
            await self._refuse(task, error)
            return
        if not self._worker.accepts:
            await self.give_back(task)
            return
        self._worker.hold(held, records, ended)

    async def _prepared(
        self, task: Task, promise: Promise, callee: Callee, options: CallOptions
    ) -> tuple[Held, list[Promise]]:
        """The execution, its arguments known to be readable, and what is recorded of it."""
        # Of a task that was never held before, a server has no record that a create would not
        # bring to light.
        is_new = task.version == 1 and not self._store.in_process
        given_up = self._worker.scheduler.sharing.given_up
        settled_outside: set[str] = set()
        self.settled_outside[task.id] = settled_outside
        try:
            records = [] if is_new else await self._store.load(task.id)
            root = self.root(callee, promise, options)
            await open_arguments(root, promise, self._worker.encoders)
        finally:
            del self.settled_outside[task.id]
        if root.data is not None and not root.takes_live:
            plain = decode(root.data)
            callee.rebuild(plain["args"], plain["kwargs"])
        held = Held(task, promise, root, callee)
        held.knows = given_up
        held.settled_outside = settled_outside or None
        return held, records

    async def _refuse(self, task: Task, error: Exception) -> None:
        """What is stored of an execution cannot be run: it is put aside (S42, law 8)."""
        if not isinstance(error, ResonateError):
            error = ValueCodecError(f"what is stored of {task.id!r} cannot be read: {error!r}")
        if isinstance(error, UnreadableRecordError) or not isinstance(error, ResonateStoreError):
            self._failed(task.id, error)
        self.set_aside(task.id, error)
        await self.give_back(task)

    def _callee_for(self, promise: Promise) -> Callee:
        """The registered function an invocation names.

        Raises:
            FunctionNotFoundError: It is not registered here.
            ValueCodecError: The invocation cannot be read.
        """
        try:
            data = decode(promise.param.data)
        except ValueCodecError as error:
            raise ValueCodecError(f"promise {promise.id!r} holds no invocation: {error}") from None
        name = data.get("func") if isinstance(data, dict) else None
        version = data.get("version", 0) if isinstance(data, dict) else 0
        if not isinstance(name, str) or not isinstance(version, int):
            raise ValueCodecError(f"promise {promise.id!r} holds no invocation (func, args)")
        return self._resolve(name, version)

    @staticmethod
    def root(callee: Callee, promise: Promise, options: CallOptions) -> RootCall:
        """The root call of an execution, its arguments as the promise carries them."""
        root = RootCall(callee, promise, options)
        data = decode(promise.param.data)
        if isinstance(data, dict):
            args, kwargs = data.get("args"), data.get("kwargs")
            root.args = tuple(args) if isinstance(args, list) else () if args is None else (args,)
            if not isinstance(kwargs, dict | None):
                raise ValueCodecError(f"promise {promise.id!r} holds kwargs that are no object")
            root.kwargs = kwargs or {}
            if callee.takes_plain:
                root.takes_live = True
            else:
                root.data = encode({"args": root.args, "kwargs": root.kwargs})
        return root

    # -- what cannot run here

    async def give_back(self, task: Task) -> None:
        """Release a task that is not run here."""
        try:
            await self._store.call(TaskRelease(task.id, task.version))
        except ResonateStoreError as error:
            logger.warning("%r could not be given back: %s", task.id, error)

    def set_aside(self, id: str, error: BaseException, *, log: bool = True) -> None:
        """Leave the execution alone for a while, then try again."""
        delay_s = self._poison.set_aside(id, self._try_again)
        if not log:
            return
        reason: Hashable = (id, str(error))
        if isinstance(error, FunctionNotFoundError):
            reason = (error.name, error.version)  # however many executions wait for it
        logger.log(
            logging.ERROR if self._poison.is_news(reason) else logging.DEBUG,
            "%r cannot run here, next try in %.0f s: %s",
            id,
            delay_s,
            error,
            extra={"id": id},
        )

    def look_again(self, id: str) -> None:
        """A lease was lost: a message for it that came meanwhile was not listened to.

        The server's next one may be half a minute away (R6).
        """
        if not self._store.in_process:
            self._try_again(id)

    def leave_alone(self, id: str) -> None:
        """The same, without a word."""
        self._poison.set_aside(id, self._try_again)

    def _try_again(self, id: str) -> None:
        if self._worker.accepts and not self._worker.holds(id) and id not in self._tasks:
            self.soon(id, self._retake(id))

    async def _retake(self, id: str) -> None:
        found = await self._store.call(TaskGet(id))
        if found.task is not None and found.task.state is TaskState.PENDING:
            await self._take(Execute(id, found.task.version))
