"""The invariants of a promise machine as named predicates (current-protocol §4.4).

`check` judges a machine, `check_step` what a step made of it; both raise AssertionError
naming the predicate and the id. Meant to run after every step of a test: they look at
everything and cost accordingly.
"""

from __future__ import annotations

from .state import State
from .state_invariants import STATE_INVARIANTS
from .step_invariants import TRANSITION_INVARIANTS, Snapshot, Step

__all__ = [
    "STATE_INVARIANTS",
    "TRANSITION_INVARIANTS",
    "Snapshot",
    "Step",
    "check",
    "check_step",
    "snapshot",
]


def check(machine: State, now_ms: int | None = None) -> None:
    """Raise AssertionError unless every state invariant holds.

    Without `now_ms` a suspended task is not judged for what it waits for: its promise may be
    past its deadline, and then nothing wakes it any more.
    """
    for name, predicate in STATE_INVARIANTS.items():
        for id in predicate(machine, now_ms):
            raise AssertionError(f"{name}: {id!r}")


def snapshot(machine: State) -> Snapshot:
    """Copy what a step may change."""
    return Snapshot(
        promises=dict(machine.promises),
        tasks=dict(machine.tasks),
        schedules=dict(machine.schedules),
        callbacks={id: frozenset(ids) for id, ids in machine.callbacks.items()},
        listeners={id: frozenset(ids) for id, ids in machine.listeners.items()},
        outbox=dict(machine.outbox),
        changed=frozenset(machine.changed),
        changed_schedules=frozenset(machine.changed_schedules),
    )


def check_step(
    before: Snapshot, after: Snapshot, *, now_ms: int | None = None, background: bool = False
) -> None:
    """Raise AssertionError unless every transition invariant holds.

    Args:
        before: Taken before the step; nothing may have been loaded in between.
        after: Taken after the step, before the shell took the effects.
        now_ms: The instant of the step, for the invariants that speak of it.
        background: The step was a sweep: nobody asked for it.
    """
    step = Step(before, after, now_ms, background)
    for name, predicate in TRANSITION_INVARIANTS.items():
        for id in predicate(step):
            raise AssertionError(f"{name}: {id!r}")
