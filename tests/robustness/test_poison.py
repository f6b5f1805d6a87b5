"""One bad promise never hurts a worker (law 14, S42): good ones beside it finish, in time."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from tests.robustness.lives import Client, Life, live

from resonate_aio import Context, Resonate
from resonate_aio.errors import (
    ApplicationError,
    FunctionNotFoundError,
    NonDeterminismError,
    ResonateShutdownError,
    ValueCodecError,
)
from resonate_aio.execution.log import LOG_HEADER
from resonate_aio.protocol.records import PromiseState, TaskState, Value
from resonate_aio.protocol.requests import PromiseCreate, PromiseGet, TaskGet
from resonate_aio.retry_policies import Never

pytestmark = pytest.mark.law

Body = Generator[Any, Any, Any]
Play = Callable[[Client], Coroutine[Any, Any, Any]]

GOOD = 200
TARGET = "poll://any@default"


async def add(ctx: Context, a: int, b: int) -> int:
    await asyncio.sleep(0.01)
    return a + b


async def good(ctx: Context, n: int) -> int:
    return await ctx.run(add, await ctx.run(add, n, 1), int(await ctx.rpc("one")))


async def one(ctx: Context) -> int:
    await ctx.sleep(1)
    return 1


def beside_good_ones(bad: Play, *, within_s: float = 10.0, patience_s: float = 1000) -> Any:
    """Run something bad among executions that all have to finish, soon."""
    life = Life()

    async def main(resonate: Client) -> Any:
        resonate.register(good)
        resonate.register(one)
        first = [resonate.begin_run(f"g{n}", good, n) for n in range(GOOD // 2)]
        trouble = asyncio.create_task(bad(resonate))
        await asyncio.sleep(0)
        second = [resonate.begin_run(f"g{n}", good, n) for n in range(GOOD // 2, GOOD)]
        begun_s = life.loop.time()
        async with asyncio.timeout(patience_s):
            results = await asyncio.gather(*first, *second)
            assert results == [n + 2 for n in range(GOOD)]
            assert life.loop.time() - begun_s < within_s
            return await trouble

    return life.run(main)


# ------------------------------------------------------------------------ functions that misbehave


@dataclass
class Point:
    x: int


class AbruptError(BaseException):
    """An error that is no `Exception`."""


class Unprintable(Exception):  # noqa: N818  what its text does is its name
    """An error that can not even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class UnprintableAbruptError(AbruptError):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


def recurse(n: int) -> int:
    return 1 + recurse(n + 1)


def misbehave(how: str) -> Any:  # noqa: C901  one line a case
    match how:
        case "SystemExit":
            raise SystemExit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "GeneratorExit":
            raise GeneratorExit
        case "BaseException":
            raise AbruptError("abrupt")
        case "CancelledError":
            raise asyncio.CancelledError
        case "StopIteration":
            raise StopIteration(1)
        case "StopAsyncIteration":
            raise StopAsyncIteration
        case "recursion":
            return recurse(0)
        case "MemoryError":
            raise MemoryError
        case "Unprintable":
            raise Unprintable
        case "Unprintable and abrupt":
            raise UnprintableAbruptError
        case "a name that is no UTF-8":
            raise OSError("name \udcff")
        case "group":
            raise BaseExceptionGroup("both", [SystemExit(1), ValueError("no")])
        case "unencodable":
            return object()
        case "circle":
            circle: list[Any] = []
            circle.append(circle)
            return circle
        case "deep":
            deep: list[Any] = []
            for _ in range(100_000):
                deep = [deep]
            return deep
        case "surrogate":
            return "\ud800"
        case "nan":
            return float("nan")
        case "coroutine":
            return (n for n in range(1))
    raise AssertionError(how)


WAYS = [
    "SystemExit",
    "KeyboardInterrupt",
    "GeneratorExit",
    "BaseException",
    "CancelledError",
    "StopIteration",
    "StopAsyncIteration",
    "recursion",
    "MemoryError",
    "Unprintable",
    "Unprintable and abrupt",
    "a name that is no UTF-8",
    "group",
    "unencodable",
    "circle",
    "deep",
    "surrogate",
    "coroutine",
]


