"""What a promise machine holds: records, waiters, effects and armed instants.

Records are frozen and replaced, never mutated, so the shells may keep references to them as
snapshots. The three effect dicts tell the shell what to write and what to send; it takes
and clears them. Nothing here decides: see `transitions.py` for what may become of a record.
"""

from __future__ import annotations

from ..protocol.records import Promise, Schedule, Task
from ..protocol.requests import Message
from .deadlines import Deadlines

OutboxKey = tuple[str, ...]
"""("execute", task id), ("unblock", promise id, address), ("watched", promise id) or
("held", promise id): settled by somebody else than the holder of its task, or of its owner's."""

WATCHED = "watched:"
"""The address of the shell itself: it hears of the promises it put into `State.watched`."""


class State:
    """The data of a promise machine."""

    __slots__ = (
        "branches",
        "callbacks",
        "changed",
        "changed_schedules",
        "deadlines",
        "dispatched",
        "in_order",
        "listeners",
        "outbox",
        "overdue",
        "promises",
        "retry_timeout_ms",
        "scheduled",
        "schedules",
        "tasks",
        "watched",
    )

    def __init__(self, *, retry_timeout_ms: int) -> None:
        """Start empty. `retry_timeout_ms` is the pace of redelivery of pending tasks."""
        if retry_timeout_ms < 1:
            raise ValueError(f"retry_timeout_ms must be at least 1, is {retry_timeout_ms}")
        self.retry_timeout_ms = retry_timeout_ms
        self.promises: dict[str, Promise] = {}
        self.tasks: dict[str, Task] = {}
        self.in_order: list[str] = []
        """Promise ids as a search put them in order; emptied when one is forgotten."""
        self.schedules: dict[str, Schedule] = {}
        self.callbacks: dict[str, dict[str, None]] = {}
        """Awaited promise id -> ids of the tasks it wakes."""
        self.listeners: dict[str, dict[str, None]] = {}
        """Awaited promise id -> addresses it notifies."""
        self.changed: dict[str, None] = {}
        """Ids whose promise, task, callbacks or listeners changed, in order of change."""
        self.changed_schedules: dict[str, None] = {}
        """Ids of created, moved and deleted schedules; a deleted one is not in `schedules`."""
        self.outbox: dict[OutboxKey, tuple[str, Message]] = {}
        """Messages to send: key -> (address, message); the newest under a key wins."""
        self.branches: dict[str, dict[str, None]] = {}
        """Tag resonate:branch -> ids of the promises that carry it (preload)."""
        self.dispatched: dict[str, None] = {}
        """Pending tasks whose execute went out since they became pending."""
        self.watched: dict[str, None] = {}
        """Ids whose settlement the shell wants to hear of; never stored, gone when settled."""
        self.deadlines = Deadlines()
        self.scheduled = 0
        """How many promises schedules created here: for metrics, nothing is decided by it."""
        self.overdue: dict[str, int] = {}
        """Schedule id -> how many of its executions were created past their deadline: for logs."""
