"""What one commit covers: records that changed, and who hears of it once they are durable.

Filled and let out on the loop; in between it is the writer's. This file knows no SQL.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ...machine.machine import PromiseMachine
from ...protocol.records import Promise, Schedule
from ...protocol.requests import Message
from ..base import LOST, Acked, Answered
from .rows import Stored

_log = logging.getLogger("resonate_aio.stores")

_LOOK_AT_CLOCK: Final = 8


class Ack(msgspec.Struct, gc=False):
    """Who hears that a record is durable. Nothing to the collector: a commit has one for each."""

    acked: Acked
    context: Any
    record: Promise


class Changes:
    """Everything that changed since the last hand-over, and who waits for it.

    `changed` has the ids in the order of first change: nothing is durable before what
    preceded it. `leaves` are the promises without a task and without anybody who waits for
    them, nearly all of them; `rows` are the others.
    """

    __slots__ = (
        "acks",
        "bad",
        "changed",
        "leaves",
        "messages",
        "replies",
        "rows",
        "schedules",
    )

    def __init__(self) -> None:
        self.changed: dict[str, None] = {}
        self.leaves: dict[str, Promise] = {}
        self.rows: dict[str, Stored] = {}
        self.schedules: list[tuple[str, Schedule | None]] = []
        self.acks: deque[Ack] = deque()
        self.replies: deque[tuple[Answered, Any, Any]] = deque()
        self.messages: list[tuple[str, Message]] = []
        self.bad: set[str] = set()

    def settled(self, besides: set[str]) -> list[Promise]:
        """The settled promises that it writes, but for these."""
        leaves = self.leaves.values()
        found = [p for p in leaves if p.settled_at_ms is not None and p.id not in besides]
        for promise, *_ in self.rows.values():
            if promise.settled_at_ms is not None and promise.id not in besides:
                found.append(promise)
        return found

    def take(self, machine: PromiseMachine) -> bool:
        """Take over the machine's effects; whether there is anything to write."""
        changed, machine.changed = machine.changed, self.changed
        self.changed = changed
        promises, tasks = machine.promises, machine.tasks
        callbacks, listeners = machine.callbacks, machine.listeners
        others = changed.keys() & tasks.keys()
        if callbacks or listeners:
            others |= changed.keys() & callbacks.keys()
            others |= changed.keys() & listeners.keys()
        self.leaves = {id: promises[id] for id in changed if id not in others}
        if others:
            for id in changed:
                if id in others:
                    self.rows[id] = Stored(
                        promises[id],
                        tasks.get(id),
                        tuple(callbacks.get(id, ())),
                        tuple(listeners.get(id, ())),
                    )
        if machine.changed_schedules:
            for id in machine.changed_schedules:
                self.schedules.append((id, machine.schedules.get(id)))
            machine.changed_schedules.clear()
        if machine.outbox:
            self.messages.extend(machine.outbox.values())
            machine.outbox.clear()
        return bool(self.changed or self.schedules)

    def give_up(self, error: BaseException) -> None:
        """Nothing of it is recorded: whoever waits is told, and may not go on (law 2)."""
        acks, self.acks = self.acks, deque()
        replies, self.replies = self.replies, deque()
        told: list[tuple[Any, Any, Any]] = [(ack.acked, ack.context, LOST) for ack in acks]
        told += [(answered, context, error) for answered, context, _ in replies]
        for callback, context, answer in told:
            try:
                callback(context, answer)
            except Exception:  # noqa: BLE001  as in `tell`
                _log.exception("a callback for what was given up failed")

    def tell(self, slice_s: float, ticks: Callable[[], float]) -> bool:
        """Call the acknowledgements and replies, in order; False when time was up before the last.

        Each may drive a function on, so that many of them take long (law 15).
        """
        bad, acks = self.bad, self.acks
        until = ticks() + slice_s
        told = 0
        while acks:
            # Taken out one by one: what was told of is garbage at once, not with the last.
            ack = acks.popleft()
            record = ack.record
            try:
                ack.acked(ack.context, LOST if bad and record.id in bad else record)
            except Exception:  # noqa: BLE001  one listener's fault must not stop the others
                _log.exception("the callback for promise %r failed", record.id)
            told += 1
            if told % _LOOK_AT_CLOCK == 0 and ticks() > until:
                return False
        replies = self.replies
        while replies:
            answered, context, answer = replies.popleft()
            try:
                answered(context, answer)
            except Exception:  # noqa: BLE001  as above
                _log.exception("the callback for a reply failed")
            told += 1
            if told % _LOOK_AT_CLOCK == 0 and ticks() > until:
                break
        return not replies
