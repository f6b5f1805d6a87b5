"""Registration and the Function object (mission table 1.3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator
from types import FunctionType
from typing import Any

import pytest

from resonate_aio import Context, Function, Registry, Resonate
from resonate_aio.client.function import CoroutineFunction, GeneratorFunction, PlainFunction
from resonate_aio.encoders import JsonEncoder
from resonate_aio.errors import FunctionNotFoundError
from resonate_aio.stores.memory import MemoryStore


async def greet(ctx: Context, name: str = "you") -> str:
    return f"hello {name}"


def double(ctx: Context, n: int) -> int:
    return 2 * n


def stepwise(ctx: Context, n: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.run(double, n)
    return result + 1


def bare(resonate: Resonate) -> Function[..., Any]:
    @resonate.register
    async def foo(ctx: Context, n: int) -> int:
        return n

    return foo


def called(resonate: Resonate) -> Function[..., Any]:
    @resonate.register()
    async def foo(ctx: Context, n: int) -> int:
        return n

    return foo


def called_with_arguments(resonate: Resonate) -> Function[..., Any]:
    @resonate.register(name="foo", version=1)
    async def other(ctx: Context, n: int) -> int:
        return n

    return other


def method(resonate: Resonate) -> Function[..., Any]:
    async def foo(ctx: Context, n: int) -> int:
        return n

    return resonate.register(foo)


def method_with_arguments(resonate: Resonate) -> Function[..., Any]:
    async def other(ctx: Context, n: int) -> int:
        return n

    return resonate.register(other, name="foo", version=1)


@pytest.mark.parametrize(
    "form", [bare, called, called_with_arguments, method, method_with_arguments]
)
async def test_every_form_of_register(form: Callable[[Resonate], Function[..., Any]]) -> None:
    """Mission R1, R2, R3, R4."""
    async with Resonate() as resonate:
        function = form(resonate)
        assert (function.name, function.version) == ("foo", 1)
        assert await resonate.run("a", function, 1) == 1
        assert await resonate.run("b", "foo", 2) == 2
        assert await function.run("c", 3) == 3


async def test_defaults_and_what_is_taken() -> None:
    """Mission R5: the function's own name, version 1; duplicates and nameless ones are refused."""
    resonate = Resonate()
    function = resonate.register(greet)
    assert (function.name, function.version) == ("greet", 1)

    async def another(ctx: Context) -> str:
        return ""

    with pytest.raises(ValueError, match="'greet' version 1 is registered"):
        resonate.register(another, name="greet")
    nameless: Any = lambda ctx: 1  # noqa: E731  that is what is refused
    with pytest.raises(ValueError, match="name="):
        resonate.register(nameless)
    assert resonate.register(nameless, name="one").name == "one"
    assert resonate.register(greet) == function, "the same function again is no other"


@pytest.mark.parametrize(
    ("name", "says"), [("", "name="), ("a\0b", "NUL"), ("\ud800", "Unicode"), (5, "string")]
)
def test_a_name_that_cannot_be_stored_is_refused_at_once(name: Any, says: str) -> None:
    """It must show 5 (mission R5): not at the first start, which may be another process's."""
    registry = Registry()
    for register in (registry.register, Resonate(registry=registry).register):
        with pytest.raises((TypeError, ValueError), match=says):
            register(greet, name=name)
    assert registry.is_empty


async def test_versions_side_by_side() -> None:
    """Mission R6: the option chooses; 0 and none mean the newest."""

    async def one(ctx: Context) -> int:
        return 1

    async def two(ctx: Context) -> int:
        return 2

    async with Resonate() as resonate:
        first = resonate.register(one, name="f", version=1)
        second = resonate.register(two, name="f", version=2)
        assert (first.version, second.version) == (1, 2)
        run = resonate.run
        assert await run("a", "f") == 2
        assert await resonate.options(version=0).run("b", "f") == 2
        assert await resonate.options(version=1).run("c", "f") == 1
        assert await resonate.options(version=2).run("d", first) == 2
        assert await first.run("e") == 1
        assert await second.run("g") == 2
        assert await resonate.options(version=1).rpc("h", "f") == 1
        with pytest.raises(FunctionNotFoundError, match="no version 3"):
            resonate.options(version=3).run("i", "f")


async def test_no_version_is_the_newest_and_is_not_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Mission R6: SDKs of the current protocol have no number for the newest version."""

    async def one(ctx: Context, value: int = 0) -> int:
        return 1

    async def two(ctx: Context, value: int = 0) -> int:
        return 2

    async with Resonate() as resonate:
        handle = resonate.rpc("a", "f", 7)
        await handle.created()
        param = (await resonate.promises.get("a")).param.data
        assert param is not None
        assert json.loads(param) == {"func": "f", "args": [7], "kwargs": {}}
        # A legacy server's records name version 0: the same call.
        data = '{"func":"f","args":[],"kwargs":{},"version":0}'
        target = {"resonate:target": "poll://any@default"}
        await resonate.promises.create("b", timeout_in=60, data=data, tags=target)
        caplog.clear()
        resonate.register(one, name="f", version=1)
        resonate.register(two, name="f", version=2)
        assert await resonate.rpc("b", "f") == 2
        assert not caplog.records


async def test_a_release_makes_no_request_that_is_repeated_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S29a: who names no version asks for what was asked for before; other calls are told."""

    async def one(ctx: Context, value: int) -> int:
        return 1

    async def two(ctx: Context, value: int) -> int:
        return 2

    store = MemoryStore()
    async with Resonate(store=store) as resonate:
        resonate.register(one, name="f", version=1)
        await resonate.run("done", "f", 7)
        packed = resonate.options(encoder=JsonEncoder())
        await packed.run("packed", "f", 7)
    async with Resonate(store=store) as resonate:
        resonate.register(one, name="f", version=1)
        second = resonate.register(two, name="f", version=2)
        caplog.clear()
        assert await resonate.run("done", "f", 7) == 1
        assert await second.run("done", 7) == 1
        assert await resonate.options(version=0).run("done", "f", 7) == 1
        assert await resonate.rpc("done", second, 7) == 1
        assert await resonate.options(encoder=JsonEncoder()).run("packed", "f", 7) == 1
        assert "joined" not in caplog.text
        for run, value in ((resonate.options(version=2).run, 7), (resonate.run, 8)):
            caplog.clear()
            assert await run("done", "f", value) == 1
            assert "'done' exists already and is joined" in caplog.text


