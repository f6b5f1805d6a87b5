"""Cancelling whoever waits for a Handle never cancels the work and loses no result (S12)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable
from functools import partial
from typing import Any

import pytest
from tests.programs import PROGRAMS, World
from tests.robustness.lives import Client, Life

from resonate_aio import Handle

pytestmark = pytest.mark.law

POINTS = -(-1000 // len(PROGRAMS))
"""Waiters of each program that are really cancelled, each at a step of the loop that a seed
chooses: 1,000 over the corpus."""

MOST_RUNS = 60
"""Runs of one program in which they must have been reached."""


async def by_await(handle: Handle[Any]) -> Any:
    return await handle


async def by_result(handle: Handle[Any]) -> Any:
    return await handle.result(timeout=1e6)


async def by_created(handle: Handle[Any]) -> Any:
    return await (await handle.created())


async def by_gather(handle: Handle[Any]) -> Any:
    return (await asyncio.gather(by_await(handle), by_result(handle)))[0]


def retrieved(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """The task, without asyncio's complaint when its failure is of no interest any more."""
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def by_wait(handle: Handle[Any]) -> Any:
    waited = retrieved(asyncio.ensure_future(handle))
    await asyncio.wait([waited])
    return waited.result()


async def by_shield(handle: Handle[Any]) -> Any:
    return await asyncio.shield(retrieved(asyncio.ensure_future(handle)))


WAITERS = (by_await, by_result, by_created, by_gather, by_wait, by_shield)


async def outcome(work: Awaitable[Any]) -> tuple[str, str]:
    try:
        return ("value", repr(await work))
    except Exception as error:  # noqa: BLE001  it is what is compared
        return (type(error).__name__, str(error))


def play(name: str, seed: int) -> tuple[Life, World, int]:
    """One run of a program beside waiters that are cancelled; seed 0 cancels nobody."""
    program = PROGRAMS[name]
    rng = random.Random(f"{name}/{seed}")
    life, world = Life(), World(1)
    waiters: list[tuple[Handle[Any], asyncio.Task[Any]]] = []
    cancelled = 0

    def cancel(waiter: asyncio.Task[Any]) -> None:
        nonlocal cancelled
        cancelled += waiter.cancel()

    def heard(handle: Handle[Any]) -> None:
        loop = asyncio.get_running_loop()
        for way in rng.sample(WAITERS, 3):
            waiter = loop.create_task(way(handle))
            waiters.append((handle, waiter))
            if rng.random() < 0.8:
                after = int(rng.expovariate(1 / rng.choice((3, 30, 120))))
                life.loop.before_step(life.loop.steps + 1 + after, partial(cancel, waiter))

    async def main(resonate: Client) -> Any:
        if seed:
            resonate.heard = heard
        result = await program.main(resonate, world)
        for handle, waiter in waiters:
            known, fresh = await outcome(handle), await outcome(resonate.get(handle.id))
            assert known[0] == fresh[0]
            with contextlib.suppress(asyncio.CancelledError):
                assert await outcome(waiter) == known
        return result

    assert life.run(main) == program.expected
    return life, world, cancelled


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_cancelled_waiters_change_nothing(name: str) -> None:
    quiet_life, quiet_world, _ = play(name, 0)
    cancelled = seed = 0
    while cancelled < POINTS and seed < MOST_RUNS:
        seed += 1
        life, world, count = play(name, seed)
        cancelled += count
        assert world.effects == quiet_world.effects
        if not PROGRAMS[name].values_vary:
            assert life.settled() == quiet_life.settled()
    assert cancelled >= POINTS, f"only {cancelled} waiters were cancelled"


def test_the_points_add_up() -> None:
    """Issue 3: 1,000 seeded points over the corpus, each asserted above."""
    assert POINTS * len(PROGRAMS) >= 1000
