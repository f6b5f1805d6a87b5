"""The client's methods (mission table 1.4)."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from resonate_aio import Context, Handle, Resonate
from resonate_aio.errors import (
    ContextMisuseError,
    FunctionNotFoundError,
    ResonateShutdownError,
    ResonateStoreError,
    ResonateTimedoutError,
    UsageError,
)
from resonate_aio.protocol.records import PromiseState
from resonate_aio.retry_policies import Constant, Never
from resonate_aio.stores.memory import MemoryStore

Make = Callable[..., Resonate]


async def echo(ctx: Context, arg: Any = None, *, flag: bool = False) -> Any:
    return [arg, flag]


async def test_the_four_ways_to_start(make: Make) -> None:
    """Mission K1, K2, K3, K4, K21: `run` right here, `rpc` somewhere else, each with its twin."""
    async with make() as resonate:
        resonate.register(echo)
        ways: list[Any] = [resonate.run, resonate.begin_run, resonate.rpc, resonate.begin_rpc]
        for number, start in enumerate(ways):
            begun = start(f"a{number}", echo, 1, flag=True)
            assert isinstance(begun, Handle)
            assert await begun == [1, True]
            assert await start(f"b{number}", echo, 2) == [2, False]
            named = start(f"c{number}", "echo", 3)
            assert await named.result() == [3, False]


async def test_run_stays_here_and_rpc_goes_to_its_group() -> None:
    """Mission K1, K3, K13."""
    store = MemoryStore()
    here, there = Resonate(store=store, group="here"), Resonate(store=store, group="there")

    def place(name: str) -> Any:
        async def where(ctx: Context) -> str:
            return name

        return where

    here.register(place("here"), name="where")
    there.register(place("there"), name="where")
    async with here, there:
        assert await here.run("a", "where") == "here"
        assert await here.options(target="there").rpc("b", "where") == "there"
        assert await here.options(target="poll://any@here").rpc("c", "where") == "here"


async def test_keywords_go_to_the_function() -> None:
    """Mission K5: `func=` as a keyword, the function's arguments as keywords."""
    async with Resonate() as resonate:
        resonate.register(echo)
        start: Any = resonate.rpc
        assert await start("a", func="echo", arg="Hello World!") == ["Hello World!", False]
        assert await start(id="b", func=echo, arg=1, flag=True) == [1, True]

        @resonate.register
        async def named_alike(ctx: Context, func: str, id: str) -> list[str]:
            return [func, id]

        assert await resonate.run("c", named_alike, "f", "i") == ["f", "i"]


async def test_rpc_takes_a_function_that_is_registered_elsewhere() -> None:
    """Mission K6, K22: by reference and by name, without a registration of its own."""
    store = MemoryStore()
    asking, working = Resonate(store=store, group="asking"), Resonate(store=store)
    known_there = working.register(echo)

    async def nested(ctx: Context) -> str:
        return "nested"

    nested_there = working.register(nested, version=2)
    async with asking, working:
        assert await asking.rpc("a", known_there, 1) == [1, False]
        assert await asking.rpc("b", "echo", 2) == [2, False]
        assert await asking.rpc("c", nested_there) == "nested", "by its registered name"

        @asking.register
        async def flow(ctx: Context) -> list[Any]:
            return [await ctx.rpc(known_there, 3), await ctx.rpc(nested_there)]

        assert await asking.run("d", flow) == [[3, False], "nested"]


async def test_a_function_object_that_is_not_registered_is_refused_by_rpc_too() -> None:
    """Mission K22: as `run` does; only a name may be unknown here. Nothing is stored."""
    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> str:
            with pytest.raises(FunctionNotFoundError, match="'echo' is not registered: put @reso"):
                ctx.rpc(echo, 1)
            with pytest.raises(FunctionNotFoundError, match="'echo' is not registered"):
                ctx.detached(echo, 1)
            return "went on"

        for start in (resonate.rpc, resonate.begin_rpc):
            with pytest.raises(FunctionNotFoundError, match=r"'echo' is not registered.*its name"):
                start("a", echo, 1)
            with pytest.raises(FunctionNotFoundError, match="<lambda>"):
                start("a", lambda ctx: 1)
        with pytest.raises(ResonateStoreError, match="nothing was started under it"):
            await resonate.get("a")
        assert await resonate.run("b", flow) == "went on"


