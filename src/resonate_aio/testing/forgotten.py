"""Whether everybody waits for promises that nobody settles.

A promise in a store has a time limit, so strictly nobody waits for ever: after a year of
virtual time a forgotten one times out, and a test of it fails with an error that speaks of
deadlines. This file tells that case from those in which something is still to come.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from ..machine.deadlines import LEASE, RETRY, SCHEDULE
from ..machine.transitions import NEVER_MS
from ..protocol.records import Promise, is_pending, is_timer, target_of
from ..stores.memory import MemoryStore

_SHOWN = 10


class Forgotten:
    """Looks at a store whose timer is the only thing that is still to come.

    Args:
        store: Where the promises are.
        default_s: The time limit of what was started without one.
    """

    def __init__(self, store: MemoryStore, default_s: float) -> None:
        self._store = store
        self._default_ms = int(default_s * 1000)

    def why(self, timers: list[asyncio.TimerHandle]) -> str:
        """The promises that everybody waits for; empty if something else is still to come.

        Args:
            timers: What is set on the event loop.
        """
        callbacks: list[Any] = [cast(Any, timer)._callback for timer in timers]
        if any(getattr(callback, "__self__", None) is not self._store for callback in callbacks):
            return ""
        machine = self._store.machine
        armed = machine.deadlines.armed
        pending = [promise for promise in machine.promises.values() if is_pending(promise)]
        if armed[RETRY] or armed[SCHEDULE] or any(is_timer(promise) for promise in pending):
            return ""
        if any(due_ms < NEVER_MS for due_ms in armed[LEASE].values()) or not pending:
            return ""
        first_ms = min(promise.timeout_at_ms for promise in pending)
        if not any(
            promise.timeout_at_ms - promise.created_at_ms == self._default_ms
            for promise in pending
            if promise.timeout_at_ms == first_ms
        ):
            return ""  # somebody chose a limit: its end is worth waiting for
        return (
            "everybody waits for promises that nobody settles, and nothing is to come but the end "
            f"of the time limit that nobody chose: {_named(pending)}. Settle them in the test, or "
            "give the call a limit, options(timeout=seconds), to see it pass"
        )


def _named(pending: list[Promise]) -> str:
    """Those of them that are no executions, which wait themselves."""
    ids = [promise.id for promise in pending if target_of(promise) is None]
    owners = {promise.owner for promise in pending}
    ids = [id for id in ids if id not in owners] or [promise.id for promise in pending]
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(map(repr, ids[:_SHOWN])) + more
