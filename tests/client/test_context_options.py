"""Options before ctx calls, `ctx.options(...).run(f)`, and those that reach nothing (1.12 f)."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import pytest

from resonate_aio import Context, Handle, Resonate, Yieldable
from resonate_aio.encoders import Base64Encoder, CombinedEncoder, JsonEncoder
from resonate_aio.errors import ContextMisuseError
from resonate_aio.retry_policies import Constant, Never
from resonate_aio.testing import crash_everywhere

Make = Callable[..., Resonate]

LOCAL = ("run", "lfc", "begin_run", "lfi")
REMOTE = ("rpc", "rfc", "begin_rpc", "rfi", "detached")
VERBS = (*LOCAL, *REMOTE)


async def tags(ctx: Context, n: int) -> list[Any]:
    return [n, ctx.info.tags.get("kind")]


async def ended(resonate: Resonate, handle: Handle[Any], promise: str) -> Any:
    """What an execution gives, whose promise is resolved as soon as it is there."""
    while not handle.done():
        await asyncio.sleep(0.001)
        if promise in [found.id async for found in resonate.promises.search(state="pending")]:
            await resonate.promises.resolve(promise)
    return await handle


async def test_every_call_takes_options_before(make: Make) -> None:
    """Mission X10: 1.12 f, each method by each of its names; ids are taken at the calls."""

    async def awaits(ctx: Context) -> list[Any]:
        mine = ctx.options(tags={"kind": "mine"}, timeout=60)
        found: list[Any] = []
        for verb in VERBS:
            given = await getattr(mine, verb)(tags, 1)
            found.append(given if isinstance(given, list) else await given)
        promise = await mine.promise(data={"key": "value"})
        await ctx.options(id=f"{ctx.id}/nap").sleep(0)
        return [*found, promise.id, await ctx.run(tags, 2)]

    def yields(ctx: Context) -> Generator[Yieldable, Any, list[Any]]:
        mine = ctx.options(tags={"kind": "mine"}, timeout=60)
        found: list[Any] = []
        for verb in VERBS:
            given = yield getattr(mine, verb)(tags, 1)
            found.append(given if isinstance(given, list) else (yield given))
        promise = yield mine.promise(data={"key": "value"})
        yield ctx.options(id=f"{ctx.id}/nap").sleep(0)
        return [*found, promise.id, (yield ctx.run(tags, 2))]

    async with make() as resonate:
        resonate.register(tags)
        for function in (awaits, yields):
            name = resonate.register(function).name
            handle = resonate.begin_run(name, function)
            *found, id, plain = await ended(resonate, handle, f"{name}.10")
            # What an rpc calls is an execution of its own, to which no option was given.
            assert found == [[1, "mine"]] * len(LOCAL) + [[1, None]] * len(REMOTE)
            assert (id, plain) == (f"{name}.10", [2, None])
            for n in range(1, 11):
                stored = await resonate.promises.get(f"{name}.{n}")
                assert stored.tags["kind"] == "mine"
                assert stored.timeout_at_ms - stored.created_at_ms <= 60_000
            assert (await resonate.promises.get(f"{name}/nap")).state == "resolved"
            assert "kind" not in (await resonate.promises.get(f"{name}.12")).tags


async def test_later_options_win(make: Make) -> None:
    """Mission X10: those after the call over those before, the later before over the earlier."""

    async def flow(ctx: Context) -> list[Any]:
        first = ctx.options(id="first", tags={"kind": "first"})
        second = first.options(id="second", tags=None)
        await first.run(tags, 1)
        await second.run(tags, 2)
        await second.run(tags, 3).options(id="third", tags={"kind": "third"})
        await (await first.promise(id="fourth")).created()
        await ctx.options(retry_policy=Never()).run(tags, 5)
        return []

    async with make() as resonate:
        resonate.register(flow)
        await ended(resonate, resonate.begin_run("a", flow), "fourth")
        ids = ("first", "second", "third", "fourth")
        kinds = {id: (await resonate.promises.get(id)).tags.get("kind") for id in ids}
        assert kinds == {"first": "first", "second": "first", "third": "third", "fourth": "first"}


async def test_options_before_work_as_those_after(make: Make) -> None:
    """Mission X10, X11, X12: retries, encoders, versions, targets, and recorded chance."""
    attempts: Counter[str] = Counter()
    encoder = CombinedEncoder(JsonEncoder(), Base64Encoder())

    async def flaky(ctx: Context) -> int:
        attempts[ctx.id] += 1
        if attempts[ctx.id] < 3:
            raise ConnectionError
        return attempts[ctx.id]

    async def broken(ctx: Context) -> None:
        attempts[ctx.id] += 1
        raise LookupError

    async def flow(ctx: Context) -> list[Any]:
        quick = ctx.options(retry_policy=Constant(delay=0))
        with pytest.raises(LookupError):
            await quick.options(non_retryable_exceptions=LookupError).run(broken)
        return [
            await quick.run(flaky),
            await ctx.options(encoder=encoder, id="encoded").run(tags, 1),
            await ctx.options(version=2, target="default", idempotency_key="k").rpc("tags", 2),
            0 <= await ctx.options(id="chance").random.random() < 1,
            (quick.id, str(quick), quick.info.attempt),
        ]

    async with make() as resonate:
        resonate.register(tags, version=2)
        resonate.register(flow)
        expected = [3, [1, None], [2, None], True, ["a", "<Context of 'a'>", 1]]
        assert await resonate.run("a", flow) == expected
        assert attempts == {"a.1": 1, "a.2": 3}
        assert '"' not in str((await resonate.promises.get("encoded")).value.data)
        assert (await resonate.promises.get("chance")).state == "resolved"


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("run", {"target": "x"}, "ctx.run does not take the option target .* allowed here: check_"),
    ("lfi", {"version": 1}, "ctx.run does not take the option version"),
    ("rpc", {"retry_policy": Never(), "durable": True}, "the option durable, retry_policy that"),
    ("rfi", {"durable": False}, "ctx.rpc does not take the option durable"),
    ("detached", {"retry_policy": Never()}, "ctx.detached does not take the option retry_policy"),
    ("sleep", {"timeout": 5}, "ctx.sleep does not take the option timeout .* allowed here: id$"),
    ("promise", {"target": "x"}, "ctx.promise does not take the option target"),
    ("timeout", {"id": "x"}, "ctx.timeout does not take the option id .* allowed here: none$"),
    ("options", {"nonsense": 1}, "unknown option nonsense"),
    ("options", {"timeout": "5"}, "timeout"),
    ("options", {"id": ""}, "empty"),
]


async def test_what_a_call_does_not_take_is_refused_and_takes_no_id() -> None:
    """Mission X11, X12: before the call as after it, naming what is allowed."""
    arguments = {"sleep": (1,), "timeout": (1,), "promise": ()}
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> list[Any]:
            for verb, options, message in WRONG:
                with pytest.raises((TypeError, ValueError), match=message):
                    getattr(ctx.options(**options), verb)(*arguments.get(verb, (tags, 1)))
            return await ctx.run(tags, 7)

        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as that a call was never awaited
            assert await resonate.run("a", flow) == [7, None]
        assert [p.id async for p in resonate.promises.search()] == ["a", "a.1"]


async def test_a_dropped_call_names_the_users_line() -> None:
    """Law 9: the warning leads to the line that made the call, not into the library."""
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> None:
            ctx.options(timeout=5).run(tags, 1)

        with pytest.warns(RuntimeWarning, match=r"'a\.1' .* was never awaited") as told:
            await resonate.run("a", flow)
        assert told[0].filename == __file__
        assert told[0].lineno == flow.func.__code__.co_firstlineno + 2


async def test_options_do_not_lead_out_of_the_function() -> None:
    """P19: a ctx with options is no less the ctx of its function."""
    kept: list[Context] = []
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> None:
            kept.append(ctx.options(timeout=5))

        await resonate.run("a", flow)
        with pytest.raises(ContextMisuseError):
            kept[0].run(tags, 1)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_options_before_survive_a_crash_at_every_point(store: Any) -> None:
    """Law 3, law 6: a replay takes the same way."""

    async def flow(ctx: Context) -> list[Any]:
        mine = ctx.options(tags={"kind": "mine"})
        promise = await mine.begin_run(tags, 1)
        far = await mine.options(timeout=60).rpc("tags", 2)
        await ctx.options(id="nap").sleep(1)
        return [await promise, far, await mine.random.randint(3, 3)]

    async def main(resonate: Resonate) -> Any:
        resonate.register(tags)
        resonate.register(flow)
        return await resonate.run("a", flow)

    crash_everywhere(main, store=store, seed=1)


async def test_a_handle_says_where_options_go() -> None:
    """S29a: a client's call has begun when its handle is there."""
    async with Resonate() as resonate:
        resonate.register(tags)
        handle: Any = resonate.run("a", tags, 1)
        with pytest.raises(AttributeError, match=r"'a' was begun .* resonate\.options\(\.\.\.\)"):
            handle.options(timeout=5)
        with pytest.raises(AttributeError, match="'Handle' object has no attribute 'nonsense'"):
            _ = handle.nonsense
        assert not hasattr(handle, "options")
        assert await handle == [1, None]


async def test_a_policy_that_reaches_nothing_is_told_once(caplog: Any) -> None:
    """Mission K11: a retry policy does not travel with an rpc or a schedule."""
    async with Resonate() as resonate:
        resonate.register(tags)
        quick = resonate.options(retry_policy=Never(), non_retryable_exceptions=KeyError)
        with caplog.at_level(logging.WARNING, logger="resonate_aio"):
            assert await quick.run("a", tags, 1) == [1, None]
            assert await resonate.rpc("b", tags, 1) == [1, None]
            assert not caplog.records
            assert await quick.rpc("c", tags, 1) == [1, None]
            assert await quick.begin_rpc("d", tags, 1) == [1, None]
            await quick.schedule("s", tags, "@yearly", 1)
        (told,) = caplog.messages
        assert told.startswith("'c': the option retry_policy, non_retryable_exceptions does not")
    async with Resonate() as resonate:
        resonate.register(tags)
        with caplog.at_level(logging.WARNING, logger="resonate_aio"):
            await resonate.options(retry_policy=Never()).schedule("s", tags, "@yearly", 1)
        (_, told) = caplog.messages
        assert told.startswith("'s': the option retry_policy does not travel with schedule")
