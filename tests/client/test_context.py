"""What a durable function does with its ctx (mission table 1.7), in both dialects."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.client.lives import Lives, utc, where

from resonate_aio import Context, Resonate
from resonate_aio.errors import (
    NonDeterminismError,
    ResonateStoreError,
    ResonateTimedoutError,
)
from resonate_aio.retry_policies import Constant, Never
from resonate_aio.testing import crash_everywhere

Make = Callable[..., Resonate]


def bar(ctx: Context, n: int) -> int:
    return n + 1


async def both(make: Make, awaiting: Any, yielding: Any, expected: Any, *args: Any) -> None:
    """Run the same program in both dialects, with `bar` registered."""
    async with make() as resonate:
        resonate.register(bar)
        resonate.register(awaiting)
        resonate.register(yielding)
        assert await resonate.run("awaits", awaiting, *args) == expected
        assert await resonate.run("yields", yielding, *args) == expected


async def test_calls_here(make: Make) -> None:
    """Mission X1, X2, X7, P16: run and begin_run, and their short names; no registration needed."""

    def local(ctx: Context, n: int) -> int:
        return n * 10

    async def awaits(ctx: Context) -> list[int]:
        promise = await ctx.begin_run(local, 2)
        other = await ctx.lfi(local, 3)
        return [await ctx.run(local, 1), await promise, await other, await ctx.lfc(local, 4)]

    def yields(ctx: Context) -> Generator[Any, Any, list[int]]:
        promise = yield ctx.begin_run(local, 2)
        other = yield ctx.lfi(local, 3)
        return [
            (yield ctx.run(local, 1)),
            (yield promise),
            (yield other),
            (yield ctx.lfc(local, 4)),
        ]

    await both(make, awaits, yields, [10, 20, 30, 40])


async def test_calls_elsewhere(make: Make) -> None:
    """Mission X3, X4, X5, X6: rpc and begin_rpc, and their older names."""

    async def awaits(ctx: Context) -> list[int]:
        promise = await ctx.begin_rpc("bar", 2)
        other = await ctx.rfi("bar", 3).options(target="default")
        return [
            await ctx.rpc("bar", 1),
            await promise,
            await other,
            await ctx.rfc("bar", 4).options(target="poll://default"),
        ]

    def yields(ctx: Context) -> Generator[Any, Any, list[int]]:
        promise = yield ctx.begin_rpc("bar", 2)
        other = yield ctx.rfi("bar", 3).options(target="default")
        return [
            (yield ctx.rpc("bar", 1)),
            (yield promise),
            (yield other),
            (yield ctx.rfc("bar", 4).options(target="poll://default")),
        ]

    await both(make, awaits, yields, [2, 3, 4, 5])


async def test_types_for_names(make: Make) -> None:
    """Mission X3, X4, K23: `returns=` rebuilds the result of a function known by name only."""

    async def pack(ctx: Context) -> Any:
        return {"at": datetime(2024, 5, 1, tzinfo=UTC)}

    async def flow(ctx: Context) -> list[bool]:
        plain = await ctx.rpc("pack")
        typed = await ctx.rpc("pack", returns=dict[str, datetime])
        promise = await ctx.begin_rpc("pack", returns=dict[str, datetime])
        return [
            plain == {"at": "2024-05-01T00:00:00+00:00"},
            typed == await promise == await pack(ctx),
        ]

    async with make() as resonate:
        resonate.register(pack)
        resonate.register(flow)
        assert await resonate.run("a", flow) == [True, True]


async def test_detached(make: Make) -> None:
    """Mission X8, X26: not awaited at the end, and its deadline is its own."""

    async def awaits(ctx: Context) -> str:
        promise = await ctx.detached("nobody").options(id="apart awaits")
        return str(promise.id)

    def yields(ctx: Context) -> Generator[Any, Any, str]:
        promise = yield ctx.detached("nobody").options(id="apart yields")
        return str(promise.id)

    async with make() as resonate:
        for function in (awaits, yields):
            name = function.__name__
            resonate.register(function)
            limited = resonate.options(timeout=5)
            assert await limited.run(name, name).result(5) == f"apart {name}"
            apart = await resonate.promises.get(f"apart {name}")
            assert apart.state == "pending"
            span_ms = apart.timeout_at_ms - apart.created_at_ms
            assert span_ms == pytest.approx(31_536_000_000, abs=500)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_detached_call_is_there_once_its_caller_has_ended(store: Any) -> None:
    """Mission X8, S8: no outcome is recorded before what was asked before it."""

    async def flow(ctx: Context) -> str:
        promise = await ctx.detached("apart", 1).options(id="explicit")
        return str(promise.id)

    async def apart(ctx: Context, n: int) -> int:
        return n + 1

    async def program(resonate: Resonate) -> list[Any]:
        resonate.register(apart)
        resonate.register(flow)
        return [await resonate.run("a", flow), await resonate.get("explicit")]

    assert crash_everywhere(program, store=store).result == ["explicit", 2]


async def test_children_are_awaited_at_the_end(make: Make) -> None:
    """Mission X9, law 9: what was begun ends before its function does."""
    ended: list[str] = []

    async def child(ctx: Context) -> None:
        await ctx.sleep(0.01)
        ended.append(ctx.id)

    async def awaits(ctx: Context) -> str:
        await ctx.begin_run(child)
        return "ended"

    def yields(ctx: Context) -> Generator[Any, Any, str]:
        yield ctx.begin_run(child)
        return "ended"

    await both(make, awaits, yields, "ended")
    assert ended == ["awaits.1", "yields.1"]


async def test_options_after_a_call(make: Make) -> None:
    """Mission X10, X11, X12: each kind of call with every option it has."""
    attempts: Counter[str] = Counter()

    async def flaky(ctx: Context) -> str:
        attempts[ctx.id] += 1
        if attempts[ctx.id] == 1:
            raise ConnectionError
        return ctx.info.tags["kind"]

    async def broken(ctx: Context) -> None:
        attempts[ctx.id] += 1
        raise LookupError

    async def flow(ctx: Context) -> list[Any]:
        first = await ctx.run(flaky).options(
            id="custom-id",
            tags={"kind": "test"},
            timeout=10,
            retry_policy=Constant(delay=0),
            idempotency_key="custom-key",
            check_arguments=False,
        )
        with pytest.raises(LookupError):
            await ctx.run(broken).options(
                retry_policy=Constant(delay=0), non_retryable_exceptions=(LookupError,)
            )
        volatile = await ctx.run(bar, 1).options(durable=False)
        remote = await ctx.rpc("bar", 2).options(
            id="remote-id",
            tags={"kind": "test"},
            target="default",
            timeout=timedelta(seconds=10),
            version=1,
            idempotency_key=lambda id: f"{id}!",
        )
        return [first, volatile, remote]

    async with make() as resonate:
        resonate.register(bar)
        resonate.register(flow)
        assert await resonate.run("a", flow) == ["test", 2, 3]
        assert attempts == {"custom-id": 2, "a.2": 1}
        custom, remote = [await resonate.promises.get(id) for id in ("custom-id", "remote-id")]
        assert custom.tags["kind"] == remote.tags["kind"] == "test"
        assert custom.timeout_at_ms - custom.created_at_ms == pytest.approx(10_000, abs=500)
        with pytest.raises(ResonateStoreError, match="'remote-id!'"):
            await resonate.promises.create("remote-id", timeout_in=1)


async def test_wrong_options_of_calls() -> None:
    """Mission X11, X12: an unknown key is refused with the list of those allowed; and values."""
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("run", {"target": "x"}, "allowed here: check_arguments, durable"),
        ("run", {"nonsense": 1}, "nonsense"),
        ("rpc", {"retry_policy": Never()}, "allowed here: check_arguments, encoder, id"),
        ("rpc", {"durable": False}, "durable"),
        ("detached", {"durable": False}, "durable"),
        ("sleep", {"timeout": 5}, "allowed here: id"),
        ("promise", {"target": "x"}, "allowed here: check_arguments, id"),
        ("run", {"durable": "no"}, "durable"),
        ("run", {"non_retryable_exceptions": 5}, "exception classes"),
        ("run", {"id": ""}, "empty"),
        ("run", {"timeout": "5"}, "timeout"),
        ("rpc", {"version": -1}, "version"),
        ("rpc", {"target": "has space"}, "target"),
        ("rpc", {"idempotency_key": 5}, "idempotency_key"),
    ]
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> int:
            for verb, options, message in wrong:
                given = {"run": (bar, 1), "rpc": ("bar", 1), "detached": ("bar", 1), "sleep": (1,)}
                call: Any = getattr(ctx, verb)(*given.get(verb, ()))
                with pytest.raises((TypeError, ValueError), match=message):
                    call.options(**options)
                ctx._body.refused(call)  # it is not awaited: that would warn at the end
            return len(wrong)

        assert await resonate.run("a", flow) == len(wrong)
        assert [p.id async for p in resonate.promises.search()] == ["a"]


async def test_defaults_of_options(make: Make) -> None:
    """Mission X13: durable, retried if a leaf, a year, tags of its own, the newest version."""
    async with make() as resonate:

        @resonate.register
        async def told(ctx: Context) -> dict[str, Any]:
            info = ctx.info
            return {
                "attempt": info.attempt,
                "key": info.idempotency_key,
                "tags": info.tags,
                "left": info.timeout - time.time(),
                "version": info.version,
            }

        found = await resonate.run("a", told)
        assert found.pop("left") == pytest.approx(31_536_000, abs=5)
        assert found == {"attempt": 1, "key": "a", "tags": {}, "version": 1}


async def test_promises(make: Make) -> None:
    """Mission X14, X15, X17, X18, X28: get or create, data, and people who resolve them."""

    async def awaits(ctx: Context, name: str) -> list[Any]:
        named = await ctx.promise(id=f"{name}/approve")
        derived = await ctx.promise(data={"key": "value"})
        assert await named.id() == named.id
        return [named.id, derived.id, await named, await named, await derived]

    def yields(ctx: Context, name: str) -> Generator[Any, Any, list[Any]]:
        named = yield ctx.promise(id=f"{name}/approve")
        derived = yield ctx.promise(data={"key": "value"})
        return [named.id, derived.id, (yield named), (yield named), (yield derived)]

    async with make() as resonate:
        for function in (awaits, yields):
            name = function.__name__
            resonate.register(function)
            handle = resonate.begin_run(name, name, name)
            await wait_for(resonate, f"{name}.2")
            assert (await resonate.promises.get(f"{name}.2")).param.data == '{"key":"value"}'
            await resonate.promises.resolve(f"{name}/approve", value="yes")
            await resonate.promises.resolve(f"{name}.2", value=2)
            assert await handle == [f"{name}/approve", f"{name}.2", "yes", "yes", 2]


async def wait_for(resonate: Resonate, id: str) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await resonate.promises.get(id)
            except ResonateStoreError:
                await asyncio.sleep(0.001)
            else:
                return


async def test_the_full_form_of_promise(make: Make) -> None:
    """Mission X16: id, timeout, key, data and tags; a number is a timeout here."""
    async with make() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> str:
            promise = await ctx.promise(
                id="p", timeout=0.02, idempotency_key="k", data=[1], tags={"t": "x"}
            )
            try:
                await promise
            except ResonateTimedoutError as error:
                return error.id
            return "no"

        assert await resonate.run("a", flow).result(5) == "p"
        stored = await resonate.promises.get("p")
        assert (stored.param.data, stored.tags["t"]) == ("[1]", "x")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_promise_with_another_key(kind: str, tmp_path: Path) -> None:
    """Mission X14, S52: joined with its key, refused with another, the same on every replay."""

    async def flow(ctx: Context, key: str) -> list[Any]:
        found: list[Any] = []
        for _ in range(2):
            promise = await ctx.promise(id="p", idempotency_key=key)
            try:
                found.append(await promise)
            except ResonateStoreError as error:
                found.append(error.code)
            await ctx.sleep(1)
        return found

    async def main(resonate: Resonate) -> list[Any]:
        resonate.register(flow)
        promises = resonate.promises
        await promises.create("p", timeout_in=3600, ikey="k")
        await promises.resolve("p", value="yes")
        return [await resonate.run("joins", flow, "k"), await resonate.run("not", flow, "other")]

    async def is_cut_short(resonate: Resonate) -> None:
        task = asyncio.ensure_future(main(resonate))
        await asyncio.sleep(2.5)
        task.cancel()

    lives = Lives(where(kind, tmp_path), utc("2024-05-01 12:00"))
    lives.life(is_cut_short, killed=True)
    assert lives.life(main) == [["yes", "yes"], [409, 409]]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_sleeping(kind: str, tmp_path: Path) -> None:
    """Mission X19, law 12: int, float, timedelta and `until=`; weeks; not reset by a restart."""
    start = utc("2024-05-01 12:00")

    async def flow(ctx: Context) -> list[float]:
        loop = asyncio.get_running_loop()
        at = [loop.time()]
        for call in (
            ctx.sleep(5),
            ctx.sleep(2.5),
            ctx.sleep(timedelta(seconds=1.5)),
        ):
            await call
            at.append(loop.time())
        await ctx.sleep(until=start + timedelta(hours=1))
        at.append(loop.time())
        await ctx.sleep(until=(start + timedelta(hours=2)).timestamp())
        at.append(loop.time())
        await ctx.sleep(until=start)  # it is past
        at.append(loop.time())
        await ctx.sleep(timedelta(days=40))
        at.append(loop.time())
        return [round(instant - at[0], 3) for instant in at[1:]]

    def yields(ctx: Context) -> Generator[Any, Any, float]:
        now: float = yield ctx.time.time()
        yield ctx.sleep(5.0)
        later: float = yield ctx.time.time()
        return round(later - now, 3)

    async def begins(resonate: Resonate) -> Any:
        resonate.register(flow)
        resonate.register(yields)
        assert await resonate.run("yields", yields) == 5.0
        await resonate.begin_run("long", flow).created()
        await asyncio.sleep(8)

    async def ends(resonate: Resonate) -> Any:
        resonate.register(flow)
        return await resonate.run("long", flow)

    lives = Lives(where(kind, tmp_path), start)
    lives.life(begins, killed=True)
    found = lives.life(ends)
    # The second life begins 13 s after `start`: the recorded sleeps are over by then or go on.
    assert found[:3] == [0.0, 0.0, pytest.approx(1.0, abs=0.01)]
    assert found[3:] == [
        pytest.approx(3600 - 13, abs=0.01),
        pytest.approx(7200 - 13, abs=0.01),
        pytest.approx(7200 - 13, abs=0.01),
        pytest.approx(7200 - 13 + 40 * 86_400, abs=0.01),
    ]


async def test_wrong_sleeps() -> None:
    """Mission X19; it must show 5."""
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> str:
            sleep: Any = ctx.sleep
            naive = datetime(2024, 1, 1)
            for args, options in (
                ((), {}),
                (("5",), {}),
                ((-1,), {}),
                ((float("nan"),), {}),
                ((float("inf"),), {}),
                ((True,), {}),
                ((1,), {"until": datetime.now(UTC)}),
                ((), {"until": naive}),
                ((), {"until": "tomorrow"}),
            ):
                with pytest.raises((TypeError, ValueError)):
                    sleep(*args, **options)
            return "went on"

        assert await resonate.run("a", flow) == "went on"
        assert [p.id async for p in resonate.promises.search()] == ["a"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("dialect", ["awaits", "yields"])
def test_time_and_chance_are_recorded(kind: str, dialect: str, tmp_path: Path) -> None:
    """Mission X20, X21: the same after recovery, in both dialects."""
    lives_seen: list[list[Any]] = []

    async def awaits(ctx: Context) -> list[Any]:
        found = [
            await ctx.time.time(),
            await ctx.time.strftime("%Y-%m-%d"),
            await ctx.random.random(),
            await ctx.random.betavariate(1, 2),
            await ctx.random.choice(["a", "b", "c"]),
            await ctx.random.expovariate(1.5),
            await ctx.random.getrandbits(128),
            await ctx.random.randint(1, 6),
            await ctx.random.randrange(10),
            await ctx.random.randrange(1, 10, 3),
            await ctx.random.triangular(),
            await ctx.random.uuid4(),
        ]
        lives_seen.append(found)
        await ctx.sleep(10)
        return found

    def yields(ctx: Context) -> Generator[Any, Any, list[Any]]:
        found = [
            (yield ctx.time.time()),
            (yield ctx.time.strftime("%Y-%m-%d")),
            (yield ctx.random.random()),
            (yield ctx.random.betavariate(1, 2)),
            (yield ctx.random.choice(["a", "b", "c"])),
            (yield ctx.random.expovariate(1.5)),
            (yield ctx.random.getrandbits(128)),
            (yield ctx.random.randint(1, 6)),
            (yield ctx.random.randrange(10)),
            (yield ctx.random.randrange(1, 10, 3)),
            (yield ctx.random.triangular()),
            (yield ctx.random.uuid4()),
        ]
        lives_seen.append(found)
        yield ctx.sleep(10)
        return found

    program = awaits if dialect == "awaits" else yields

    async def killed(resonate: Resonate) -> None:
        resonate.register(program)
        await resonate.begin_run("a", dialect).created()
        await asyncio.sleep(1)

    async def main(resonate: Resonate) -> Any:
        resonate.register(program)
        return await resonate.run("a", dialect)

    lives = Lives(where(kind, tmp_path), utc("2024-05-01 12:00"))
    lives.life(killed, killed=True)
    lives.life(main)
    first, second = lives_seen
    assert first == second, "the same after recovery, in value and in type"
    assert list(map(type, first)) == list(map(type, second))
    at, day, chance, beta, letter, expo, bits, die, below, step, triangle, unique = first
    assert at == pytest.approx(utc("2024-05-01 12:00").timestamp(), abs=1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
    assert 0 <= chance < 1
    assert 0 <= beta <= 1
    assert letter in "abc"
    assert expo >= 0
    assert 0 <= bits < 2**128
    assert 1 <= die <= 6
    assert 0 <= below < 10
    assert step in {1, 4, 7}
    assert 0 <= triangle <= 1
    assert isinstance(unique, uuid.UUID)
    assert unique.version == 4


async def test_dependencies(make: Make) -> None:
    """Mission X22, X23: by name, with a default, and as a read-only mapping; without await."""
    resonate = make()
    resonate.set_dependency("db", [1, 2])

    async def awaits(ctx: Context) -> list[Any]:
        mapping: Any = ctx.dependencies
        with pytest.raises(TypeError):
            mapping["db"] = 1
        with pytest.raises(KeyError, match=r"'nothing'.*set are: db"):
            mapping["nothing"]
        return [
            ctx.get_dependency("db"),
            ctx.dependencies["db"],
            ctx.get_dependency("nothing"),
            ctx.get_dependency("nothing", "instead"),
            list(ctx.dependencies),
        ]

    def yields(ctx: Context) -> Generator[Any, Any, list[Any]]:
        yield ctx.sleep(0)
        return [
            ctx.get_dependency("db"),
            ctx.dependencies["db"],
            ctx.get_dependency("nothing"),
            ctx.get_dependency("nothing", "instead"),
            list(ctx.dependencies),
        ]

    expected = [[1, 2], [1, 2], None, "instead", ["db"]]
    await both(lambda: resonate, awaits, yields, expected)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_a_function_knows_of_its_call(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Mission X24: id, info and a logger that is silent on replay."""
    caplog.set_level(logging.INFO, "resonate_aio.function")

    async def child(ctx: Context) -> dict[str, Any]:
        info = ctx.info
        return {
            "id": ctx.id,
            "attempt": info.attempt,
            "key": info.idempotency_key,
            "tags": info.tags,
            "timeout": info.timeout,
            "version": info.version,
        }

    async def flow(ctx: Context) -> Any:
        ctx.logger.info("before %s", "the step")
        found = await ctx.run(child).options(
            tags={"t": "x"}, timeout=60, idempotency_key=lambda id: f"key of {id}"
        )
        ctx.logger.info("after it")
        await ctx.sleep(10)
        ctx.logger.info("after the sleep")
        return found

    async def killed(resonate: Resonate) -> None:
        resonate.register(flow, version=3)
        await resonate.begin_run("a", flow).created()
        await asyncio.sleep(5)

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow, version=3)
        return await resonate.run("a", flow)

    start = utc("2024-05-01 12:00")
    lives = Lives(where(kind, tmp_path), start)
    lives.life(killed, killed=True)
    found = lives.life(main)
    assert found.pop("timeout") == pytest.approx(start.timestamp() + 60, abs=1)
    assert found == {
        "id": "a.1",
        "attempt": 1,
        "key": "key of a.1",
        "tags": {"t": "x"},
        "version": 1,
    }
    said = [r for r in caplog.records if r.name == "resonate_aio.function"]
    texts = [record.getMessage() for record in said]
    assert texts == ["before the step", "after it", "after the sleep"]
    assert {getattr(record, "id", None) for record in said} == {"a"}


