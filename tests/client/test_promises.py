"""`resonate.promises` (mission table 1.6)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import (
    ResonateCanceledError,
    ResonateError,
    ResonateStoreError,
    ResonateTimedoutError,
)
from resonate_aio.protocol.records import PromiseState

Make = Callable[..., Resonate]


async def test_create_and_get(make: Make) -> None:
    """Mission M1, M2: an absolute deadline in milliseconds, or seconds from now."""
    spans: list[Any] = [30, 30.0, timedelta(seconds=30)]
    async with make() as resonate:
        at_ms = int(time.time() * 1000) + 30_000
        created = await resonate.promises.create(id="promise-id", timeout=at_ms)
        assert (created.id, created.timeout_at_ms) == ("promise-id", at_ms)
        assert created.state is PromiseState.PENDING
        assert await resonate.promises.get("promise-id") == created
        for number, span in enumerate(spans):
            promise = await resonate.promises.create(f"in{number}", timeout_in=span)
            assert promise.timeout_at_ms == pytest.approx(at_ms, abs=5_000)
        with pytest.raises(ResonateStoreError, match="'absent'") as raised:
            await resonate.promises.get("absent")
        assert raised.value.code == 404


async def test_resolve_and_reject(make: Make) -> None:
    """Mission M3, M4: `data` is JSON text as it is stored, `value` is encoded for you."""
    async with make() as resonate:
        promises = resonate.promises
        for id in "abcdef":
            await promises.create(id, timeout_in=30)
        await promises.resolve("a")
        await promises.resolve(id="b", data=json.dumps({}))
        await promises.resolve("c", value={"n": 1})
        assert [await resonate.get(id) for id in "abc"] == [None, {}, {"n": 1}]
        await promises.reject("d")
        await promises.reject(id="e", data=json.dumps("why"))
        await promises.reject("f", value={"name": "ValueError", "message": "bad"})
        for id, text in (("d", "Exception|null"), ("e", "why"), ("f", "bad")):
            with pytest.raises(ResonateError, match=text):
                await resonate.get(id)
        states = [(await promises.get(id)).state for id in "af"]
        assert states == [PromiseState.RESOLVED, PromiseState.REJECTED]
        with pytest.raises(TypeError, match="not both"):
            await promises.resolve("a", data="1", value=1)


async def test_cancel(make: Make) -> None:
    """Mission M5: the third terminal state; it interrupts a body that runs."""
    interrupted = asyncio.Event()
    async with make() as resonate:

        @resonate.register
        async def body(ctx: Context) -> None:
            try:
                await ctx.sleep(1000)
            finally:
                interrupted.set()

        handle = await resonate.begin_run("a", body).created()
        promise = await resonate.promises.cancel("a", value="enough")
        assert promise.state is PromiseState.CANCELED
        with pytest.raises(ResonateCanceledError):
            await handle
        await asyncio.wait_for(interrupted.wait(), 5)


async def test_extras_of_create_and_settle(make: Make) -> None:
    """Mission M6: keys, strict, headers, data, tags; the calls of workers written by hand."""
    async with make() as resonate:
        promises = resonate.promises
        deadline = int(time.time() * 1000) + 30_000
        created = await promises.create(
            "a", deadline, ikey="k", strict=True, headers={"h": "1"}, data="[1]", tags={"t": "x"}
        )
        assert (created.param.headers, created.param.data) == ({"h": "1"}, "[1]")
        assert created.tags["t"] == "x"
        settled = await promises.resolve("a", "2", ikey="s", strict=True, headers={"g": "2"})
        assert (settled.value.headers or {})["g"] == "2"
        assert settled.value.data == "2"

        target = {"resonate:target": "poll://any@by-hand"}
        promise, task = await promises.create_with_task("w", deadline, "me", 60_000, tags=target)
        assert task is not None
        assert (promise.id, task.pid, task.ttl_ms) == ("w", "me", 60_000)
        again, taken = await promises.create_with_task("w", deadline, "you", 60_000, tags=target)
        assert (again, taken) == (promise, None)
        legacy = {"resonate:invoke": "poll://any@by-hand"}
        _, task = await promises.create_with_task("v", deadline, "me", 60_000, tags=legacy)
        assert task is not None
        with pytest.raises(ValueError, match="resonate:target"):
            await promises.create_with_task("x", deadline, "me", 60_000)

        await promises.create("waited", deadline)
        assert (await promises.callback("waited", "w", "poll://uni@g/p", deadline)).id == "waited"
        heard = await promises.subscribe("sub", "waited", "poll://uni@g/p", deadline)
        assert heard.id == "waited"
        with pytest.raises(ResonateStoreError):
            await promises.subscribe("sub", "absent", "poll://uni@g/p", deadline)


async def test_a_promise_with_a_target_is_an_execution(make: Make) -> None:
    """Mission M6: what the command line of the legacy server does, by hand."""
    async with make() as resonate:

        @resonate.register
        async def foo(ctx: Context, n: int) -> int:
            return n + 1

        call = {"func": "foo", "args": [1], "kwargs": {}, "version": 1}
        tags = {"resonate:invoke": "default"}
        await resonate.promises.create("a", timeout_in=30, data=json.dumps(call), tags=tags)
        assert await resonate.get("a").result(5) == 2


async def test_a_promise_is_written_once(make: Make) -> None:
    """Mission M7, law 1: the first outcome stays; a key makes a repeated settle no error."""
    async with make() as resonate:
        promises = resonate.promises
        await promises.create("a", timeout_in=30)
        await promises.resolve("a", value=1, ikey="k")
        assert (await promises.resolve("a", value=2, ikey="k")).value.data == "1"
        assert (await promises.reject("a", ikey="k")).state is PromiseState.RESOLVED
        with pytest.raises(ResonateStoreError, match="'other'") as raised:
            await promises.resolve("a", value=2, ikey="other")
        assert raised.value.code == 403
        with pytest.raises(ResonateStoreError) as raised:
            await promises.reject("a", ikey="k", strict=True)
        assert raised.value.code == 403
        assert (await promises.resolve("a", ikey="k", strict=True)).value.data == "1"
        with pytest.raises(ResonateStoreError):
            await promises.resolve("a", strict=True)
        assert (await promises.cancel("a")).state is PromiseState.RESOLVED
        assert await resonate.get("a") == 1


async def test_the_deadline_belongs_to_the_promise(make: Make) -> None:
    """Mission M8: waiters get ResonateTimedoutError, and settling comes too late."""
    async with make() as resonate:
        await resonate.promises.create("a", timeout_in=0.02)
        with pytest.raises(ResonateTimedoutError, match="'a'"):
            await resonate.get("a").result(5)
        late = await resonate.promises.resolve("a", value=1, ikey="k")
        assert late.state is PromiseState.TIMEDOUT
        with pytest.raises(ResonateStoreError):
            await resonate.promises.resolve("a", value=1, strict=True)


async def test_a_promise_lives_outside_of_executions(make: Make) -> None:
    """Mission M9: created in one life of the client, resolved in another, awaited in a third."""
    resonate = make()
    async with resonate:
        await resonate.promises.create("gate", timeout_in=60)
    async with resonate:
        await resonate.promises.resolve("gate", value="open")
    async with resonate:
        assert await resonate.get("gate") == "open"


async def test_search(make: Make) -> None:
    """Issue 4: `promises.search` with cursor: one page when awaited, all when iterated over."""
    async with make() as resonate:
        promises = resonate.promises
        for number in range(25):
            tags = {"parity": "even" if number % 2 == 0 else "odd"}
            await promises.create(f"p{number:02}", timeout_in=60, tags=tags)
        for number in range(0, 25, 5):
            await promises.resolve(f"p{number:02}")

        page = await promises.search(limit=10)
        assert len(page) == 10
        assert [p.id for p in page] == [f"p{n:02}" for n in range(10)]
        rest = await promises.search(limit=1000, cursor=page.cursor)
        assert [p.id for p in rest.items] == [f"p{n:02}" for n in range(10, 25)]
        assert rest.cursor is None

        everything = [p.id async for p in promises.search(limit=4)]
        assert everything == [f"p{n:02}" for n in range(25)]
        odd = [
            p.id async for p in promises.search(tags={"parity": "odd"}, state="pending", limit=2)
        ]
        assert odd == [f"p{n:02}" for n in range(25) if n % 2 and n % 5]
        resolved = promises.search(state=PromiseState.RESOLVED)
        assert len(await resolved) == 5
        assert len(await resolved) == 5, "a search may be awaited again"


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": "5"},
        {"limit": True},
        {"cursor": 5},
        {"state": "running"},
        {"state": 5},
        {"tags": {"a": 1}},
        {"tags": ["a"]},
    ],
    ids=str,
)
def test_wrong_searches(options: dict[str, Any]) -> None:
    """It must show 5."""
    with pytest.raises((TypeError, ValueError)):
        Resonate().promises.search(**options)


async def test_errors_have_the_old_names() -> None:
    """Mission M11: message, code and details, and names to import from the package."""
    import resonate_aio

    error = ResonateError("text", 42, {"a": 1})
    assert (str(error), error.mesg, error.code, error.details) == ("text", "text", 42, {"a": 1})
    for name in (
        "ResonateError",
        "ResonateStoreError",
        "ResonateCanceledError",
        "ResonateTimedoutError",
        "ResonateShutdownError",
    ):
        assert issubclass(getattr(resonate_aio, name), ResonateError)
        assert name in resonate_aio.__all__


@pytest.mark.parametrize(
    "seconds",
    [0, 3, 30, 86_400, int(time.time()) + 30],
    ids=["0", "3", "30", "a day", "soon"],  # the same in each process that collects
)
async def test_a_deadline_that_can_only_be_seconds_is_refused(make: Make, seconds: int) -> None:
    """Mission M1: milliseconds since the epoch; what to write instead is said, nothing stored."""
    async with make() as resonate:
        with pytest.raises(ValueError, match=r"can only be seconds: write timeout=") as raised:
            await resonate.promises.create("p", timeout=seconds)
        if seconds > 10**9:
            assert f"timeout={seconds * 1000}" in str(raised.value)
        with pytest.raises(ResonateStoreError, match="'p'"):
            await resonate.promises.get("p")
        tags = {"resonate:target": "poll://any@nobody"}
        with pytest.raises(ValueError, match="timedelta"):
            await resonate.promises.create_with_task("p", 3, "me", 1000, tags=tags)


async def test_a_deadline_as_a_timedelta_counts_from_now(make: Make) -> None:
    async with make() as resonate:
        before_ms = int(time.time() * 1000)
        promise = await resonate.promises.create("p", timeout=timedelta(seconds=30))
        assert promise.timeout_at_ms == pytest.approx(before_ms + 30_000, abs=5_000)


class RefusedError(Exception):
    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason, code)
        self.code = code


async def test_a_promise_rejected_with_an_error_gives_it_to_who_waits(make: Make) -> None:
    """Mission M4, S51: as if a function had raised it."""

    async def approve(ctx: Context) -> str:
        try:
            await (await ctx.promise(id="gate"))
        except RefusedError as error:
            return f"refused: {error.args[0]}, {error.code}"
        return "approved"

    async with make() as resonate:
        resonate.register(approve)
        await resonate.promises.create("gate", timeout_in=60)
        handle = resonate.begin_run("a", approve)
        await resonate.promises.reject("gate", value=RefusedError("no", 7), headers={"by": "Ada"})
        assert await handle == "refused: no, 7"
        assert ((await resonate.promises.get("gate")).value.headers or {})["by"] == "Ada"
        with pytest.raises(RefusedError, match="no"):
            await resonate.get("gate")
        with pytest.raises(TypeError, match="Exception"):
            await resonate.promises.reject("gate", value=KeyboardInterrupt())
        with pytest.raises(TypeError, match="either"):
            await resonate.promises.reject("gate", "1", value=ValueError())


async def test_an_empty_cursor_does_not_begin_again() -> None:
    async with Resonate() as resonate:
        with pytest.raises(ValueError, match="None begins at the start"):
            resonate.promises.search(cursor="")
        with pytest.raises(ValueError, match="None begins at the start"):
            resonate.schedules.search(cursor="")
