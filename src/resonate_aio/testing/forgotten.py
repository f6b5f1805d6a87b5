"""Whether everybody waits for promises that nobody settles.

A promise in a store has a time limit, so strictly nobody waits for ever: after a year of
virtual time a forgotten one times out, and a test of it fails with an error that speaks of
deadlines. This file tells that case from those in which something is still to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from ..machine.deadlines import LEASE, RETRY, SCHEDULE
from ..machine.transitions import NEVER_MS, delay_of
from ..protocol.records import Promise, is_pending, is_timer, target_of
from ..runtime.poison import Poison
from ..stores.in_process import InProcessStore
from ..stores.untaken import called_by

_SHOWN = 10
_IN_VAIN_S = 30.0
"""What still waits so long for its next try was tried in vain five times and more (S42)."""


class Forgotten:
    """Looks at a store when nothing is ready to run, before the clock moves.

    Args:
        store_of: Gives what holds the promises; None while it does not, as before it is open.
        default_s: The time limit of what was started without one.
    """

    def __init__(self, store_of: Callable[[], InProcessStore | None], default_s: float) -> None:
        self._store_of = store_of
        self._default_ms = int(default_s * 1000)

    def why(self, timers: list[asyncio.TimerHandle]) -> str:
        """The promises that everybody waits for; empty if something else is still to come.

        Args:
            timers: What is set on the event loop.
        """
        store = self._store_of()
        in_vain = None if store is None else _in_vain(store, timers)
        if store is None or in_vain is None:
            return ""
        machine = store.machine
        armed = machine.deadlines.armed
        pending = [promise for promise in machine.promises.values() if is_pending(promise)]
        untaken = [promise for promise in pending if promise.id in armed[RETRY]]
        if not pending or armed[SCHEDULE] or any(is_timer(promise) for promise in pending):
            return ""
        if any(due_ms < NEVER_MS for due_ms in armed[LEASE].values()):
            return ""
        if any(_may_be_taken(store, promise, in_vain) for promise in untaken):
            return ""
        if self._was_limited(pending):
            return ""
        return (
            "everybody waits for promises that nobody settles, and nothing is to come but the end "
            f"of the time limit that nobody chose: {_named(pending, untaken)}. Settle them in the "
            "test, or give the call a limit, options(timeout=seconds), to see it pass"
        )

    def _was_limited(self, pending: list[Promise]) -> bool:
        """Whether somebody chose the limit that ends first: that is worth waiting for."""
        first_ms = min(promise.timeout_at_ms for promise in pending)
        return not any(
            promise.timeout_at_ms - promise.created_at_ms == self._default_ms
            for promise in pending
            if promise.timeout_at_ms == first_ms
        )


def _in_vain(store: InProcessStore, timers: list[asyncio.TimerHandle]) -> set[str] | None:
    """What is tried again and again in vain; None if timers are set for anything else."""
    in_vain = set()
    for timer in timers:
        handle = cast(Any, timer)
        owner = getattr(handle._callback, "__self__", None)
        if isinstance(owner, Poison) and timer.when() - handle._loop.time() >= _IN_VAIN_S:
            in_vain.add(handle._args[0])
        elif owner is not store:
            return None
    return in_vain


def _may_be_taken(store: InProcessStore, promise: Promise, in_vain: set[str]) -> bool:
    """Whether an execution that nobody holds may yet be run."""
    if delay_of(promise) > store._clock.now_ms():
        return True
    target = target_of(promise)
    return target is not None and promise.id not in in_vain and store._hub.is_taken(target)


def _named(pending: list[Promise], untaken: list[Promise]) -> str:
    """Those of them that are no executions, which wait themselves, and those nobody runs."""
    ids = [repr(promise.id) for promise in pending if target_of(promise) is None]
    ids += [
        f"{promise.id!r} (calls {called_by(promise)!r}, which nobody runs)" for promise in untaken
    ]
    owners = {repr(promise.owner) for promise in pending}
    ids = [id for id in ids if id not in owners] or [repr(promise.id) for promise in pending]
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more
