"""The seam between a worker and the place where promises live.

A `Store` speaks the current specification's verbs. Two doors lead in:

* `call(request)`: any request, awaited; durable and safe to show when it returns. `post` is
  the same for those who do not wait in a task.
* the fenced door (`fence_create`, `fence_settle`, `fulfill`): what a held execution does at
  every step. Plain method calls without a request object, because this is the hot path.
  The answer is the promise as it now stands, or `LOST` (the task is not held at that
  version any more), or None: the answer comes later, through `acked`.

An in-process store (`in_process` is true) applies a fenced call at once and in order, so
a create may be followed by work before it is durable (S20), and everything that leaves the
store (replies, messages, `acked`) waits for the commit that covers it (S21).

This file knows no machine, no loop and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final, Protocol, runtime_checkable

from ..protocol.records import Promise, PromiseState, Value
from ..protocol.requests import Message, Reply, Request


class Refusal(Enum):
    """Why a fenced call was not carried out."""

    LOST = "the task is not held at this version"
    UNREADABLE = "what is stored under the id cannot be read"


LOST: Final = Refusal.LOST
UNREADABLE: Final = Refusal.UNREADABLE

Acked = Callable[[Any, Promise | Refusal], None]
"""Called as acked(context, answer) from the event loop, never from inside the store call."""

Answered = Callable[[Any, Reply | BaseException], None]
"""Called as answered(context, reply), or with why there is none, from the event loop."""


class Store(Protocol):
    """Where promises, tasks and schedules live."""

    in_process: bool
    """Fenced calls are applied at once and in order; leases end with this process."""

    durable_at_once: bool
    """What a fenced call returns is durable already: `acked` is never called."""

    async def open(self) -> None:
        """Make the store ready on the running loop. Idempotent; counts its users."""
        ...

    async def close(self) -> None:
        """Commit what is outstanding and let go of everything once the last user closes."""
        ...

    async def call(self, request: Request) -> Reply:
        """Carry out one request; everything the reply shows is durable on return.

        Cancelling the caller never cancels the request.
        """
        ...

    def post(self, request: Request, answered: Answered, context: Any) -> Reply | None:
        """Start one request, as `call`, without a task of the caller's.

        Returns:
            The reply; or None, and `answered` is called once it is there.
        """
        ...

    async def load(self, root: str) -> list[Promise]:
        """Every stored promise that replay of this execution may ask for (S9).

        The derived-id promises it owns, those that others own but whose id it would
        derive, and the same for explicit-id promises its log records name. Any order.
        """
        ...

    def fence_create(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        """Create a promise on condition that the task is held at this version.

        Args:
            promise: The record to create; state and settled_at_ms are the store's to judge.
            acked: Called once the record is durable; None when nobody waits for that.

        Returns:
            The standing record (the given one when it is new); LOST; or None: the answer comes
            later, through `acked`. None to who gave no `acked` says that the store cannot
            answer at once and did nothing: it has to be asked again, with one.
        """
        ...

    def fence_settle(
        self,
        task_id: str,
        version: int,
        promise_id: str,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """Settle a promise on condition that the task is held at this version.

        Returns:
            The settled record when it is durable already, LOST, or None: `acked` follows.
        """
        ...

    def fulfill(
        self,
        task_id: str,
        version: int,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """Settle the task's own promise and end the task. Answers as `fence_settle`."""
        ...

    def flush(self) -> None:
        """Begin writing what was created so far, though nobody waits for it."""
        ...

    def watch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Call settled(promise) once the promise is settled, from the event loop.

        Also when it was settled before; nothing happens for an id that does not exist.
        """
        ...

    def unwatch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Do not call it any more. Unknown pairs are ignored."""
        ...

    def subscribe(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        taken: Callable[[Promise], None] | None = None,
        lost: Callable[[str, int], None] | None = None,
    ) -> Callable[[], None]:
        """Receive messages for poll addresses of this group and pid (S53).

        `deliver` is called from the event loop. Pending tasks that this address can take
        are delivered at once. Call the returned function to stop.

        Args:
            taken: Called with a promise whose task was held and that somebody else than its
                holder settled, or its deadline (S13, S14).
            lost: Called as lost(id, version) when a lease was found to have ended. Leases of an
                in-process store end with the process: it never calls this.
        """
        ...


class BlockingStore(Protocol):
    """A store of SDK release 0.6.7, whose methods block: the wiring makes a `Store` of it (C16)."""

    @property
    def promises(self) -> Any:
        """get, create, create_with_task, resolve, reject, cancel, callback, subscribe."""
        ...

    @property
    def tasks(self) -> Any:
        """claim, complete, heartbeat; drop, where there is one."""
        ...

    @property
    def schedules(self) -> Any:
        """create, get, delete."""
        ...


@runtime_checkable
class FileStore(Protocol):
    """A store whose records other stores in this process may keep, too."""

    @property
    def place(self) -> object:
        """What holds the records while it is open: one object for all that share them."""
        ...


@runtime_checkable
class LoopBound(Protocol):
    """What lives on one event loop and holds something: leases, a file, a thread, a port."""

    def abandon(self) -> None:
        """Let go of it as a crash would, where that loop has been closed.

        Nothing is done where that loop lives, nor when it is called once more.
        """
        ...


@runtime_checkable
class TellingStore(Protocol):
    """A store that tells of many records from one callback of the event loop."""

    def afterwards(self, callback: Callable[[], None]) -> bool:
        """Call back at the end of what is told now.

        Returns:
            False where nothing is told: then it is for the loop to call back.
        """
        ...


@runtime_checkable
class HintedStore(Protocol):
    """A store whose server can send its messages to a URL too (`http(s)://` addresses)."""

    def hint(self, data: Any) -> None:
        """Follow a message that came by another way than the server's own stream (S50).

        Nothing it says is believed: a task that it offers is claimed at the server, a promise
        that it shows is read there.

        Args:
            data: The message, as decoded JSON.

        Raises:
            ValueError: It is no message that this kind of server sends.
            ResonateStoreError: The server was not found yet, so that nothing can be asked.
        """
        ...


@runtime_checkable
class ParkingStore(Protocol):
    """A store on which keeping a lease is dear: executions that only wait may be parked (S64)."""

    async def parks(self) -> bool:
        """Whether it is worth it: whether leases are as dear as they may be."""
        ...

    async def park(self, id: str, version: int, awaited: Iterable[str]) -> bool:
        """Suspend the task of an execution whose frame stays here.

        The execution is to wait for these promises and for nothing else. The store takes the
        task again when one of them settles, and when the frame writes something first: such a
        write waits for it. Somebody else may take it, too; then `lost` is told.

        Returns:
            Whether it is parked.
        """
        ...
