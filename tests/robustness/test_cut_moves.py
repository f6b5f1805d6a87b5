"""A start or stop that is itself cut, at whatever pass of the loop (laws 6 and 16, S31).

Everything on the loop is cancelled, once or again and again, as `asyncio.run` does at its end and
some frameworks do at theirs. Afterwards a further stop ends the job, and the same object starts
again, on the same loop or on the next one.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.robustness.moves import (
    MOVES,
    RESULTS,
    Move,
    Subject,
    begun,
    cancel_all,
    left,
    stopped,
)

from resonate_aio import Resonate

pytestmark = pytest.mark.law

PASSES = 16
"""A stop takes fewer where no step runs; later passes are times at which one still does."""

AGAIN_AND_AGAIN = 40
UGLY = ("never retrieved", "was destroyed", "never awaited", "this is a bug", "chore failed")


@pytest.fixture(autouse=True)
def nothing_ugly(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nobody is told of errors that nobody made."""
    caplog.set_level(logging.INFO)
    yield
    gc.collect()
    said = [record.getMessage() for record in caplog.records]
    assert not [text for text in said if any(words in text for words in UGLY)]


@pytest.fixture(params=MOVES, ids=lambda move: move.__name__)
def move(request: pytest.FixtureRequest) -> Move:
    """What is cut."""
    found: Move = request.param
    return found


@pytest.fixture(params=["memory", "sqlite"])
def subjects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, Subject]]:
    """One for each pass in which a move is cut."""

    def subject(at: int) -> Subject:
        if request.param == "memory":
            return Subject(Resonate())
        path = tmp_path / f"{at}.db"
        return Subject(Resonate.local(path=path, synchronous="NORMAL"), path)

    return ((at, subject(at)) for at in range(PASSES))


@pytest.mark.parametrize("stops_again", [False, True])
def test_the_end_of_asyncio_run(
    move: Move, subjects: Iterator[tuple[int, Subject]], stops_again: bool
) -> None:
    for at, subject in subjects:

        async def life(at: int = at, subject: Subject = subject) -> None:
            await begun(move, subject, at)

        async def next_life(subject: Subject = subject) -> list[str]:
            results = await subject.results()
            await subject.resonate.stop()
            subject.check_nothing_left()
            return results

        asyncio.run(life())
        if move in (stopped, left) and at:  # asyncio.run waited for it
            subject.check_nothing_held()
        if stops_again:
            asyncio.run(subject.resonate.stop())
            subject.check_nothing_held()
        assert asyncio.run(next_life()) == RESULTS, f"cut at pass {at}"
        assert asyncio.run(next_life()) == RESULTS, f"cut at pass {at}"


@pytest.mark.parametrize("stops_again", [False, True])
@pytest.mark.parametrize("times", [1, AGAIN_AND_AGAIN])
async def test_everything_on_the_loop_is_cancelled(
    move: Move, subjects: Iterator[tuple[int, Subject]], times: int, stops_again: bool
) -> None:
    for at, subject in subjects:
        moving = await begun(move, subject, at)
        for _ in range(times):
            cancel_all()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await moving
        if stops_again:
            await subject.resonate.stop()
            subject.check_nothing_left()
        else:  # a stop may be under way still, which refuses what is asked
            await subject.resonate.start()
        assert await subject.results() == RESULTS, f"cut at pass {at}"
        await subject.resonate.stop()
        subject.check_nothing_left()


@pytest.mark.parametrize("stops_again", [False, True])
def test_a_client_that_serves_its_file_on_the_next_loop(tmp_path: Path, stops_again: bool) -> None:
    """asyncio.run ends without a stop: the port is given back, and is the server's again."""
    path = tmp_path / "app.db"
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    subject = Subject(Resonate.local(path=path, serve=f"127.0.0.1:{port}"), path)

    async def life() -> None:
        async with asyncio.timeout(20):
            assert await subject.results() == RESULTS
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()

    asyncio.run(life())
    if stops_again:
        asyncio.run(subject.resonate.stop())
        subject.check_nothing_held()
        socket.create_server(("127.0.0.1", port)).close()
    asyncio.run(life())
    asyncio.run(subject.resonate.stop())
    subject.check_nothing_held()
    socket.create_server(("127.0.0.1", port)).close()