def bodies(how: str) -> dict[str, Callable[..., Any]]:
    async def leaf(ctx: Context) -> Any:
        return misbehave(how)

    async def late(ctx: Context) -> Any:
        await ctx.run(add, 1, 2)
        return misbehave(how)

    def generator(ctx: Context) -> Body:
        yield ctx.run(add, 1, 2)
        return misbehave(how)

    def plain(ctx: Context) -> Any:
        return misbehave(how)

    async def parent(ctx: Context) -> Any:
        return await ctx.run(leaf).options(retry_policy=Never())

    async def in_a_task(ctx: Context) -> Any:
        return await asyncio.gather(ctx.run(leaf).options(retry_policy=Never()))

    return {
        "leaf": leaf,
        "late": late,
        "generator": generator,
        "plain": plain,
        "parent": parent,
        "in a task": in_a_task,
    }


@pytest.mark.parametrize("kind", bodies(""))
def test_a_function_that_misbehaves_harms_itself_only(kind: str) -> None:
    """It becomes an ordinary failure, recorded, and is the same when asked again."""

    async def bad(resonate: Client) -> dict[str, list[str]]:
        outcomes: dict[str, list[str]] = {}
        for how in WAYS:
            resonate.register(bodies(how)[kind], name=how)
            for _ in range(2):
                outcomes.setdefault(how, []).append(await outcome(resonate, how))
        return outcomes

    for how, (first, again) in beside_good_ones(bad).items():
        assert first == again, how
        assert not first.startswith("value"), (how, first)


async def outcome(resonate: Client, name: str) -> str:
    try:
        value = await resonate.options(retry_policy=Never()).run(name, name)
    except Exception as error:  # noqa: BLE001  it is what is compared
        return type(error).__name__
    return f"value {value!r}"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("way", ["gather", "TaskGroup", "create_task"])
def test_a_helper_coroutine_that_exits_harms_its_function_only(
    way: str, error: BaseException
) -> None:
    """A task lets these two through to the loop: at every restart the process would end."""

    async def helper(ctx: Context) -> None:
        await ctx.run(add, 1, 2)
        raise error

    async def parent(ctx: Context) -> None:
        if way == "gather":
            await asyncio.gather(helper(ctx), ctx.run(add, 3, 4))
        elif way == "create_task":
            await asyncio.create_task(helper(ctx))
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(helper(ctx))

    async def bad(resonate: Client) -> str:
        resonate.register(parent)
        with pytest.raises((ApplicationError, ExceptionGroup)) as raised:
            await resonate.run("parent", parent)
        return repr(raised.value)

    assert type(error).__name__ in beside_good_ones(bad)


class Signalled:
    """Functions that a signal hits while they run; its handler raises, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        self.number = number

    def functions(self) -> dict[str, Callable[..., Any]]:
        async def leaf(ctx: Context) -> None:
            signal.raise_signal(self.number)

        async def late(ctx: Context) -> None:
            await ctx.run(add, 1, 2)
            signal.raise_signal(self.number)

        def generator(ctx: Context) -> Body:
            yield ctx.run(add, 1, 2)
            signal.raise_signal(self.number)

        async def helper(ctx: Context) -> None:
            signal.raise_signal(self.number)

        async def parent(ctx: Context) -> None:
            await asyncio.gather(helper(ctx), ctx.run(add, 1, 2))

        return {"leaf": leaf, "late": late, "generator": generator, "helper": parent}


@pytest.mark.parametrize("kind", ["leaf", "late", "generator", "helper"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_process_and_is_no_outcome(name: str, kind: str) -> None:
    """Ctrl-C, and a handler of the application's that exits (law 8): unlike what a body raises."""
    number = signal.Signals[name]

    def leave(*_: object) -> None:
        raise SystemExit(0)

    life = Life()
    before = signal.getsignal(number)
    if number == signal.SIGTERM:
        signal.signal(number, leave)

    async def whole() -> None:
        hit = Signalled(number).functions()[kind]
        life.resonate.register(hit, name="hit")
        await life.resonate.run("root", "hit")

    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            life.run_bare(whole())
    finally:
        signal.signal(number, before)
    assert life.state("root") == "pending"
    life.loop.keep(life.resonate)
    life.loop.kill()


# ---------------------------------------------------------------------- promises nobody can execute