async def test_names_that_nobody_registered() -> None:
    """Mission K22: `run` fails at once and stores nothing; `rpc` waits for a worker."""
    async with Resonate() as resonate:
        with pytest.raises(FunctionNotFoundError, match=r"'nobody'.*registered: none"):
            resonate.run("a", "nobody")
        with pytest.raises(FunctionNotFoundError, match="echo"):
            resonate.run("a", echo)
        assert [p.id async for p in resonate.promises.search()] == []
        waiting = resonate.rpc("b", "late")
        await waiting.created()
        assert not waiting.done()
        resonate.register(echo, name="late")
        assert await waiting == [None, False]


async def test_get(make: Make) -> None:
    """Mission K7: what runs, what has ended, what is not there."""
    async with make() as resonate:
        release = asyncio.Event()

        @resonate.register
        async def slow(ctx: Context) -> str:
            await release.wait()
            return "done"

        running = resonate.begin_run("a", slow)
        attached = resonate.get("a")
        assert isinstance(attached, Handle)
        assert await attached.created() is attached
        assert not attached.done()
        release.set()
        assert await attached == await running == "done"
        assert await resonate.get("a") == "done"
        with pytest.raises(ResonateStoreError, match="'nothing'") as raised:
            await resonate.get("nothing")
        assert raised.value.code == 404
        with pytest.raises(ResonateStoreError):
            await resonate.get("nothing").created()


async def test_options_make_a_view_of_the_same_client() -> None:
    """Mission K8: an immutable copy that shares everything."""
    async with Resonate() as resonate:
        resonate.register(echo)
        view = resonate.options(tags={"a": "1"}, timeout=60)
        assert view is not resonate
        further = view.options(timeout=timedelta(minutes=2))
        await asyncio.gather(
            resonate.run("p", echo), view.run("v", echo), further.begin_rpc("f", echo)
        )
        stored = {id: await resonate.promises.get(id) for id in "pvf"}
        assert [stored[id].tags.get("a") for id in "pvf"] == [None, "1", "1"]
        spans = [stored[id].timeout_at_ms - stored[id].created_at_ms for id in "pvf"]
        # Mission K14: seconds or a timedelta; a year without one.
        assert spans == pytest.approx([31_536_000_000, 60_000, 120_000], abs=50)
        assert await view.get("p") == [None, False]


async def test_the_option_idempotency_key() -> None:
    """Mission K10: a key, or a function of the id."""
    async with Resonate() as resonate:
        resonate.register(echo)
        assert await resonate.options(idempotency_key="k").run("a", echo, 1) == [1, False]
        made = resonate.options(idempotency_key=lambda id: f"key of {id}")
        assert await made.run("b", echo, 1) == [1, False]
        assert await made.run("b", echo, 1) == [1, False]
        with pytest.raises(ResonateStoreError, match="'key of b'") as raised:
            await resonate.options(idempotency_key="k").run("b", echo, 1)
        assert raised.value.code == 409


async def test_the_option_retry_policy() -> None:
    """Mission K11: a policy, or a function of the function."""
    attempts: Counter[str] = Counter()
    seen: list[Any] = []

    async def flaky(ctx: Context) -> int:
        attempts[ctx.id] += 1
        if attempts[ctx.id] < 3:
            raise ConnectionError
        return attempts[ctx.id]

    def choose(func: Any) -> Any:
        seen.append(func)
        return Constant(delay=0)

    async with Resonate() as resonate:
        resonate.register(flaky)
        assert await resonate.options(retry_policy=Constant(delay=0)).run("a", flaky) == 3
        assert await resonate.options(retry_policy=choose).run("b", flaky) == 3
        assert set(seen) == {flaky}
        with pytest.raises(ConnectionError):
            await resonate.options(retry_policy=Never()).run("c", flaky)
        assert attempts["c"] == 1


