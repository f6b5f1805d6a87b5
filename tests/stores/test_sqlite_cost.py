"""What a step on a file costs: passes of the loop, statements, and length of the log."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.stores.drive import child, held, passes, step

from resonate_aio import Context, Resonate
from resonate_aio.clock import SystemClock
from resonate_aio.protocol.records import EMPTY, Promise, PromiseState
from resonate_aio.protocol.requests import Message
from resonate_aio.stores.base import Refusal
from resonate_aio.stores.hub import Hub
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.stores.sqlite.changes import Ack, Changes
from resonate_aio.stores.sqlite.outgoing import Outgoing


class CountingSelector(selectors.DefaultSelector):
    """Counts the passes of its loop."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def select(self, timeout: float | None = None) -> Any:
        self.passes += 1
        return super().select(timeout)


def test_a_step_of_a_lone_execution_takes_one_pass_of_the_loop(path: Path) -> None:
    """What a commit leads to is handed over in the callback that tells of it (speed.md)."""
    selector = CountingSelector()

    async def leaf(ctx: Context, n: int) -> int:
        return n

    async def steps(ctx: Context, count: int) -> int:
        before = selector.passes
        for n in range(count):
            await ctx.run(leaf, n)
        return selector.passes - before

    async def passes_of(count: int) -> int:
        async with Resonate.local(path=path) as resonate:
            resonate.register(steps)
            return await resonate.run(f"steps-{count}", steps, count)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        few, many = runner.run(passes_of(20)), runner.run(passes_of(220))
    # One that ends with the commit and one that finds nothing more to do; timers add a few.
    assert (many - few) / 200 < 2.5


async def test_the_log_is_written_over_before_it_is_long(sqlite: SqliteStore, path: Path) -> None:
    """A log that grows has to have its size synced at each commit, too."""
    version = await held(sqlite, "a")
    for n in range(1, 600):
        await step(sqlite, "a", version, n)
    assert path.with_name(f"{path.name}-wal").stat().st_size < 2 * 1024 * 1024


class Told:
    """Who hears of a batch, and what they do then."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def batch(self, *names: str, then: Callable[[], None] | None = None) -> Changes:
        batch = Changes()
        for name in names:
            batch.acks.append(Ack(self._acked, then, child(f"a.{name}", "a")))
        return batch

    def _acked(self, then: Callable[[], None] | None, record: Promise | Refusal) -> None:
        assert isinstance(record, Promise)
        self.heard.append(record.id)
        if then is not None:
            then()


class Letters(Hub):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__(lambda _: True, lambda *_: None)
        self.sent: list[str] = []

    def send(self, address: str, message: Message) -> None:
        self.sent.append(address)


@pytest.fixture
async def outgoing() -> Outgoing:
    made = Outgoing(Letters(), SystemClock())
    made.open(asyncio.get_running_loop())
    return made


async def test_what_follows_from_a_batch_comes_after_all_of_it(outgoing: Outgoing) -> None:
    told = Told()

    def follow() -> None:
        assert outgoing.afterwards(lambda: told.heard.append("then"))

    assert not outgoing.afterwards(follow)
    outgoing.publish(told.batch("1", "2", then=follow))
    assert told.heard == ["a.1", "a.2", "then", "then"]
    assert outgoing.last is None


async def test_batches_are_told_of_in_order(outgoing: Outgoing) -> None:
    told = Told()
    second = told.batch("2")
    outgoing.publish(told.batch("1", then=lambda: outgoing.publish(second)))
    assert outgoing.last is second
    await asyncio.sleep(0)
    assert told.heard == ["a.1", "a.2"]


async def test_after_a_kill_nobody_hears_anything(outgoing: Outgoing) -> None:
    told = Told()
    batch = told.batch("1", then=outgoing.close)
    outgoing.publish(batch)
    outgoing.publish(told.batch("2"))
    await asyncio.sleep(0)
    assert told.heard == ["a.1"]


async def test_a_signal_handler_that_raises_where_it_is_told_loses_nothing_else(
    outgoing: Outgoing,
) -> None:
    """Law 16: the loop may go on after it, to stop in an orderly way."""
    told = Told()

    def interrupted() -> None:
        outgoing.afterwards(lambda: told.heard.append("then"))
        raise SystemExit

    with pytest.raises(SystemExit):
        outgoing.publish(told.batch("1", then=interrupted))
    assert told.heard == ["a.1"]
    assert not outgoing.afterwards(interrupted)
    outgoing.publish(told.batch("2"))
    await passes()
    assert sorted(told.heard) == ["a.1", "a.2", "then"]
    assert outgoing.last is None


async def test_a_signal_handler_that_raises_in_what_follows_loses_nothing_else(
    outgoing: Outgoing,
) -> None:
    told = Told()

    def exits() -> None:
        raise SystemExit

    def follow() -> None:
        outgoing.afterwards(exits)
        outgoing.afterwards(lambda: told.heard.append("then"))

    with pytest.raises(SystemExit):
        outgoing.publish(told.batch("1", then=follow))
    await passes()
    assert told.heard == ["a.1", "then"]
    assert outgoing.last is None


async def test_a_settle_that_follows_from_a_commit_is_in_the_next(sqlite: SqliteStore) -> None:
    """S21: nothing is told of before the commit that covers it, at once handed over or not."""
    version = await held(sqlite, "a")
    await step(sqlite, "a", version, 0)  # from now on nothing has to be looked up
    heard: list[str] = []
    done = asyncio.Event()

    def settled(name: str, record: object) -> None:
        heard.append(name)
        if name == "a.1":
            assert sqlite.fence_create("a", version, child("a.2", "a"), None, None)
            sqlite.fence_settle("a", version, "a.2", PromiseState.RESOLVED, EMPTY, settled, "a.2")
            assert heard == ["a.1"]
        else:
            done.set()

    sqlite.fence_create("a", version, child("a.1", "a"), None, None)
    sqlite.fence_settle("a", version, "a.1", PromiseState.RESOLVED, EMPTY, settled, "a.1")
    assert heard == []
    await asyncio.wait_for(done.wait(), 5)
    assert heard == ["a.1", "a.2"]
