"""What is refused, where, and with which words; nothing is stored and the worker goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import (
    ContextMisuseError,
    FunctionNotFoundError,
    ResonateStoreError,
    UsageError,
    ValueCodecError,
)
from resonate_aio.retry_policies import Never


async def leaf(ctx: Context, value: int) -> int:
    return value


async def is_stored(resonate: Resonate, id: str) -> bool:
    try:
        await resonate.promises.get(id)
    except ResonateStoreError:
        return False
    return True


@pytest.mark.parametrize("arguments", [(), (1, 2)])
async def test_wrong_arguments_of_a_client_call_store_nothing(arguments: tuple[Any, ...]) -> None:
    async with Resonate() as resonate:
        resonate.register(leaf)
        with pytest.raises(TypeError, match="leaf"):
            resonate.run("a", "leaf", *arguments)
        assert not await is_stored(resonate, "a")
        assert await resonate.run("a", "leaf", 7) == 7


async def test_wrong_arguments_of_a_ctx_call_store_nothing() -> None:
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> str:
            wrong: Any = leaf
            with pytest.raises(TypeError, match="leaf"):
                await ctx.run(wrong)
            return "went on"

        assert await resonate.run("a", flow) == "went on"
        assert not await is_stored(resonate, "a.1")


async def test_arguments_that_cannot_be_stored_name_the_call(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> str:
            wrong: Any = object()
            with pytest.raises(ValueCodecError, match=r"leaf.*a\.1"):
                await ctx.run(leaf, wrong)
            return "went on"

        assert await resonate.run("a", flow) == "went on"
    assert not recwarn.list, "the call was awaited"


async def test_a_function_without_ctx_is_refused_at_once() -> None:
    resonate = Resonate()

    def nothing() -> None: ...

    wrong: Any = nothing
    with pytest.raises(TypeError, match="ctx"):
        resonate.register(wrong)
    with pytest.raises(FunctionNotFoundError, match="nothing"):
        resonate.run("a", "nothing")


async def nothing_at_all() -> int:
    return 1


async def only_named(**settings: int) -> int:
    return 1


@pytest.mark.parametrize("without", [nothing_at_all, only_named])
async def test_a_step_without_a_ctx_parameter_is_told_so(without: Any) -> None:
    """P15: the first parameter is the ctx, also of what is not registered."""
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> str:
            with pytest.raises(TypeError, match="takes no argument: its first parameter must be"):
                await ctx.run(without)
            return "went on"

        assert await resonate.run("a", flow) == "went on"


@pytest.mark.parametrize("as_root", [True, False])
async def test_a_plain_def_that_makes_a_ctx_call_is_told_what_to_write(as_root: bool) -> None:
    """S23: not that the call is outside of its function, for it is inside."""

    def step(ctx: Context) -> Any:
        return ctx.run(leaf, 1)

    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> Any:
            return await ctx.run(step).options(retry_policy=Never())

        once = resonate.options(retry_policy=Never())
        with pytest.raises(ContextMisuseError, match=r"step'.* is a plain def.*`async def`.*gener"):
            await once.run("a", resonate.register(step) if as_root else flow)


@pytest.mark.parametrize(
    "options",
    [
        {"retry_policy": 5},
        {"target": 5},
        {"version": "1"},
        {"timeout": -1},
        {"timeout": 1e300},
        {"tags": {"resonate:target": "x"}},
        {"tags": {"a": 1}},
    ],
    ids=str,
)
def test_options_of_a_wrong_kind(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Resonate().options(**options)


async def test_settling_with_text_that_is_no_json_settles_nothing() -> None:
    async with Resonate() as resonate:
        await resonate.promises.create("p", timeout_in=60)
        with pytest.raises(ValueError, match="value='yes'"):
            await resonate.promises.resolve("p", "yes")
        await resonate.promises.resolve("p", value="yes")
        assert await resonate.get("p") == "yes"


async def test_a_call_with_the_id_of_its_own_function() -> None:
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> int:
            return await ctx.run(leaf, 1).options(id=ctx.id)

        with pytest.raises(ContextMisuseError, match="wait for itself"):
            await resonate.run("a", flow).result(10)


async def test_two_calls_with_one_explicit_id_run_once(caplog: pytest.LogCaptureFixture) -> None:
    started: list[int] = []

    async def count(ctx: Context, n: int) -> int:
        started.append(n)
        await asyncio.sleep(0)
        return n

    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> list[int]:
            calls = (ctx.run(count, n).options(id="same") for n in (1, 2))
            return list(await asyncio.gather(*calls))

        assert await resonate.run("a", flow) == [1, 1]
    assert started == [1]
    assert "joined" in caplog.text, "S29a: one warning names both"


async def test_a_task_that_outlives_its_function() -> None:
    errors: list[BaseException] = []
    late = asyncio.Event()

    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> str:
            async def helper() -> None:
                await late.wait()
                try:
                    await ctx.run(leaf, 1)
                except ContextMisuseError as error:
                    errors.append(error)

            task = asyncio.create_task(helper())
            tasks.append(task)
            return "ended"

        tasks: list[asyncio.Task[None]] = []
        assert await resonate.run("a", flow) == "ended"
        late.set()
        await asyncio.gather(*tasks)
    assert len(errors) == 1
    assert "after that function had ended" in str(errors[0])


async def test_as_completed_over_promises() -> None:
    """S3: awaiting a promise takes no id, in whatever order."""
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> list[int]:
            promises = [await ctx.begin_run(leaf, n) for n in range(3)]
            return sorted([await done for done in asyncio.as_completed(promises)])

        assert await resonate.run("a", flow) == [0, 1, 2]


async def test_a_handle_says_what_it_waited_for() -> None:
    async with Resonate() as resonate:
        await resonate.promises.create("p", timeout_in=60)
        with pytest.raises(TimeoutError, match="'p'"):
            await resonate.get("p").result(timeout=0.01)


@pytest.mark.parametrize("ask", ["run", "stop", "start"])
async def test_a_client_on_another_event_loop_says_what_to_do(make: Any, ask: str) -> None:
    """Nothing is wrong with the store: it is a UsageError, and names the ways out."""

    def flow(ctx: Context) -> None: ...

    async with make() as resonate:
        resonate.register(flow)

        async def elsewhere() -> None:
            await (resonate.run("a", flow) if ask == "run" else getattr(resonate, ask)())

        with pytest.raises(UsageError, match=r"another event loop.*resonate\.blocking\(\)"):
            await asyncio.to_thread(asyncio.run, elsewhere())


@pytest.mark.filterwarnings("error")
async def test_a_function_that_was_called_already_is_told_how_to_be_given() -> None:
    """`ctx.run(add(ctx, 1))` is what plain asyncio would have; without Python's warning beside."""

    async def add(ctx: Any, n: int) -> int:
        return n

    async def flow(ctx: Any) -> Any:
        wrong: Any = add(ctx, 1)
        return await ctx.run(wrong)

    wrong: Any = add
    async with Resonate() as resonate:
        resonate.register(flow)
        told = r"called already: write run\(add, \.\.\.\), with its arguments after it"
        with pytest.raises(TypeError, match=told):
            await resonate.run("x", flow)
        with pytest.raises(TypeError, match=told):
            resonate.begin_run("y", wrong(None, 1))
        with pytest.raises(TypeError, match=told):
            resonate.register(wrong(None, 1))
