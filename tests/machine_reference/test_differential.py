"""The promise machine and the stores answer as the reference model does (C2)."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from resonate_aio.machine.machine import PromiseMachine
from resonate_aio.protocol import requests as rq
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

from .forms import first_difference, outbox_form, reply_form, state_form
from .model import ReferenceModel
from .operations import START_MS, Advance, Operations, Reopen, Sweep
from .store_run import Difference, StoreRun

PROGRAMS = int(os.environ.get("RESONATE_AIO_DIFFERENTIAL_PROGRAMS", "100"))
OPERATIONS = 200

SEEN_BY_THE_RUN: dict[str, set[int]] = {
    "PromiseGet": {200, 400, 404},
    "PromiseCreate": {200, 400},
    "PromiseSettle": {200, 400, 404},
    "PromiseRegisterCallback": {200, 400, 404, 422},
    "PromiseRegisterListener": {200, 400, 404, 422},
    "PromiseSearch": {200, 400},
    "TaskGet": {200, 400, 404},
    "TaskCreate": {200, 400, 409, 422},
    "TaskAcquire": {200, 400, 404, 409},
    "TaskFence": {200, 400, 404, 409},
    "TaskFence.PromiseCreate": {200, 400},
    "TaskFence.PromiseSettle": {200, 400, 404},
    "TaskHeartbeat": {200, 400},
    "TaskSuspend": {200, 300, 400, 404, 409, 422},
    "TaskFulfill": {200, 400, 404, 409},
    "TaskRelease": {200, 400, 404, 409},
    "TaskHalt": {200, 400, 404, 409},
    "TaskContinue": {200, 400, 404, 409},
    "TaskSearch": {200, 400},
    "ScheduleCreate": {200, 400},
    "ScheduleGet": {200, 400, 404},
    "ScheduleDelete": {200, 400, 404},
    "ScheduleSearch": {200, 400},
}
"""Every request kind with every status the tables give it."""


def seeds() -> range:
    chosen = os.environ.get("RESONATE_AIO_DIFFERENTIAL_SEED")
    return range(PROGRAMS) if chosen is None else range(int(chosen), int(chosen) + 1)


def count(seen: Counter[tuple[str, int]], request: rq.Request, reply: rq.Reply) -> None:
    kind = type(request).__name__
    seen[kind, reply.status] += 1
    if isinstance(request, rq.TaskFence) and reply.inner is not None:
        seen[f"{kind}.{type(request.action).__name__}", reply.inner.status] += 1


def assert_all_seen(seen: Counter[tuple[str, int]]) -> None:
    if len(seeds()) < 100:
        return
    expected = {(kind, status) for kind, some in SEEN_BY_THE_RUN.items() for status in some}
    assert set(seen) == expected


def run_on_machine(seed: int, seen: Counter[tuple[str, int]]) -> None:
    operations, model, machine = Operations(seed), ReferenceModel(), PromiseMachine()
    now = START_MS + seed
    for step in range(OPERATIONS):
        operation = operations.next(model, now)

        def check(expected: object, found: object) -> None:
            if expected != found:
                what = first_difference(expected, found)
                raise Difference("machine", seed, step, operation, what)  # noqa: B023

        match operation:
            case Advance(ms=ms):
                now += ms
            case Reopen():
                continue
            case Sweep():
                model.sweep(now)
                machine.sweep(now)
                while (due := machine.next_due_ms()) is not None and due <= now:
                    machine.sweep(now)  # what the one before fired
                check(
                    outbox_form(model.outbox, model.tasks),
                    outbox_form(machine.outbox, machine.tasks),
                )
                model.outbox.clear()
                machine.outbox.clear()
            case _:
                expected, found = model.handle(operation, now), machine.handle(operation, now)
                count(seen, operation, expected)
                check(reply_form(expected), reply_form(found))
        check(
            state_form(
                model.promises, model.tasks, model.schedules, model.callbacks, model.listeners, now
            ),
            state_form(
                machine.promises,
                machine.tasks,
                machine.schedules,
                [(one, by) for one, who in machine.callbacks.items() for by in who],
                [(one, at) for one, who in machine.listeners.items() for at in who],
                now,
            ),
        )


def test_machine() -> None:
    seen: Counter[tuple[str, int]] = Counter()
    for seed in seeds():
        run_on_machine(seed, seen)
    assert_all_seen(seen)


def test_memory_store() -> None:
    seen: Counter[tuple[str, int]] = Counter()
    for seed in seeds():
        run = StoreRun(
            "memory_store", seed, lambda clock: MemoryStore(clock=clock), partial(count, seen)
        )
        run.run(OPERATIONS)
    assert_all_seen(seen)


@pytest.mark.slow
def test_sqlite_store(tmp_path: Path) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    for seed in seeds():
        path = tmp_path / f"{seed}.db"
        run = StoreRun(
            "sqlite_store",
            seed,
            lambda clock: SqliteStore(path, synchronous="NORMAL", clock=clock),  # noqa: B023
            partial(count, seen),
        )
        run.run(OPERATIONS)
    assert_all_seen(seen)