async def test_one_function_under_two_names() -> None:
    """Mission R12: each Function object starts what it stands for."""
    async with Resonate() as resonate:
        one = resonate.register(greet, name="one")
        two = resonate.register(greet, name="two")
        assert [await one.run("a"), await two.run("b")] == ["hello you", "hello you"]
        names = [(await resonate.promises.get(id)).param.data or "" for id in "ab"]
        assert '"func":"one"' in names[0]
        assert '"func":"two"' in names[1]

        @resonate.register
        async def flow(ctx: Context) -> None:
            await ctx.rpc(one)
            await ctx.rpc(two)

        await resonate.run("c", flow)
        names = [(await resonate.promises.get(id)).param.data or "" for id in ("c.1", "c.2")]
        assert '"func":"one"' in names[0]
        assert '"func":"two"' in names[1]


async def test_a_function_is_called_as_before() -> None:
    """Mission R7: tests call the wrapper as they would call the function."""
    resonate = Resonate()
    ctx: Any = None
    assert await resonate.register(greet)(ctx, name="me") == "hello me"
    assert resonate.register(double)(ctx, 2) == 4
    generator: Any = resonate.register(stepwise)
    assert generator.__name__ == "stepwise"
    assert generator.__doc__ is stepwise.__doc__


@pytest.mark.parametrize(("func", "expected"), [(greet, "hello 7"), (double, 14), (stepwise, 15)])
async def test_run_and_rpc_on_the_function(func: Any, expected: Any) -> None:
    """Mission R8, R9, R10: of all three kinds."""
    async with Resonate() as resonate:
        function = resonate.register(func)
        assert await function.run("a", 7) == expected
        assert await function.begin_run("b", 7) == expected
        assert await function.rpc("c", 7) == expected
        assert await function.begin_rpc("d", 7) == expected
        handle = function.begin_run("e", 7)
        assert handle.id == "e"
        assert await handle.result() == expected


async def test_options_of_a_function_make_a_copy() -> None:
    """Mission R11: the original keeps its own."""
    async with Resonate() as resonate:
        plain = resonate.register(greet)
        tagged = plain.options(tags={"kind": "vip"}, timeout=5)
        assert tagged is not plain
        assert type(tagged) is type(plain)
        assert tagged == plain
        await asyncio.gather(plain.run("a"), tagged.run("b"))
        tags = [(await resonate.promises.get(id)).tags.get("kind") for id in "ab"]
        assert tags == [None, "vip"]
        with pytest.raises(TypeError, match="nonsense"):
            plain.options(nonsense=1)  # type: ignore[call-arg]


def test_what_the_wrapper_shows() -> None:
    """Mission R12: name, func, equality and hash, on both sides of `==`."""
    resonate = Resonate()
    function = resonate.register(greet)
    assert (function.name, function.func) == ("greet", greet)
    assert function == greet
    assert function == resonate.register(greet)
    assert function != double
    assert {function: 1}[function] == 1
    assert hash(function) == hash(greet)
    assert repr(function) == "<durable function 'greet' version 1>"
    again = resonate.register(function, name="again")
    assert again.func is greet


async def test_wrapper_and_function_are_both_taken() -> None:
    """Mission R12: wherever a function is expected; also in a client with the same registry."""
    registry = Registry()
    resonate, other = Resonate(registry=registry), Resonate(registry=registry)
    function = resonate.register(double)

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        return [
            await ctx.run(function, 1),
            await ctx.run(double, 2),
            await ctx.rpc(function, 3),
            await (await ctx.begin_run(function, 4)),
        ]

    async with resonate, other:
        assert await resonate.run("a", flow) == [2, 4, 6, 8]
        assert await resonate.run("b", double, 5) == 10
        assert await other.run("c", function, 6) == 12
    with pytest.raises(FunctionNotFoundError, match="double"):
        Resonate().run("d", function, 7)


def test_each_kind_has_its_type() -> None:
    """Mission R13: the class says what a direct call gives; see tests/typing for the results."""
    resonate = Resonate()
    assert type(resonate.register(greet)) is CoroutineFunction
    assert type(resonate.register(stepwise)) is GeneratorFunction
    assert type(resonate.register(double)) is PlainFunction


async def test_a_registry_of_its_own_takes_decorators() -> None:
    """Mission R1, R2, R4, C19: as a client does, but the functions stay what they are."""
    registry = Registry()

    @registry.register
    async def one(ctx: Context) -> str:
        return "one"

    @registry.register(name="second", version=2)
    def two(ctx: Context) -> str:
        return "two"

    assert registry.register(one, name="first") is one
    assert isinstance(two, FunctionType)
    for _ in range(2):  # shared by clients
        async with Resonate(registry=registry) as resonate:
            assert await resonate.run("a", one) == "one"
            assert await resonate.run("b", "second") == "two"
            assert await resonate.run("c", "first") == "one"
    with pytest.raises(ValueError, match="registered already"):
        registry.register(two, name="one")
    with pytest.raises(TypeError, match="ctx"):
        registry.register(lambda: None, name="none")
