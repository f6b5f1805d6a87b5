"""The debug surface: conformance tools own the clock (current-protocol §5 debug.*, §12).

A store in memory whose time is what the requests say (`resonate:debug_time`, never backwards)
and that does nothing of its own accord: deadlines, leases and retries fall due in `debug.tick`
only, until `debug.stop` gives it the wall clock back. Never reachable without an explicit flag
and off loopback.
"""

from __future__ import annotations

from typing import Any, Final

from ..clock import Clock, SystemClock
from ..machine.machine import PromiseMachine
from ..machine.state import WATCHED, OutboxKey
from ..protocol.envelope import Data, FieldError, message_to_wire
from ..protocol.fields import integer
from ..protocol.records import PromiseState, TaskState, is_external
from ..protocol.requests import Execute, Message, Reply, Request
from ..protocol.wire_records import promise_to_wire, task_to_wire
from ..stores.belonging import Belonging
from ..stores.memory import MemoryStore

PREFIX: Final = "debug."
_RETRY: Final = 0
_LEASE: Final = 1


class DebugClock:
    """The wall clock until somebody names an instant; from then on the latest one named."""

    __slots__ = ("_frozen_ms", "_last_ms", "_wall")

    def __init__(self, wall: Clock | None = None) -> None:
        self._wall: Clock = wall if wall is not None else SystemClock()
        self._frozen_ms: int | None = None
        self._last_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since the epoch, or since whatever the tool counts from."""
        return self._wall.now_ms() if self._frozen_ms is None else self._frozen_ms

    def enter(self, named_ms: int | None) -> int:
        """Begin a request: its instant is the latest of all that were named or used so far."""
        if named_ms is None:
            self._last_ms = max(self._last_ms, self.now_ms())
        else:
            self._last_ms = self._frozen_ms = max(self._last_ms, named_ms)
        return self.now_ms()

    def thaw(self) -> None:
        """Follow the wall clock again."""
        self._frozen_ms = None

    def reset(self) -> None:
        """Forget every instant."""
        self._frozen_ms = None
        self._last_ms = 0


class DebugStore(MemoryStore):
    """Promises in memory, at the instants that the requests name."""

    __slots__ = ("_paused", "_sent", "clock")

    def __init__(self) -> None:
        self.clock = DebugClock()
        super().__init__(clock=self.clock)
        self._paused = True
        self._sent: dict[OutboxKey, tuple[str, Message]] = {}

    @property
    def is_paused(self) -> bool:
        """Whether nothing falls due but in a tick."""
        return self._paused

    def at(self, named_ms: int | None, request: Request) -> tuple[Reply, int]:
        """Carry out one request at an instant; the reply and the instant that was used."""
        now_ms = self.clock.enter(named_ms)
        return self._carry_out(request), now_ms

    def pause(self) -> None:
        """Let nothing fall due but in a tick."""
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Let things fall due by the wall clock."""
        self._paused = False
        self.clock.thaw()
        self._arm()

    def tick(self, named_ms: int) -> int:
        """Run everything that is due at an instant; the instant that was used."""
        now_ms = self.clock.enter(named_ms)
        while (due_ms := self._machine.next_due_ms()) is not None and due_ms <= now_ms:
            self._machine.sweep(now_ms)
        self._effects()
        return now_ms

    def reset(self) -> None:
        """Forget every record, message and instant; subscribers stay."""
        self._machine = PromiseMachine()
        self._belonging = Belonging()
        self._sent.clear()
        self.clock.reset()

    def outbox(self) -> list[tuple[str, Message]]:
        """The messages sent since the last `drain` that still mean something."""
        return [
            (address, message)
            for address, message in self._sent.values()
            if not isinstance(message, Execute) or self._is_current(message)
        ]

    def drain(self) -> list[tuple[str, Message]]:
        """The outbox; it is empty then."""
        messages = self.outbox()
        self._sent.clear()
        return messages

    def _effects(self) -> None:
        for key, (address, message) in self._machine.outbox.items():
            if address != WATCHED:
                self._sent.pop(key, None)
                self._sent[key] = (address, message)
        super()._effects()

    def _arm(self) -> None:
        if not self._paused:
            super()._arm()


class DebugDesk:
    """Answers the debug requests over one debug store."""

    __slots__ = ("store",)

    def __init__(self, store: DebugStore) -> None:
        self.store = store

    def answer(self, kind: str, data: Data, named_ms: int | None) -> tuple[Any, int]:
        """The data of the answer to a debug request, and the instant that was used.

        Raises:
            FieldError: The kind is unknown or a field is missing or wrong.
        """
        store = self.store
        match kind:
            case "debug.start":
                store.pause()
            case "debug.stop":
                store.resume()
            case "debug.reset":
                store.reset()
            case "debug.tick":
                time_ms = integer(data, "time", "data")
                if named_ms is not None and named_ms != time_ms:
                    raise FieldError(f"data.time is {time_ms}, head resonate:debug_time {named_ms}")
                return [], store.tick(time_ms)
            case "debug.snap":
                return _snapshot(store), store.clock.now_ms()
            case "debug.messages":
                messages = [_short(message) for _, message in store.drain()]
                return {"messages": messages}, store.clock.now_ms()
            case _:
                raise FieldError(f"kind {kind[:80]!r} is not known")
        return {}, store.clock.now_ms()


def _snapshot(store: DebugStore) -> Data:
    machine = store.machine
    promises = sorted(machine.promises.values(), key=lambda promise: promise.id)
    tasks = sorted(machine.tasks.values(), key=lambda task: task.id)
    return {
        "promises": [promise_to_wire(promise) for promise in promises],
        "promiseTimeouts": [
            {"id": promise.id, "timeout": promise.timeout_at_ms}
            for promise in promises
            if promise.state is PromiseState.PENDING and is_external(promise)
        ],
        "callbacks": [
            {"awaiter": awaiter, "awaited": awaited}
            for awaited in sorted(machine.callbacks)
            for awaiter in sorted(machine.callbacks[awaited])
        ],
        "listeners": [
            {"id": id, "address": address}
            for id in sorted(machine.listeners)
            for address in sorted(machine.listeners[id])
        ],
        "tasks": [task_to_wire(task) for task in tasks],
        "taskTimeouts": [
            {"id": task.id, "type": kind, "timeout": timeout_ms}
            for task in tasks
            for kind, timeout_ms in ((_RETRY, task.retry_at_ms), (_LEASE, task.expires_at_ms))
            if timeout_ms is not None
            and task.state is (TaskState.PENDING if kind == _RETRY else TaskState.ACQUIRED)
        ],
        "messages": [
            {"address": address, "message": message_to_wire(message)}
            for address, message in store.outbox()
        ],
    }


def _short(message: Message) -> Data:
    """A message as `debug.messages` shows it (§5)."""
    if isinstance(message, Execute):
        shown: Data = {"kind": "execute", "taskId": message.id, "version": message.version}
    else:
        shown = {"kind": "unblock", "promise": promise_to_wire(message.promise)}
    return {"message": shown}
