"""A start or stop that is itself cut, of a client whose promises are on a server (laws 6, 16)."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from anyio.from_thread import start_blocking_portal
from tests.legacy.fake_server import FakeServer
from tests.legacy.opening import make_store
from tests.robustness.moves import MOVES, Move, Subject, begun, cancel_all, left, stopped

from resonate_aio import Resonate
from resonate_aio.server import Server
from resonate_aio.stores.legacy import LegacyStore
from resonate_aio.stores.memory import MemoryStore

pytestmark = pytest.mark.law

PASSES = (0, 1, 2, 3, 4, 6, 8, 11, 13, 16, 24)
UGLY = ("never retrieved", "was destroyed", "never awaited", "nclosed", "this is a bug")

MakeClient = Callable[[], Resonate]


@pytest.fixture(params=["current", "legacy"])
def make_client(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[MakeClient]:
    """Makes clients of one server, which lives on a loop of its own."""
    with start_blocking_portal() as portal:
        if request.param == "current":
            server = Server(MemoryStore(), port=0)
            with portal.wrap_async_context_manager(server):
                yield lambda: Resonate(url=server.url, ttl=1)
        else:
            with portal.wrap_async_context_manager(FakeServer().running()) as fake:
                yield lambda: Resonate(store=make_store(fake.url, fake.poll_url, ttl_s=1.0))
    gc.collect()
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert not [text for text in said if any(words in text for words in UGLY)]


async def check_goes_on(subject: Subject) -> None:
    """It runs what is new, and what it ran before, too, where its server tells it in time.

    A legacy one tells a worker of the next life a minute later.
    """
    names = ["new"] if isinstance(subject.resonate._core.store, LegacyStore) else ["new", "e"]
    for name in names:
        assert await subject.results(name) == [f"{name}{n} done" for n in range(3)]
    await subject.resonate.stop()
    subject.check_nothing_left()


@pytest.mark.parametrize("move", [stopped, left], ids=lambda move: move.__name__)
@pytest.mark.parametrize("stops_again", [False, True])
def test_the_end_of_asyncio_run(move: Move, make_client: MakeClient, stops_again: bool) -> None:
    """It waits for the stop: no connection is left open with the loop."""
    subject = Subject(make_client())

    async def life(at: int) -> None:
        await begun(move, subject, at)

    async def next_life() -> None:
        await check_goes_on(subject)

    for at in PASSES[1:]:
        asyncio.run(life(at))
        if stops_again:
            asyncio.run(subject.resonate.stop())
    asyncio.run(next_life())


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
@pytest.mark.parametrize("times", [1, 40])
async def test_everything_on_the_loop_is_cancelled(
    move: Move, make_client: MakeClient, times: int
) -> None:
    subject = Subject(make_client())
    for at in PASSES:
        moving = await begun(move, subject, at)
        for _ in range(times):
            cancel_all()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await moving
        await subject.resonate.stop()
        subject.check_nothing_left()
    await check_goes_on(subject)
