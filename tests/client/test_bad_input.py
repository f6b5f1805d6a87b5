"""Bad input is refused at the call, by name, and stores nothing (issue 4, it must show 5)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.naming import named

from resonate_aio import Context, Resonate
from resonate_aio.errors import ContextMisuseError, ResonateError, ValueCodecError
from resonate_aio.stores.memory import MemoryStore

NAMED = (TypeError, ValueError, ResonateError)
BAD_IDS: list[Any] = ["", "a\0b", "\0", "\ud800", "a\udfffb", 5, None, b"bytes", ["list"], object()]
BAD_TIMES: list[Any] = [-1, -0.5, float("nan"), float("inf"), 1e300, "5", True, [], object()]
BAD_TAGS: list[Any] = [
    {"a": 1},
    {1: "a"},
    {"": "a"},
    {"a": "\ud800"},
    {"a\0": "b"},
    {"a": "b\0"},
    ["a"],
    "a=b",
    {"resonate:target": "x"},
    {"resonate:scope": "local"},
    {"resonate-aio:ikey": "x"},
]


class Self:
    """Nested in itself."""


loop_data: list[Any] = []
loop_data.append(loop_data)
BAD_VALUES: list[Any] = [
    object(),
    lambda: None,
    Self(),
    float("nan"),
    [float("inf")],
    {"a": float("-inf")},
    "\ud800",
    {"\ud800": 1},
    loop_data,
    {(1, 2): 3},
    asyncio,
    threading.Lock(),
]


async def echo(ctx: Context, value: Any = None) -> Any:
    return value


@contextlib.asynccontextmanager
async def untouched() -> Any:
    """A client whose store is empty at the end: nothing of what was refused is there."""
    store = MemoryStore()
    resonate = Resonate(store=store)
    resonate.register(echo)
    async with resonate:
        yield resonate
        await asyncio.sleep(0)
        assert not store.machine.promises
        assert not store.machine.schedules
        assert not store.machine.tasks


async def refused(call: Callable[[], Any]) -> Exception:
    """The error of a call, which has to be one of those that name what is wrong."""
    try:
        made = call()
        if hasattr(made, "__await__"):
            async with asyncio.timeout(5):
                await made
    except NAMED as error:
        if str(error):
            return error
    raise AssertionError("it was not refused, or without a word")


@pytest.mark.parametrize("id", BAD_IDS, ids=named)
async def test_ids(id: Any) -> None:
    async with untouched() as resonate:
        promises, schedules = resonate.promises, resonate.schedules
        for call in (
            lambda: resonate.run(id, echo),
            lambda: resonate.begin_run(id, "echo"),
            lambda: resonate.rpc(id, echo),
            lambda: resonate.begin_rpc(id, "echo"),
            lambda: resonate.get(id),
            lambda: promises.create(id, timeout_in=1),
            lambda: promises.create_with_task(id, 10**13, "p", 1, tags={"resonate:target": "x"}),
            lambda: promises.get(id),
            lambda: promises.resolve(id),
            lambda: promises.reject(id),
            lambda: promises.cancel(id),
            lambda: promises.callback(id, "b"),
            lambda: promises.subscribe("s", id, "poll://a@b"),
            lambda: schedules.create(id, "@daily", "x", 1),
            lambda: schedules.create("s", "@daily", id, 1),
            lambda: schedules.get(id),
            lambda: schedules.delete(id),
            lambda: resonate.schedule(id, echo, "@daily"),
        ):
            await refused(call)


@pytest.mark.parametrize("time", BAD_TIMES, ids=named)
async def test_times(time: Any) -> None:
    async with untouched() as resonate:
        await refused(lambda: resonate.options(timeout=time))
        await refused(lambda: resonate.promises.create("p", timeout_in=time))
        await refused(lambda: resonate.promises.create("p", timeout=time))
        await refused(lambda: resonate.schedules.create("s", "@daily", "x", time))
        await refused(lambda: resonate.prune(time))
        await refused(lambda: Resonate(retention=time))
        await refused(lambda: Resonate(ttl=time))


@pytest.mark.parametrize("timeout", [2**63, 2**64, 10**400])
async def test_huge_instants(timeout: int) -> None:
    async with untouched() as resonate:
        await refused(lambda: resonate.promises.create("p", timeout=timeout))
        await refused(lambda: resonate.schedules.create("s", "@daily", "x", timeout))


@pytest.mark.parametrize("tags", BAD_TAGS, ids=named)
async def test_tags(tags: Any) -> None:
    async with untouched() as resonate:
        await refused(lambda: resonate.options(tags=tags))
        if "resonate:target" not in tags:  # a promise made by hand may be for somebody
            await refused(lambda: resonate.promises.create("p", timeout_in=1, tags=tags))
            await refused(lambda: resonate.schedules.create("s", "@daily", "x", 1, tags=tags))
            await refused(
                lambda: resonate.schedules.create("s", "@daily", "x", 1, promise_tags=tags)
            )
        if not isinstance(tags, dict) or not any("resonate" in str(key) for key in tags):
            await refused(lambda: resonate.promises.create("p", timeout_in=1, headers=tags))


@pytest.mark.parametrize(
    "tags",
    [
        {"resonate:target": ""},
        {"resonate:target": "has space"},
        {"resonate:timer": "yes"},
        {"resonate:delay": "soon"},
        {"resonate:origin": "x"},
        {"resonate:branch": "x"},
        {"resonate:parent": "x"},
        {"resonate:schedule": "x"},
    ],
    ids=named,
)
async def test_reserved_tags_of_promises_made_by_hand(tags: dict[str, str]) -> None:
    async with untouched() as resonate:
        await refused(lambda: resonate.promises.create("p", timeout_in=1, tags=tags))
        await refused(lambda: resonate.schedules.create("s", "@daily", "x", 1, promise_tags=tags))


@pytest.mark.parametrize("value", BAD_VALUES, ids=lambda value: type(value).__name__)
async def test_values(value: Any) -> None:
    async with untouched() as resonate:
        for call in (
            lambda: resonate.run("a", echo, value),
            lambda: resonate.run("a", echo, value=[value]),
            lambda: resonate.rpc("a", "echo", {"deep": [value]}),
            lambda: resonate.promises.create("p", timeout_in=1, value=value),
            lambda: resonate.schedule("s", echo, "@daily", value),
        ):
            error = await refused(call)
            assert isinstance(error, ValueCodecError | TypeError)


async def test_values_nested_too_deep() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    async with untouched() as resonate:
        await refused(lambda: resonate.run("a", echo, deep))
        await refused(lambda: resonate.promises.create("p", timeout_in=1, value=deep))
        await refused(lambda: resonate.promises.create("p", timeout_in=1, data="[" * 10**6))


@pytest.mark.parametrize("data", ["yes", "{", "[1,]", "\ud800", "'a'", 5, b"1", ["1"]], ids=named)
async def test_data_that_is_no_json_text(data: Any) -> None:
    async with untouched() as resonate:
        await refused(lambda: resonate.promises.create("p", timeout_in=1, data=data))
        await refused(lambda: resonate.schedules.create("s", "@daily", "x", 1, promise_data=data))


@pytest.mark.parametrize(
    "options",
    [
        {"idempotency_key": 5},
        {"idempotency_key": ""},
        {"idempotency_key": "a\0"},
        {"encoder": 5},
        {"retry_policy": "often"},
        {"retry_policy": 5},
        {"target": ""},
        {"target": 5},
        {"target": "two words"},
        {"target": "a\0"},
        {"target": "\ud800"},
        {"version": "1"},
        {"version": -1},
        {"version": 1.5},
        {"version": True},
        {"version": 2**70},
        {"check_arguments": "no"},
        {"nonsense": 1},
        {"durable": False},
        {"id": "x"},
    ],
    ids=named,
)
async def test_options(options: dict[str, Any]) -> None:
    """Unknown keys, and values of the wrong kind; of the client and of a Function."""
    async with untouched() as resonate:
        await refused(lambda: resonate.options(**options))
        await refused(lambda: resonate.register(echo).options(**options))


async def test_keys_that_are_made_wrong() -> None:
    """An idempotency key is only known once there is an id."""
    wrong: Any = lambda id: 5  # noqa: E731  what it gives is what is refused
    async with untouched() as resonate:
        await refused(lambda: resonate.options(idempotency_key=wrong).run("a", echo))
        await refused(lambda: resonate.promises.create("p", timeout_in=1, ikey=wrong))
        await refused(lambda: resonate.promises.create("p", timeout_in=1, ikey=""))
        await refused(lambda: resonate.options(idempotency_key=wrong).schedule("s", echo, "@daily"))


async def test_calls_without_what_they_need() -> None:
    async with untouched() as resonate:
        anything: Any = resonate
        for call in (
            anything.run,
            lambda: anything.run("a"),
            lambda: anything.run("a", None),
            lambda: anything.run("a", 5),
            lambda: anything.run("a", ""),
            lambda: anything.rpc("a", 5),
            lambda: anything.rpc("a", ""),
            lambda: anything.rpc("a", "a\0b"),
            lambda: anything.run("a", echo, 1, 2),
            lambda: anything.run("a", echo, nonsense=1),
            lambda: anything.promises.create("p"),
            lambda: anything.promises.create("p", 10**13, timeout_in=1),
            lambda: anything.register(5),
            lambda: anything.register(echo, name=""),
            lambda: anything.register(echo, name=5),
            lambda: anything.register(echo, version=0),
            lambda: anything.register(echo, version="1"),
            lambda: anything.register(Self),
            lambda: anything.promises.resolve("p", value=1, data="1"),
            lambda: anything.promises.subscribe("s", "p", "nowhere"),
            lambda: anything.promises.create_with_task("p", 10**13, "", 1),
        ):
            await refused(call)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), st.text()),
    st.one_of(st.none(), st.integers(), st.floats(), st.text()),
    st.one_of(st.none(), st.dictionaries(st.text(max_size=3), st.one_of(st.text(), st.none()))),
)
def test_anything_is_refused_by_name_or_works(id: Any, timeout: Any, tags: Any) -> None:
    """Whatever is thrown at it: a named error with nothing stored, or the execution runs."""

    async def main() -> None:
        store = MemoryStore()
        resonate = Resonate(store=store)
        resonate.register(echo)
        async with resonate:
            try:
                handle = resonate.options(timeout=timeout, tags=tags).begin_run(id, echo, 1)
            except (TypeError, ValueError):
                assert not store.machine.promises
            else:
                with contextlib.suppress(ResonateError):  # no time at all: it times out
                    assert await handle == 1
                assert list(store.machine.promises) == [id]

    asyncio.run(main())


# -- a ctx used wrongly (S23)


async def test_a_ctx_in_the_wrong_place() -> None:
    """From a thread, after the return, of another function: before an id is taken."""
    kept: list[Context] = []
    errors: list[Any] = []

    async def child(ctx: Context) -> int:
        kept.append(ctx)
        return 1

    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> int:
            def from_a_thread() -> None:
                for call in calls_of(ctx):
                    with pytest.raises(ContextMisuseError) as raised:
                        call()
                    errors.append(raised.value)

            await asyncio.to_thread(from_a_thread)

            async def uses_the_parents(inner: Context) -> None:
                for call in calls_of(ctx):
                    with pytest.raises(ContextMisuseError, match="inside"):
                        call()

            await ctx.run(child)
            await ctx.run(uses_the_parents)
            for call in calls_of(kept[0]):
                with pytest.raises(ContextMisuseError, match="ended"):
                    call()
            return 2

        assert await resonate.run("a", flow) == 2
        assert len(errors) == len(calls_of(kept[0]))
        for call in calls_of(kept[0]):  # with no function around it at all
            with pytest.raises(ContextMisuseError):
                call()
        records = await resonate._core.store.load("a")
        assert [record.id for record in records] == ["a.1", "a.2"], "no id was taken"


def calls_of(ctx: Context) -> list[Callable[[], Any]]:
    return [
        lambda: ctx.run(echo, 1),
        lambda: ctx.begin_run(echo, 1),
        lambda: ctx.rpc("echo", 1),
        lambda: ctx.begin_rpc("echo", 1),
        lambda: ctx.detached("echo", 1),
        ctx.promise,
        lambda: ctx.sleep(1),
        lambda: ctx.timeout(1),
        ctx.time.time,
        ctx.random.random,
    ]


async def test_what_is_free_anywhere() -> None:
    """S23: `id`, `info`, `logger` and dependencies take no id, so threads may use them."""
    async with Resonate() as resonate:
        resonate.set_dependency("db", "the database")

        @resonate.register
        async def flow(ctx: Context) -> list[Any]:
            def from_a_thread() -> list[Any]:
                ctx.logger.debug("hello")
                return [ctx.id, ctx.info.attempt, ctx.get_dependency("db")]

            return await asyncio.to_thread(from_a_thread)

        assert await resonate.run("a", flow) == ["a", 1, "the database"]


async def test_wrong_ctx_calls_store_nothing() -> None:
    """Names, ids, values and times; the function goes on, and its ids are its own."""
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> int:
            anything: Any = ctx
            for call in (
                anything.run,
                lambda: anything.run(5),
                lambda: anything.run("nobody"),
                lambda: anything.rpc(5),
                lambda: anything.rpc(""),
                lambda: anything.rpc("a\0b"),
                lambda: anything.sleep("5"),
                lambda: anything.timeout(-1),
                lambda: anything.promise(id=""),
                lambda: anything.promise(timeout=-1),
                lambda: anything.promise(tags={"resonate:x": "y"}),
                lambda: anything.get_dependency(5),
            ):
                with pytest.raises(NAMED):
                    call()
            for wrong in BAD_VALUES:
                with pytest.raises(NAMED):
                    await ctx.run(echo, wrong)
                with pytest.raises(NAMED):
                    await ctx.rpc("echo", wrong)
                with pytest.raises(NAMED):
                    await ctx.promise(data=wrong)
            return 1

        assert await resonate.run("a", flow) == 1
        assert [p.id async for p in resonate.promises.search()] == ["a"]
        assert await resonate._core.store.load("a") == []