def broken_payloads() -> dict[str, Value]:
    return {
        "no invocation": Value(),
        "not JSON": Value(None, "{"),
        "a list": Value(None, "[1, 2]"),
        "a number": Value(None, "7"),
        "null": Value(None, "null"),
        "no function": Value(None, '{"args": []}'),
        "a function that is a number": Value(None, '{"func": 7, "args": []}'),
        "a version that is text": Value(None, '{"func": "one", "version": "x"}'),
        "an unknown version": Value(None, '{"func": "one", "version": 7, "args": []}'),
        "an unknown function": Value(None, '{"func": "unknown", "args": []}'),
        "a deep payload": Value(None, "[" * 100_000 + "]" * 100_000),
        "an unknown type": Value(None, '{"func": "one", "args": [{"$type": "os.system"}]}'),
        "arguments that are text": Value(None, '{"func": "one", "args": "xy"}'),
        "too many arguments": Value(None, '{"func": "one", "args": [1, 2, 3]}'),
        "unknown names": Value(None, '{"func": "one", "args": [], "kwargs": {"x": 1}}'),
        "names that are a list": Value(None, '{"func": "one", "args": [], "kwargs": [1]}'),
        "the wrong types": Value(None, '{"func": "add", "args": ["x", null]}'),
    }


def test_a_promise_nobody_can_execute_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is put aside with a growing delay, or rejected with a named reason; logged once."""
    caplog.set_level(logging.WARNING, "resonate_aio")
    payloads = broken_payloads()

    async def bad(resonate: Client) -> dict[str, tuple[PromiseState, Any]]:
        resonate.register(add)
        store = resonate._core.store
        later = resonate._core.clock.now_ms() + 10_000_000
        for name, value in payloads.items():
            create = PromiseCreate(name, later, value, {"resonate:target": TARGET})
            reply = await store.call(create)
            assert reply.status == 200, reply
        await asyncio.sleep(500)
        found = {}
        for name in payloads:
            promise = (await store.call(PromiseGet(name))).promise
            assert promise is not None
            found[name] = promise.state, (await store.call(TaskGet(name))).task
        return found

    for name, (state, task) in beside_good_ones(bad).items():
        if state is PromiseState.PENDING:
            assert task.state is TaskState.PENDING, f"the task of {name} was given back"
            assert task.version < 20, f"{name} is redelivered in a hot loop"
        said = [r.getMessage() for r in caplog.records if repr(name) in r.getMessage()]
        said = [text for text in said if "next attempt" not in text]
        assert len(said) <= 1, f"logged once per reason: {said}"
        assert said or state is PromiseState.REJECTED or "unknown" in name


def test_an_unknown_function_is_taken_up_once_it_is_registered() -> None:
    life = Life()

    async def late(ctx: Context) -> str:
        return await ctx.run(echo, "found")

    async def echo(ctx: Context, value: str) -> str:
        return value

    async def main(resonate: Client) -> tuple[str, float]:
        handle = resonate.rpc("r", "late")
        await asyncio.sleep(200)
        assert not handle.done()
        registered_s = life.loop.time()
        resonate.register(late)
        return await handle, life.loop.time() - registered_s

    result, after_s = life.run(main)
    assert result == "found"
    assert after_s < 1, "registering clears the delay (S53)"


def test_a_hundred_unknown_functions_among_the_good_ones() -> None:
    async def bad(resonate: Client) -> int:
        handles = [resonate.rpc(f"bad.{n}", f"unknown_{n}") for n in range(100)]
        for handle in handles:
            await handle.created()
        await asyncio.sleep(50)
        return sum(handle.done() for handle in handles)

    assert beside_good_ones(bad) == 0


def test_each_reason_is_said_once_however_many_meet_it_how_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And an unknown name does not list every name that is known (law 14)."""
    caplog.set_level(logging.WARNING, "resonate_aio")

    async def bad(resonate: Client) -> None:
        for n in range(200):
            resonate.register(good, name=f"known {n}")
        for n in range(100):
            await resonate.rpc(f"bad.{n}", "gone").created()
        await resonate.rpc("misspelt", "knowm 7").created()
        await asyncio.sleep(900)

    beside_good_ones(bad)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, said
    assert "'gone'" in said[0]
    assert "did you mean 'known 7'" in said[1]
    assert max(map(len, said)) < 300


def test_what_was_put_aside_is_tried_less_and_less_often() -> None:
    """1 s, doubling to 5 min (S42): the attempts of a day, counted."""
    day_s = 24 * 3600.0

    async def bad(resonate: Client) -> tuple[int, int]:
        found = 0
        find = resonate._core.registry.find

        def counting(name: str, version: int = 0) -> Any:
            nonlocal found
            found += name == "gone"
            return find(name, version)

        resonate._core._worker._taking._resolve = counting  # type: ignore[union-attr]
        await resonate.rpc("bad", "gone").created()
        await asyncio.sleep(day_s)
        task = (await resonate._core.store.call(TaskGet("bad"))).task
        assert task is not None
        return found, task.version

    found, version = beside_good_ones(bad, patience_s=day_s + 100)
    assert 8 < found < 10 + day_s / 300
    assert version < 2, "its task is not even acquired"