async def test_the_options_tags_and_timeout() -> None:
    """Mission K12, K14."""
    async with Resonate() as resonate:

        @resonate.register
        async def tags(ctx: Context) -> dict[str, str]:
            return ctx.info.tags

        @resonate.register
        async def long(ctx: Context) -> None:
            await ctx.sleep(1000)

        tagged = resonate.options(tags={"order": "42"})
        assert await tagged.run("a", tags) == {"order": "42"}
        assert (await resonate.promises.get("a")).tags["order"] == "42"
        with pytest.raises(ResonateTimedoutError, match="'b'"):
            await resonate.options(timeout=0.02).run("b", long)


async def test_the_option_version() -> None:
    """Mission K15; see test_registering for how versions stand side by side."""
    async with Resonate() as resonate:
        resonate.register(echo, version=2)
        assert await resonate.options(version=2).run("a", echo) == [None, False]
        with pytest.raises(FunctionNotFoundError, match="no version 1"):
            resonate.options(version=1).run("b", echo)


async def test_dependencies(make: Make) -> None:
    """Mission K16, C18: visible to every durable function, set outside of them only."""
    resonate = make()
    resonate.set_dependency("db", {"user": "ada"})

    @resonate.register
    async def reads(ctx: Context) -> Any:
        return ctx.get_dependency("db")["user"]

    @resonate.register
    async def writes(ctx: Context) -> str:
        with pytest.raises(ContextMisuseError, match="'writes'"):
            resonate.set_dependency("db", None)
        return "refused"

    async with resonate:
        assert await resonate.run("reads", reads) == "ada"
        assert await resonate.run("writes", writes) == "refused"
        resonate.set_dependency("db", {"user": "bob"})
        assert await resonate.run("again", reads) == "bob"
    for name in ("", 5):
        wrong: Any = name
        with pytest.raises(TypeError):
            resonate.set_dependency(wrong, 1)


async def test_start_and_stop(make: Make) -> None:
    """Mission K17, K18: automatic, idempotent, bounded, again and again."""
    resonate = make()
    resonate.register(echo)
    assert await resonate.run("a", echo, 1) == [1, False], "the first call starts the client"
    await resonate.start()
    await resonate.stop()
    await resonate.stop()
    for life in range(2):
        async with resonate:
            assert await resonate.run("a", echo, 1) == [1, False]
            assert await resonate.run(f"life{life}", echo, 2) == [2, False]

    @resonate.register
    async def stubborn(ctx: Context) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return

    waiting = resonate.begin_run("s", stubborn)
    await waiting.created()
    async with asyncio.timeout(5):
        await resonate.stop()
    with pytest.raises(ResonateShutdownError, match="'s'"):
        await waiting


async def test_promises_and_schedules_are_at_hand() -> None:
    """Mission K19, K20: low-level clients as properties, and the high-level `schedule`."""
    async with Resonate() as resonate:
        resonate.register(echo)
        assert (await resonate.promises.create("p", timeout_in=5)).state is PromiseState.PENDING
        assert (await resonate.schedules.create("s", "@daily", "x{{.timestamp}}", 1)).id == "s"
        assert (await resonate.schedule("t", echo, "@daily")).id == "t"


class Receipt(msgspec.Struct):
    order: str
    cents: int


async def test_returns_gives_the_string_form_a_type() -> None:
    """Mission K23: `returns=` for functions known by name only, and for `get`."""
    store = MemoryStore()
    asking, working = Resonate(store=store), Resonate(store=store)

    @working.register
    async def charge(ctx: Context, order: str) -> Receipt:
        return Receipt(order, 100)

    async with asking, working:
        expected = Receipt("42", 100)
        assert await working.run("a", charge, "42") == expected
        assert await asking.rpc("b", "charge", "42") == {"order": "42", "cents": 100}
        assert await asking.rpc("b", "charge", "42", returns=Receipt) == expected
        assert await asking.begin_rpc("c", "charge", "42", returns=Receipt) == expected
        assert await working.run("d", "charge", "42", returns=dict[str, Any]) == {
            "order": "42",
            "cents": 100,
        }
        assert await asking.get("a", returns=Receipt) == expected
        wrong: Any = 5
        with pytest.raises(TypeError, match="returns"):
            asking.rpc("e", "charge", "42", returns=wrong)

        @working.register
        async def takes(ctx: Context, returns: str) -> str:
            return returns

        assert await working.run("f", takes, returns="kept") == "kept"


