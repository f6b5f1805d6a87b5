"""Workers in processes of their own: killed, frozen, stopped; servers killed (laws 6, 7, 16)."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from typing import Any

import pytest
from tests.peers.current_server import CurrentServer
from tests.remote.conftest import WAIT_S, Workers

from resonate_aio import Resonate
from resonate_aio.protocol.records import TaskState
from resonate_aio.protocol.requests import TaskGet


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


async def test_a_killed_workers_execution_goes_on_elsewhere(
    workers: Workers, caller: Resonate
) -> None:
    """Law 6: at the latest one lease plus one delivery later, no recorded step run again."""
    id = unique("killed")
    first = await workers.start("w", 1.0)
    handle = caller.options(target="w").begin_rpc(id, "steps", 6, 0.15)
    await workers.until(f"{id}.4")
    first.kill()
    await first.wait()
    began_s = time.monotonic()
    await workers.start("w", 1.0)
    assert await handle.result(WAIT_S) == [f"s{n}" for n in range(6)]
    assert time.monotonic() - began_s < 15
    starts = workers.starts()
    assert [starts[f"{id}.{n}"] for n in (1, 2, 3)] == [1, 1, 1]
    assert starts[f"{id}.4"] <= 2
    assert [starts[f"{id}.{n}"] for n in (5, 6)] == [1, 1]


async def test_a_frozen_worker_records_nothing_and_works_again(
    workers: Workers, caller: Resonate
) -> None:
    """Law 7: fenced while it slept for three leases; the other worker's result stands."""
    id, ttl_s = unique("frozen"), 1.0
    frozen = await workers.start("w", ttl_s)
    handle = caller.options(target="w").begin_rpc(id, "steps", 3, 0.5)
    await workers.until(f"{id}.2")
    frozen.send_signal(signal.SIGSTOP)
    await workers.start("w", ttl_s)
    await asyncio.sleep(3 * ttl_s)
    assert await handle.result(WAIT_S) == ["s0", "s1", "s2"]
    settled = await caller.promises.get(f"{id}.2")
    frozen.send_signal(signal.SIGCONT)
    await asyncio.sleep(2 * ttl_s)
    assert await caller.promises.get(f"{id}.2") == settled
    assert workers.starts()[f"{id}.3"] == 1
    again = unique("again")
    target = f"poll://uni@w/w-{frozen.pid}"
    assert await caller.options(target=target).rpc(again, "steps", 1, 0.0).result(WAIT_S) == ["s0"]
    assert [f"{frozen.pid}", f"{again}.1", "s0"] in workers.lines()


async def test_a_stopped_worker_hands_over_at_once(workers: Workers, caller: Resonate) -> None:
    """SIGTERM with a hundred executions held: they go on elsewhere, not after a lease.

    Leaves that end within the grace are recorded, in a thread or on the loop; one that does not
    is run again.
    """
    ttl_s = 60.0
    first = await workers.start("w", ttl_s)
    target = caller.options(target="w")
    naps = [unique(f"nap{n}") for n in range(73)]
    threads = [unique(f"thread{n}") for n in range(2)]  # as many as there are at the least
    steps = [unique(f"step{n}") for n in range(24)]
    late = unique("late")
    handles = [target.begin_rpc(id, "nap", 6.0) for id in naps]
    for id in naps:
        await workers.until(f"{id}.1")
    handles += [target.begin_rpc(id, "one_thread", 2.0) for id in threads]
    handles += [target.begin_rpc(id, "steps", 1, 2.0) for id in steps]
    handles.append(target.begin_rpc(late, "steps", 1, 8.0))
    for id in (*threads, *steps, late):
        await workers.until(f"{id}.1")
    assert len(handles) == 100
    first.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.05)
    await workers.start("w", ttl_s)
    began_s = time.monotonic()
    assert await first.wait() == 0
    results = await asyncio.gather(*(handle.result(WAIT_S) for handle in handles))
    assert time.monotonic() - began_s < 30, "after a lease"
    assert results == ["after"] * 73 + ["thread"] * 2 + [["s0"]] * 25
    starts = workers.starts()
    again = [id for id in (*naps, *threads, *steps) if starts[f"{id}.1"] != 1]
    assert not again, "what is recorded, or ends within the grace, does not run again"
    assert starts[f"{late}.1"] == 2


async def test_the_server_is_killed_and_comes_back(
    server: CurrentServer, workers: Workers, caller: Resonate
) -> None:
    """Law 8: while it is away nothing is rejected; what it acknowledged is there (law 6)."""
    if not server.can_be_killed:
        pytest.skip("a server at a URL is not ours to kill")
    id = unique("server")
    await workers.start("w", 2.0)
    handle = caller.options(target="w").begin_rpc(id, "steps", 10, 0.2)
    for step in (3, 6):
        await workers.until(f"{id}.{step}")
        server.kill()
        await asyncio.sleep(0.7)
        server.start()
    assert await handle.result(WAIT_S) == [f"s{n}" for n in range(10)]
    starts = workers.starts()
    assert sum(starts.values()) <= 12
    assert all(starts[f"{id}.{n}"] >= 1 for n in range(1, 11))


@pytest.mark.parametrize("dies_after_s", [0.3, 2.5], ids=["while it is held", "while it is parked"])
async def test_a_sleep_wakes_though_the_worker_that_began_it_is_dead(
    workers: Workers, caller: Resonate, dies_after_s: float
) -> None:
    """S63, S64: also on servers that sweep nothing without a target, and park what is idle."""
    id = unique("nap")
    first = await workers.start("w", 1.0)
    handle = caller.options(target="w").begin_rpc(id, "nap", 4.0)
    await workers.until(f"{id}.1")
    await asyncio.sleep(dies_after_s)
    store: Any = caller._core.store
    if dies_after_s > 1 and await store.parks():
        assert (await store.call(TaskGet(id))).task.state is TaskState.SUSPENDED
    first.kill()
    await first.wait()
    await workers.start("w", 1.0)
    assert await handle.result(WAIT_S) == "after"
    assert workers.starts() == {f"{id}.1": 1, f"{id}.3": 1}


async def test_a_cancel_reaches_the_worker(workers: Workers, caller: Resonate) -> None:
    """S13: whoever settles the promise ends the execution."""
    id = unique("cancelled")
    await workers.start("w", 1.0)
    handle = caller.options(target="w").begin_rpc(id, "steps", 100, 0.1)
    await workers.until(f"{id}.3")
    await caller.promises.cancel(id)
    with pytest.raises(Exception, match="cancel"):
        await handle.result(WAIT_S)
    await asyncio.sleep(1.5)
    before = workers.starts()
    await asyncio.sleep(0.5)
    assert workers.starts() == before, "it ran on"
    assert sum(before.values()) < 30


async def test_a_person_answers(workers: Workers, caller: Resonate) -> None:
    """A promise that a function waits for is settled from another process."""
    id = unique("question")
    await workers.start("w")
    handle = caller.options(target="w").begin_rpc(id, "waits")
    await workers.until(f"{id}.1")
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await caller.promises.resolve(f"{id}.2", value="yes")
                break
            except Exception:  # noqa: BLE001  it is not there yet
                await asyncio.sleep(0.02)
    assert await handle.result(WAIT_S) == "yes"