@pytest.mark.parametrize("wrong", ["7", '{"x": "text"}', '[{"x": 1}]'])
def test_arguments_that_do_not_fit_wait_for_a_worker_whose_function_takes_them(
    wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An undecodable payload is no outcome (S42): newer code elsewhere may well read it."""
    caplog.set_level(logging.ERROR, "resonate_aio")

    async def take(ctx: Context, point: Point) -> int:
        return point.x

    async def bad(resonate: Client) -> Any:
        resonate.register(take)
        data = f'{{"func": "take", "args": [{wrong}]}}'
        later = resonate._core.clock.now_ms() + 10_000_000
        store = resonate._core.store
        await store.call(
            PromiseCreate("bad", later, Value(None, data), {"resonate:target": TARGET})
        )
        await asyncio.sleep(500)
        promise = (await store.call(PromiseGet("bad"))).promise
        assert promise is not None
        return promise.state

    assert beside_good_ones(bad) is PromiseState.PENDING
    (said,) = [record.getMessage() for record in caplog.records]
    assert "'bad'" in said
    assert "Point" in said


def test_the_caller_of_an_unknown_function_waits_and_may_give_up() -> None:
    async def caller(ctx: Context) -> str:
        try:
            async with asyncio.timeout(20):
                await ctx.rpc("unknown")
        except TimeoutError:
            return "gave up"
        return "answered"

    async def bad(resonate: Client) -> Any:
        resonate.register(caller)
        return await resonate.run("caller", caller)

    assert beside_good_ones(bad) == "gave up"


def test_run_by_an_unknown_name_is_refused_at_once() -> None:
    async def main(resonate: Client) -> None:
        with pytest.raises(FunctionNotFoundError, match="unknown"):
            resonate.begin_run("x", "unknown")
        resonate.register(good)
        with pytest.raises(ValueCodecError):
            resonate.begin_run("x", good, object())

    live(main)


# ------------------------------------------------------------------------- programs that changed


def test_a_program_that_changed_harms_itself_only() -> None:
    """Its waiters are told, its promise stays, the worker goes on (laws 5 and 14, S42)."""
    first = Life()
    gate = "gate"

    def flow_that_runs(step: Callable[..., Any]) -> Callable[..., Any]:
        async def flow(ctx: Context) -> Any:
            value = await ctx.run(step, 1, 2)
            await (await ctx.promise(id=gate))
            return value

        return flow

    async def other(ctx: Context, a: int, b: int) -> int:
        return a * b

    async def until_parked(resonate: Client) -> None:
        flow = flow_that_runs(add)
        resonate.register(flow)
        resonate.begin_run("changed", flow)
        await asyncio.sleep(1)
        assert gate in first.ids()

    first.run_killed(until_parked)
    second = Life(first)

    async def main(resonate: Client) -> None:
        flow = flow_that_runs(other)
        resonate.register(flow)
        resonate.register(good)
        resonate.register(one)
        changed = resonate.begin_run("changed", flow)
        handles = [resonate.begin_run(f"g{n}", good, n) for n in range(GOOD)]
        with pytest.raises(NonDeterminismError, match="add"):
            await changed
        async with asyncio.timeout(10):
            assert await asyncio.gather(*handles) == [n + 2 for n in range(GOOD)]
        await asyncio.sleep(1000)
        assert second.state("changed") == "pending"

    second.run(main)
    third = Life(second)

    async def with_the_old_code(resonate: Client) -> Any:
        flow = flow_that_runs(add)
        resonate.register(flow)
        handle = resonate.begin_run("changed", flow)
        await resonate.promises.resolve(gate, data="1")
        return await handle

    assert third.run(with_the_old_code) == 3


def test_a_program_that_changed_is_stopped_again_and_again_but_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = Life()

    def flow_of(step: Callable[..., Any]) -> Callable[..., Any]:
        async def flow(ctx: Context) -> None:
            await ctx.run(step, 1, 2)
            await ctx.sleep(1e6)

        return flow

    async def other(ctx: Context, a: int, b: int) -> int:
        return a

    async def parked(resonate: Client) -> None:
        resonate.register(flow_of(add))
        resonate.begin_run("changed", "flow")
        await asyncio.sleep(1)

    first.run_killed(parked)
    caplog.set_level(logging.WARNING, "resonate_aio")
    second = Life(first)

    async def main(resonate: Client) -> None:
        resonate.register(flow_of(other))
        await asyncio.sleep(10_000)

    second.run(main)
    named = [r.getMessage() for r in caplog.records if "is stopped" in r.getMessage()]
    assert len(named) == 1, named
    task = second.store.machine.tasks["changed"]
    assert 8 < task.version < 50


@pytest.mark.parametrize("answer", ["raises", "text", float("nan")], ids=str)
def test_a_retry_policy_that_misbehaves_is_no_retry(answer: Any) -> None:
    """It is asked in the scheduler: whoever waits for the step must not wait for ever."""

    class Policy:
        def next(self, attempt: int) -> Any:
            if answer == "raises":
                raise RuntimeError("no policy")
            return answer

    async def leaf(ctx: Context) -> None:
        raise ValueError("the step's own")

    async def parent(ctx: Context) -> None:
        await ctx.run(leaf).options(retry_policy=Policy())

    async def bad(resonate: Client) -> None:
        resonate.register(parent)
        with pytest.raises(ValueError, match="the step's own"):
            await resonate.run("parent", parent)

    beside_good_ones(bad)


@pytest.mark.parametrize("text", ["[[[", "5", '[1e400, "x", {}]', '["a", "b", "c"]'])
def test_a_log_that_cannot_be_read_stops_its_execution_only(text: str) -> None:
    """And it does not hold up the end of the client, though its body never began."""
    first = Life()

    async def flow(ctx: Context) -> None:
        await ctx.run(add, 1, 2)
        await ctx.sleep(1e6)

    async def parked(resonate: Client) -> None:
        resonate.register(flow)
        resonate.begin_run("altered", flow)
        await asyncio.sleep(1)

    first.run_killed(parked)
    promises = first.store.machine.promises
    step = promises["altered.1"]
    headers = {**(step.param.headers or {}), LOG_HEADER: text}
    promises["altered.1"] = msgspec.structs.replace(step, param=Value(headers, step.param.data))
    second = Life(first)

    async def main(resonate: Client) -> float:
        resonate.register(flow)
        resonate.register(good)
        resonate.register(one)
        altered = resonate.begin_run("altered", flow)
        handles = [resonate.begin_run(f"g{n}", good, n) for n in range(GOOD)]
        with pytest.raises(NonDeterminismError, match=r"log of 'altered\.1' cannot be read"):
            await altered
        assert await asyncio.gather(*handles) == [n + 2 for n in range(GOOD)]
        return second.loop.time()

    stopping_s = second.run(main)
    assert second.loop.time() - stopping_s < 1
    assert second.state("altered") == "pending"


# --------------------------------------------------------------------------------- a bad neighbour


def test_handles_of_bad_and_good_are_independent_when_the_client_stops() -> None:
    async def bad(ctx: Context) -> None:
        raise SystemExit

    async def hang(ctx: Context) -> None:
        await ctx.sleep(1e6)

    async def main(resonate: Client) -> None:
        resonate.register(bad)
        resonate.register(hang)
        hanging = [resonate.begin_run(f"h{n}", hang) for n in range(50)]
        ended = [resonate.begin_run(f"b{n}", bad) for n in range(50)]
        results = await asyncio.gather(*ended, return_exceptions=True)
        assert {type(result) for result in results} == {ApplicationError}
        await resonate.stop()
        results = await asyncio.gather(*hanging, return_exceptions=True)
        assert {type(result) for result in results} == {ResonateShutdownError}

    live(main)


async def test_real_threads_that_misbehave(caplog: pytest.LogCaptureFixture) -> None:
    """The pool's threads survive what runs on them."""

    def bad(ctx: Context, n: int) -> int:
        if n % 2:
            raise SystemExit(n)
        return n

    async def flow(ctx: Context) -> list[Any]:
        calls = [ctx.run(bad, n).options(retry_policy=Never()) for n in range(60)]
        return [
            result if isinstance(result, int) else type(result).__name__
            for result in await asyncio.gather(*calls, return_exceptions=True)
        ]

    async with Resonate() as resonate:
        resonate.register(flow)
        async with asyncio.timeout(20):
            result = await resonate.run("flow", flow)
    assert result == [n if n % 2 == 0 else "ApplicationError" for n in range(60)]
