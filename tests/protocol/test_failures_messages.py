"""What an error says: what happened, to which id, and what to do about it (DESIGN §3, S51)."""

import asyncio
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import resonate_aio.errors
from resonate_aio import Context, Resonate
from resonate_aio.errors import (
    ApplicationError,
    ContextMisuseError,
    FunctionNotFoundError,
    InternalError,
    OutcomeError,
    ResonateCanceledError,
    ResonateError,
    ResonateShutdownError,
    ResonateStoreError,
    ResonateTimedoutError,
    UsageError,
    ValueCodecError,
)

Fails = Callable[[Resonate], Coroutine[Any, Any, Any]]


async def leaf(ctx: Context, value: Any = None) -> Any:
    return object() if value == "object" else value


async def sleeps(ctx: Context) -> None:
    await ctx.sleep(1000)


async def exits(ctx: Context) -> None:
    raise SystemExit(3)


async def passes_a_lock(ctx: Context) -> None:
    await ctx.run(leaf, {"jobs": [asyncio.Lock()]})


async def unknown(resonate: Resonate) -> None:
    resonate.register(leaf)
    await resonate.run("id", "laef")


async def unknown_version(resonate: Resonate) -> None:
    resonate.register(leaf)
    await resonate.options(version=7).run("id", "leaf")


async def bad_argument(resonate: Resonate) -> None:
    resonate.register(leaf)
    await resonate.run("id", leaf, {"a": [1, {1, object()}]})


async def bad_step_argument(resonate: Resonate) -> None:
    resonate.register(passes_a_lock)
    await resonate.run("id", passes_a_lock)


async def bad_result(resonate: Resonate) -> None:
    resonate.register(leaf)
    await resonate.run("id", leaf, "object")


async def exit_in_a_function(resonate: Resonate) -> None:
    resonate.register(exits)
    await resonate.run("id", exits)


async def wrong_number(resonate: Resonate) -> None:
    resonate.register(leaf)
    wrong: Any = leaf
    await resonate.run("id", wrong, 1, 2, 3)


async def cancelled(resonate: Resonate) -> None:
    resonate.register(sleeps)
    handle = await resonate.begin_run("id", sleeps).created()
    await resonate.promises.cancel("id")
    await handle


async def timed_out(resonate: Resonate) -> None:
    resonate.register(sleeps)
    await resonate.options(timeout=0.05).run("id", sleeps)


async def missing(resonate: Resonate) -> None:
    await resonate.get("id")


async def missing_to_settle(resonate: Resonate) -> None:
    await resonate.promises.resolve("id")


async def stopped_meanwhile(resonate: Resonate) -> None:
    resonate.register(sleeps)
    handle = await resonate.begin_run("id", sleeps).created()
    await resonate.stop()
    await handle


async def late_ctx(resonate: Resonate) -> None:
    contexts: list[Context] = []

    async def ends(ctx: Context) -> None:
        contexts.append(ctx)

    resonate.register(ends)
    await resonate.run("id", ends)
    await contexts[0].run(leaf)


async def no_json(resonate: Resonate) -> None:
    resonate.register(sleeps)
    await resonate.promises.create("id", timeout_in=100)
    await resonate.promises.resolve("id", data="{")


CASES: dict[Fails, tuple[type[Exception], list[str]]] = {
    unknown: (FunctionNotFoundError, ["'laef'", "did you mean 'leaf'"]),
    unknown_version: (FunctionNotFoundError, ["'leaf'", "version 7", "only 1", "register"]),
    bad_argument: (ValueCodecError, ["'leaf'", "'id'", "object has no JSON form", "['a'][1]"]),
    bad_step_argument: (
        ValueCodecError,
        ["'leaf'", "'id.1'", "a Lock has no JSON form", "['jobs'][0]", "use plain data"],
    ),
    bad_result: (ValueCodecError, ["result of 'leaf'", "'id'", "cannot be recorded", "dataclass"]),
    exit_in_a_function: (ApplicationError, ["SystemExit", "'exits'", "'id'"]),
    wrong_number: (TypeError, ["leaf(ctx, ...)", "too many positional arguments"]),
    cancelled: (ResonateCanceledError, ["'id'", "canceled"]),
    timed_out: (ResonateTimedoutError, ["'id'", "timed out at 20", "+00:00", "timeout="]),
    missing: (ResonateStoreError, ["'id'", "nothing was started under it"]),
    missing_to_settle: (ResonateStoreError, ["'id'", "create it first"]),
    stopped_meanwhile: (ResonateShutdownError, ["'id'", "the work itself goes on"]),
    late_ctx: (ContextMisuseError, ["'id'", "had ended", "await everything"]),
    no_json: (ValueError, ["'{'", "value="]),
}


@pytest.mark.parametrize("fails", CASES, ids=lambda fails: fails.__name__)
async def test_a_message_names_what_happened_the_id_and_what_to_do(fails: Fails) -> None:
    kind, words = CASES[fails]
    async with Resonate() as resonate:
        with pytest.raises(kind) as raised:
            await fails(resonate)
    text = str(raised.value)
    assert type(raised.value) is kind
    assert [word for word in words if word not in text] == [], text
    assert len(text) < 400
    assert text.isprintable()
    assert text[-1] not in ".!"


def test_the_hierarchy_is_the_one_its_docstring_draws() -> None:
    """In the order of the drawing, with its indentation as the base class."""
    drawn = resonate_aio.errors.__doc__
    assert drawn is not None
    above: list[tuple[int, type]] = []
    seen = set()
    for line in drawn.splitlines():
        word = next((part for part in line.split() if part.endswith("Error")), None)
        if word is None or not hasattr(resonate_aio.errors, word):
            continue
        kind, column = getattr(resonate_aio.errors, word), line.index(word)
        above = [(at, other) for at, other in above if at < column]
        assert kind.__base__ is (above[-1][1] if above else Exception), word
        above.append((column, kind))
        seen.add(kind)
    defined = {
        kind
        for kind in vars(resonate_aio.errors).values()
        if isinstance(kind, type) and issubclass(kind, ResonateError)
    }
    assert seen == defined


@pytest.mark.parametrize(
    "error",
    [
        ResonateError("text", 409, {"a": 1}),
        ApplicationError("Oops", "text", {"code": 7}),
        ResonateCanceledError("id"),
        ResonateTimedoutError("id", 5),
        ResonateTimedoutError("id", 2**52),
        FunctionNotFoundError("text", "name", 3),
        ResonateStoreError("text", 404),
        InternalError("text"),
    ],
    ids=repr,
)
def test_errors_are_pickled_with_all_they_hold(error: ResonateError) -> None:
    """Process pools and test runners do that."""
    made = pickle.loads(pickle.dumps(error))
    assert type(made) is type(error)
    assert str(made) == str(error)
    assert vars(made) == vars(error)


def test_what_the_user_did_is_told_apart_from_what_the_call_ended_as() -> None:
    used: list[type[Exception]] = [ValueCodecError, ContextMisuseError, FunctionNotFoundError]
    ended: list[type[Exception]] = [ApplicationError, ResonateCanceledError, ResonateTimedoutError]
    assert all(issubclass(kind, UsageError) for kind in used)
    assert all(issubclass(kind, OutcomeError) for kind in ended)
