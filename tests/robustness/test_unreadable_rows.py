"""A row that somebody changed so that it means nothing is named, set aside, and left as it is.

Everything else in the file goes on (law 14), and nothing is lost or rewritten silently.
"""

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError, UnreadableRecordError

pytestmark = pytest.mark.law

GOOD = 20

# What is written into the row of an execution, or of its first step, that is pending.
FAULTS: dict[str, tuple[str, str]] = {
    "no state": ("", "state = 'nonsense'"),
    "a state without its instant": ("", "state = 'resolved'"),
    "an instant that is none": ("", "settled_at_ms = 'soon'"),
    "no deadline": ("", "timeout_at_ms = 'later'"),
    "no beginning": ("", "created_at_ms = x'00'"),
    "callbacks that are no JSON": ("", "callbacks = '[['"),
    "callbacks that are no list": ("", "callbacks = '7'"),
    "listeners that are no texts": ("", "listeners = '[1]'"),
    "resumes that are no list": ("", "resumes = '{}'"),
    "tags that are no JSON": ("", "tags = '{'"),
    "tags that are no object": ("", "tags = '[1, 2]'"),
    "tags that are no texts": ("", "tags = '{\"resonate:target\": 5}'"),
    "a task without a target": ("", "tags = NULL"),
    "a target without a task": ("", "task_state = NULL"),
    "no state of a task": ("", "task_state = 'idle'"),
    "no version": ("", "version = 'first'"),
    "no lapses": ("", "lapses = 'many'"),
    "a lease that is none": ("", "ttl_ms = 'long'"),
    "an owner that is none": ("", "owner = x'ff'"),
    "a gate without a deadline": ("-gate", "timeout_at_ms = 'later'"),
    "a step without a state": (".1", "state = 'nonsense'"),
    "a step with tags that are none": (".1", "tags = 'x'"),
}


async def double(ctx: Context, n: int) -> int:
    return 2 * n


async def flow(ctx: Context, n: int) -> int:
    result = await ctx.run(double, n)
    await (await ctx.promise(id=f"{ctx.id}-gate"))
    return result


def client(path: Path) -> Resonate:
    resonate = Resonate.local(path=path, synchronous="NORMAL")
    resonate.register(flow)
    return resonate


def rows(path: Path, ids: list[str] | None = None) -> dict[str, tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        found = {row[0].decode(): row for row in connection.execute("SELECT * FROM promises")}
    return found if ids is None else {id: found[id] for id in ids}


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount == 1, statement
        connection.commit()


async def until(path: Path, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(id.endswith("-gate") for id in rows(path)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def outcome(resonate: Resonate, id: str) -> BaseException | int:
    try:
        async with asyncio.timeout(3):
            result: int = await resonate.get(id)
    except Exception as error:  # noqa: BLE001  what it is, is what the test is about
        return error
    return result


def test_every_broken_row_is_named_and_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "app.db"
    bad = [f"bad{number}" for number in range(len(FAULTS))]
    good = [f"good{number}" for number in range(GOOD)]

    async def first_life() -> None:
        async with client(path) as resonate:
            for id in (*bad, *good):
                resonate.begin_run(id, flow, 1)
            await until(path, len(bad) + GOOD)

    asyncio.run(first_life())
    broken = {}
    for id, (suffix, change) in zip(bad, FAULTS.values(), strict=True):
        broken[id] = id + suffix
        execute(path, f"UPDATE promises SET {change} WHERE id = '{id + suffix}'")
    before = rows(path, list(broken.values()))

    async def second_life() -> tuple[list[Any], list[Any]]:
        async with client(path) as resonate:
            for id in good:
                await resonate.promises.resolve(f"{id}-gate")
            async with asyncio.timeout(10):
                results = await asyncio.gather(*(resonate.get(id) for id in good))
            errors = await asyncio.gather(*(outcome(resonate, id) for id in bad))
            listed = [promise.id async for promise in resonate.promises.search()]
            assert not set(broken.values()) & set(listed)
            for id in broken.values():
                with pytest.raises(UnreadableRecordError, match=repr(id)):
                    await resonate.promises.create(id, timeout_in=10)
                with pytest.raises(UnreadableRecordError, match=repr(id)):
                    await resonate.promises.resolve(id)
            return results, list(errors)

    caplog.set_level(logging.WARNING, "resonate_aio")
    results, errors = asyncio.run(second_life())
    assert results == [2] * GOOD
    for (id, row), error, fault in zip(broken.items(), errors, FAULTS, strict=True):
        assert isinstance(error, UnreadableRecordError), (fault, error)
        assert error.id == row, fault
        said = [r.getMessage() for r in caplog.records if f"promise {row!r}" in r.getMessage()]
        named = [text for text in said if text.startswith(str(path))]
        assert len(named) <= 1, (fault, named)
        assert said, f"{fault}: {id} is not named"
    assert rows(path, list(broken.values())) == before, "left as they are"


def test_what_was_put_right_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "app.db"

    async def begin() -> None:
        async with client(path) as resonate:
            resonate.begin_run("a", flow, 1)
            await until(path, 1)

    async def look() -> None:
        async with client(path) as resonate:
            assert isinstance(await outcome(resonate, "a"), UnreadableRecordError)

    async def end() -> int:
        async with client(path) as resonate:
            await resonate.promises.resolve("a-gate")
            return int(await resonate.get("a"))

    asyncio.run(begin())
    ((tags,),) = [(row[11],) for row in rows(path, ["a"]).values()]
    execute(path, "UPDATE promises SET tags = '{' WHERE id = 'a'")
    asyncio.run(look())
    execute(path, f"UPDATE promises SET tags = '{tags.decode()}' WHERE id = 'a'")
    assert asyncio.run(end()) == 2


def test_an_execution_that_asks_for_a_broken_promise_is_stopped_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "app.db"

    async def begin() -> None:
        async with client(path) as resonate:
            await resonate.promises.create("a-gate", timeout_in=100)

    async def ask() -> BaseException | int:
        async with client(path) as resonate:
            resonate.begin_run("a", flow, 1)
            good = resonate.begin_run("b", flow, 1)
            await until(path, 2)
            await resonate.promises.resolve("b-gate")
            assert await good == 2
            return await outcome(resonate, "a")

    asyncio.run(begin())
    execute(path, "UPDATE promises SET tags = '[' WHERE id = 'a-gate'")
    error = asyncio.run(ask())
    assert isinstance(error, UnreadableRecordError)
    assert error.id == "a-gate"
    assert any(record.getMessage().startswith("'a' is stopped") for record in caplog.records)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE schedules SET cron = 'never' WHERE id = 's'", "cron"),
        ("UPDATE schedules SET next_run_at_ms = 'soon' WHERE id = 's'", "next_run_at_ms"),
        ("UPDATE schedules SET tags = '[]' WHERE id = 's'", "tags"),
    ],
)
def test_a_schedule_with_a_broken_row_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str, named: str
) -> None:
    path = tmp_path / "app.db"

    async def begin() -> None:
        async with client(path) as resonate:
            await resonate.schedules.create("s", "@daily", "s-{{.timestamp}}", 1000)

    async def look() -> None:
        async with client(path) as resonate:
            resonate.begin_run("a", flow, 1)
            await until(path, 1)
            await resonate.promises.resolve("a-gate")
            assert await resonate.get("a") == 2
            with pytest.raises(UnreadableRecordError, match="schedule 's'"):
                await resonate.schedules.create("s", "@daily", "s-{{.timestamp}}", 1000)
            with pytest.raises(UnreadableRecordError, match="schedule 's'"):
                await resonate.schedules.delete("s")

    def stored() -> list[Any]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT * FROM schedules").fetchall()

    asyncio.run(begin())
    execute(path, change)
    before = stored()
    asyncio.run(look())
    assert stored() == before
    (said,) = [r.getMessage() for r in caplog.records if "schedule 's'" in r.getMessage()]
    assert named in said


