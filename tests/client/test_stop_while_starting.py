"""A client that is stopped while its calls are on their way to the file (laws 8 and 16)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateShutdownError


async def leaf(ctx: Context) -> str:
    return "done"


def client(path: Path) -> Resonate:
    resonate = Resonate.local(path=path)
    resonate.register(leaf)
    return resonate


@pytest.mark.parametrize("passes", range(6))
@pytest.mark.parametrize("remotely", [False, True])
async def test_who_waits_hears_of_it_and_the_loop_of_nothing(
    passes: int, remotely: bool, tmp_path: Path
) -> None:
    loop, caught = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: caught.append(context))
    resonate = client(tmp_path / "app.db")
    await resonate.start()
    begin = resonate.rpc if remotely else resonate.begin_run
    handle = begin("x", leaf)
    for _ in range(passes):
        await asyncio.sleep(0)
    await resonate.stop()
    try:
        async with asyncio.timeout(20):  # it is told, not left waiting for ever
            assert await handle == "done"  # where it was quick enough
    except ResonateShutdownError as error:
        assert "'x'" in str(error)  # noqa: PT017  either of the two is right
    assert not caught
    # What was acknowledged survives (law 6).
    if await was_created(handle):
        async with client(tmp_path / "app.db") as again:
            assert await again.get("x").result(timeout=20) == "done"


async def was_created(handle: Any) -> bool:
    try:
        await handle.created()
    except ResonateShutdownError:
        return False
    return True


async def test_another_client_of_the_file_takes_over_at_once(tmp_path: Path) -> None:
    async with client(tmp_path / "app.db") as other:
        stopped = client(tmp_path / "app.db")
        await stopped.start()
        handle = stopped.begin_run("x", leaf)
        await stopped.stop()
        if await was_created(handle):
            assert await other.get("x").result(timeout=20) == "done"
        else:  # the file was asked for nothing: then it is free
            assert await other.run("x", leaf).result(timeout=20) == "done"


async def test_a_stop_refuses_what_was_asked_a_moment_before(tmp_path: Path) -> None:
    """Nothing starts behind a stop, and nothing is left behind (law 16)."""
    resonate = Resonate.local(path=tmp_path / "app.db")
    ran: list[str] = []

    @resonate.register
    async def late(ctx: Context) -> None:
        ran.append(ctx.id)

    handle = resonate.run("late", late)
    await resonate.stop()
    with pytest.raises(ResonateShutdownError, match="late"):
        await handle
    await asyncio.sleep(0.05)
    assert not ran
    async with Resonate.local(path=tmp_path / "app.db") as other:  # the file is free
        assert not (await other.promises.search()).items