async def test_nothing_blocks_before_the_first_await() -> None:
    """Mission K24: starting gives a handle at once, whatever the store is doing."""

    class Slow(MemoryStore):
        async def open(self) -> None:
            await asyncio.sleep(0.05)
            await super().open()

    resonate = Resonate(store=Slow())
    resonate.register(echo)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    handles = [resonate.begin_run("a", echo), resonate.begin_rpc("b", echo), resonate.get("c")]
    assert loop.time() - begun < 0.02
    assert not any(handle.done() for handle in handles)
    assert await handles[0] == await handles[1] == [None, False]
    with pytest.raises(ResonateStoreError):
        await handles[2]
    await resonate.stop()


async def test_an_id_that_was_used_gives_its_outcome(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Mission P20, law 1, S29a: nothing runs twice, whatever is asked under an id."""
    runs: Counter[str] = Counter()
    async with make() as resonate:

        @resonate.register
        async def count(ctx: Context, n: int) -> int:
            runs[ctx.id] += 1
            await asyncio.sleep(0.01)
            return n

        resonate.register(echo)
        same = await asyncio.gather(*(resonate.run("a", count, 1) for _ in range(10)))
        assert same == [1] * 10
        assert not caplog.records
        assert await resonate.run("a", count, 2) == 1
        assert await resonate.run("a", echo, 3) == 1
        assert len(caplog.records) == 2
        assert "joined" in caplog.text
        assert runs == {"a": 1}


async def test_another_call_under_a_pending_id_joins_what_was_asked_first() -> None:
    """S29a: also where the recorded one has not begun yet (its worker is not there)."""
    store = MemoryStore()
    asking, working = Resonate(store=store), Resonate(store=store, group="w")
    asking.register(echo)

    async def other(ctx: Context, n: int) -> str:
        return f"other {n}"

    async with asking:
        first = asking.options(target="w").rpc("a", "other", 1)
        await first.created()
        joined = asking.begin_run("a", echo, 2)  # this takes the task, and gives it back
        await joined.created()
        working.register(other)
        async with working:
            assert await first.result(5) == await joined.result(5) == "other 1"


async def test_a_client_call_inside_a_workflow_warns() -> None:
    """Mission P19: what belongs to the ephemeral world is not recorded in the durable one."""
    async with Resonate() as resonate:
        resonate.register(echo)

        @resonate.register
        async def flow(ctx: Context) -> Any:
            return await resonate.run("inner", echo)

        async def step(ctx: Context) -> Any:
            return await resonate.run("from a step", echo)

        @resonate.register
        async def with_step(ctx: Context) -> Any:
            return await ctx.run(step)

        with pytest.warns(RuntimeWarning, match=r"'inner'.*'flow'.*ctx\.run") as caught:
            assert await resonate.run("flow", flow) == [None, False]
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert await resonate.run("with_step", with_step) == [None, False]


def test_without_an_event_loop() -> None:
    """It must show 5: the message says what a script has to write."""
    resonate = Resonate()
    resonate.register(echo)
    with pytest.raises(UsageError, match=r"resonate\.blocking\(\)"):
        resonate.run("a", echo)
    with pytest.raises(UsageError, match=r"resonate\.blocking\(\)"):
        resonate.get("a")


async def test_an_rpc_without_target_says_once_where_it_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S65: the group `default`, which is not this client's."""
    caplog.set_level(logging.INFO, "resonate_aio.client")
    async with Resonate(group="shop") as resonate:
        for number in range(3):
            await resonate.rpc(f"r{number}", "f").created()
        tags = (await resonate.promises.get("r0")).tags
        assert tags["resonate:target"] == "poll://any@default"
    assert caplog.text.count("goes to the group 'default'") == 1