def test_a_schedule_whose_next_promise_has_a_broken_row_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "app.db"

    async def begin() -> None:
        async with client(path) as resonate:
            await resonate.promises.create("tick", timeout_in=100)
            await resonate.schedules.create("bad", "@every 1s", "tick", 1000)
            await resonate.schedules.create("good", "@every 1s", "good-{{.timestamp}}", 1000)
            await resonate.promises.resolve("tick")

    async def look() -> None:
        async with client(path) as resonate:
            async with asyncio.timeout(10):
                while not any(id.startswith("good-") for id in rows(path)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            with pytest.raises(UnreadableRecordError, match="schedule 'bad'"):
                await resonate.schedules.get("bad")

    asyncio.run(begin())
    execute(path, "UPDATE promises SET state = 'nonsense' WHERE id = 'tick'")
    before = rows(path, ["tick"])
    asyncio.run(look())
    assert rows(path, ["tick"]) == before
    said = [r.getMessage() for r in caplog.records]
    assert sum("schedule 'bad'" in text and "cannot be read" in text for text in said) == 1
    assert sum("promise 'tick' is set" in text for text in said) == 1


async def test_who_asks_over_a_server_is_told_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no trouble that passes; the log has one line, however often it is asked for."""
    path = tmp_path / "app.db"
    async with client(path) as resonate:
        await resonate.promises.create("a", timeout_in=100)
        await resonate.schedules.create("s", "@daily", "s-{{.timestamp}}", 1000)
    execute(path, "UPDATE promises SET callbacks = '7' WHERE id = 'a'")
    execute(path, "UPDATE schedules SET cron = 'never' WHERE id = 's'")
    local = Resonate.local(path=path, synchronous="NORMAL", serve="127.0.0.1:0")
    async with local, asyncio.timeout(20), Resonate(url=local.serving_at) as remote:
        for _ in range(2):
            with pytest.raises(ResonateStoreError, match="promise 'a' is set aside") as raised:
                await remote.promises.get("a")
            assert raised.value.code == 422
            with pytest.raises(ResonateStoreError, match="promise 'a' is set aside"):
                await remote.get("a")
            with pytest.raises(ResonateStoreError, match="schedule 's' is set aside"):
                await remote.schedules.get("s")
        assert (await remote.promises.create("b", timeout_in=10)).id == "b"
    said = [record.getMessage() for record in caplog.records]
    assert sum("promise 'a' is set aside" in text for text in said) == 1
    assert sum("schedule 's' is set aside" in text for text in said) == 1