async def test_typesafe(make: Make) -> None:
    """Mission X24: `yield from ctx.typesafe(...)` gives what `yield` gives."""

    async def awaits(ctx: Context) -> list[int]:
        return [await ctx.run(bar, 1), await (await ctx.begin_run(bar, 2))]

    def yields(ctx: Context) -> Generator[Any, Any, list[int]]:
        one = yield from ctx.typesafe(ctx.run(bar, 1))
        promise = yield from ctx.typesafe(ctx.begin_run(bar, 2))
        two = yield from ctx.typesafe(promise)
        return [one, two]

    await both(make, awaits, yields, [2, 3])


async def test_unedited_generators_run(make: Make) -> None:
    """Mission X25: "inside a Durable Function you use the `yield` keyword"."""

    def fibonacci(ctx: Any, n: int) -> Any:
        if n <= 1:
            return n
        first = yield ctx.rfi("fibonacci", n - 1)
        second = yield ctx.lfi(fibonacci, n - 2)
        return (yield first) + (yield second)

    async with make() as resonate:
        resonate.register(fibonacci)
        assert await resonate.run("fib", "fibonacci", 5) == 5


async def test_a_child_ends_no_later_than_its_parent(make: Make) -> None:
    """Mission X26, law 10."""
    async with make() as resonate:
        resonate.register(bar)

        @resonate.register
        async def flow(ctx: Context) -> list[float]:
            async def told(ctx: Context) -> float:
                return ctx.info.timeout

            promise = await ctx.promise(id="p", timeout=3600)
            remote = await ctx.begin_rpc("nobody").options(timeout=3600, id="r")
            assert (promise.id, remote.id) == ("p", "r")
            capped = await ctx.run(told).options(timeout=3600)
            shorter = await ctx.run(told).options(timeout=1)
            return [ctx.info.timeout, capped, shorter]

        handle = resonate.options(timeout=30).begin_run("a", flow)
        await wait_for(resonate, "r")
        root = await resonate.promises.get("a")
        assert (await resonate.promises.get("p")).timeout_at_ms == root.timeout_at_ms
        assert (await resonate.promises.get("r")).timeout_at_ms == root.timeout_at_ms
        await resonate.promises.resolve("p")
        await resonate.promises.resolve("r")
        own, capped, shorter = await handle
        assert own == capped == root.timeout_at_ms / 1000
        assert shorter < own - 25


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_is_not_recorded_must_not_steer(kind: str, tmp_path: Path) -> None:
    """Mission X27, law 5: a way that differs on replay is noticed, and names what to use."""
    ways: list[int] = []

    async def step(ctx: Context, way: int) -> int:
        return way

    async def flow(ctx: Context) -> int:
        ways.append(len(ways))
        way = await ctx.run(step, ways[-1])
        await ctx.sleep(10)
        return way

    async def killed(resonate: Resonate) -> None:
        resonate.register(flow)
        await resonate.begin_run("a", flow).created()
        await asyncio.sleep(1)

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        with pytest.raises(NonDeterminismError, match=r"'a\.1'.*\[0\].*\[1\].*ctx\.random"):
            await resonate.run("a", flow)
        return (await resonate.promises.get("a")).state

    lives = Lives(where(kind, tmp_path), utc("2024-05-01 12:00"))
    lives.life(killed, killed=True)
    assert lives.life(main) == "pending"
