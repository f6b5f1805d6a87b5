"""The fenced door of a SQLite file: what a held execution does at every step.

A create trusts memory for ids below its root (see `holds.py`) and looks up any other: the
answer then comes later. This file knows no SQL and commits nothing itself.
"""

from __future__ import annotations

from typing import Any, Final

from ...errors import UnreadableRecordError
from ...protocol.records import Promise, PromiseState, TaskState, Value
from ..base import LOST, UNREADABLE, Acked, Refusal
from .changes import Ack
from .holds import Hold
from .jobs import Lookup, Scan
from .looking import Looking
from .rows import Stored

_ACQUIRED: Final = TaskState.ACQUIRED


class FencedDoor(Looking):
    """Creates and settlements on condition that the task is held at a version."""

    __slots__ = ()

    def _load_kept(self, hold: Hold, id: str, stored: Stored) -> None:
        self._load_one(stored)
        promise = self._machine.promises.get(id)
        if promise is not None and promise.settled_at_ms is not None:
            self._holds.keep(hold, id)

    def _is_held(self, root: str, version: int) -> bool:
        task = self._machine.tasks.get(root)
        return task is not None and task.state is _ACQUIRED and task.version == version

    def fence_create(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        """Create a promise on condition that the task is held at this version.

        Returns:
            The standing record; LOST; or None when the id must be looked up first, which is
            done for who gives an `acked`.
        """
        machine = self._machine
        known = self._holds.known.get(task_id)
        if (
            (known is None or not promise.id.startswith(known))
            and promise.id not in machine.promises
            and not self._holds.covers(task_id, promise.id)
        ):
            return self._create_unknown(task_id, version, promise, acked, context)
        # The caller read the clock for the record a moment ago.
        record = machine.fence_create(task_id, version, promise, promise.created_at_ms)
        if record is None:
            return LOST
        if promise.tags:
            self._arm()
        if acked is not None:
            self._next.acks.append(Ack(acked, context, record))
            self._want_commit()
        elif machine.outbox:
            self._want_commit()
        return record

    def _create_unknown(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        hold = self._holds.by_root.get(task_id)
        if hold is None or not self._is_held(task_id, version):
            return LOST
        if hold.found is not None:
            self._holds.trust(hold)
            return self.fence_create(task_id, version, promise, acked, context)
        if acked is None:
            return None
        scan = None
        if not promise.id.startswith(f"{task_id}."):
            scan = Scan(promise.id)
            self._holds.cover(hold, promise.id)

        def then(lookup: Lookup) -> None:
            if lookup.error is not None:
                if isinstance(lookup.error, UnreadableRecordError):
                    self._trouble(lookup.error)  # it is named once
                    acked(context, UNREADABLE)
                return
            if scan is not None and self._holds.by_root.get(task_id) is hold:
                for id, stored in scan.found.items():
                    self._load_kept(hold, id, stored)
            record = self._machine.fence_create(task_id, version, promise, self._clock.now_ms())
            self._holds.keep_below(promise.id)
            self._acknowledge(acked, context, record)

        self._look(Lookup((promise.id,), scan, None), then)
        return None

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
        """Settle a promise on condition that the task is held; `acked` follows the commit."""
        machine = self._machine
        if promise_id not in machine.promises:
            if not self._is_held(task_id, version):
                return LOST

            def then(lookup: Lookup) -> None:
                if lookup.error is None:
                    now_ms = self._clock.now_ms()
                    record = machine.fence_settle(
                        task_id, version, promise_id, state, value, now_ms
                    )
                    self._acknowledge(acked, context, record)

            self._look(Lookup((promise_id,), None, None), then)
            return None
        record = machine.fence_settle(
            task_id, version, promise_id, state, value, self._clock.now_ms()
        )
        if record is None:
            return LOST
        self._next.acks.append(Ack(acked, context, record))
        if not self._is_wanted:
            self._want_commit()
        if record.tags:
            self._arm()
        return None

    def fulfill(
        self,
        task_id: str,
        version: int,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """Settle the task's own promise and end the task; `acked` follows the commit."""
        now_ms = self._clock.now_ms()
        record = self._machine.fulfill(task_id, version, state, value, now_ms)
        if record is None:
            return LOST
        self._acknowledge(acked, context, record)
        return None

    def _acknowledge(self, acked: Acked | None, context: Any, record: Promise | None) -> None:
        """Give the answer after the commit of everything that changed so far."""
        if record is None:
            if acked is not None:
                acked(context, LOST)
            return
        if acked is not None:
            self._next.acks.append(Ack(acked, context, record))
        self._want_commit()
        self._arm()
