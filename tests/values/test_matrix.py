"""Every kind of value, everywhere a value goes, before and after a restart (law 3, S24, S29).

One program takes them all: as argument (annotated and not) and result of a step, attribute of
an error, argument and result of an execution. It notes what it sees, waits at a gate, and is
started again; then it notes the same, for a first run and a replay are not to differ.
"""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.robustness.lives import Life
from tests.values.kinds import KINDS, Kind, alike

from resonate_aio import Context, Resonate
from resonate_aio.errors import ValueCodecError
from resonate_aio.retry_policies import Never

Main = Callable[[Resonate, "Notes"], Coroutine[Any, Any, Any]]

STORED = {name: kind for name, kind in KINDS.items() if kind.refusal is None}
REFUSED = {name: kind for name, kind in KINDS.items() if kind.refusal is not None}
GATE = "gate"
EVERYTHING = 5 * len(KINDS)


class CarrierError(Exception):
    """An error with a value on it."""

    def __init__(self, value: Any) -> None:
        super().__init__("carries")
        self.value = value


class Notes:
    """What was seen in one life: by the name of the kind and where it was."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], Any] = {}

    def note(self, name: str, where: str, value: Any) -> None:
        self.seen[name, where] = value

    async def are(self, count: int) -> None:
        """Wait until so many things were seen."""
        async with asyncio.timeout(30):
            while len(self.seen) < count:  # noqa: ASYNC110  the other life is a process in effect
                await asyncio.sleep(0.01)


class Functions:
    """The functions for one kind, annotated with it."""

    def __init__(self, name: str, kind: Kind, notes: Notes) -> None:
        async def give(ctx: Context) -> Any:
            return kind.make()

        async def take(ctx: Context, value: Any) -> None:
            notes.note(name, "argument", value)
            await (await ctx.promise(id=GATE))

        async def take_bare(ctx, value):  # type: ignore[no-untyped-def]
            notes.note(name, "argument without annotation", value)
            await (await ctx.promise(id=GATE))

        async def fail(ctx: Context) -> None:
            raise CarrierError(kind.make())

        async def root(ctx: Context, value: Any) -> Any:
            notes.note(name, "argument of an execution", value)
            await (await ctx.promise(id=GATE))
            return kind.make()

        for function, parameter in ((give, "return"), (take, "value"), (root, "value")):
            function.__annotations__[parameter] = kind.annotation
        root.__annotations__["return"] = kind.annotation
        self.give, self.take, self.take_bare, self.fail, self.root = (
            give,
            take,
            take_bare,
            fail,
            root,
        )


def functions(notes: Notes) -> dict[str, Functions]:
    return {name: Functions(name, kind, notes) for name, kind in KINDS.items()}


def program(notes: Notes, of: dict[str, Functions]) -> Any:
    async def flow(ctx: Context) -> str:
        waiting = []
        for name, kind in KINDS.items():
            notes.note(name, "result", await seen(ctx, of[name].give))
            notes.note(name, "attribute", await seen(ctx, of[name].fail))
            for take in (of[name].take, of[name].take_bare):
                try:
                    call = ctx.begin_run(take, kind.make()).options(retry_policy=Never())
                    waiting.append(await call)
                except ValueCodecError as error:
                    notes.note(name, f"refused by {take.__name__}", str(error))
        for promise in waiting:
            await promise
        return "done"

    return flow


async def seen(ctx: Context, step: Any) -> Any:
    """What the program sees of a step: its value, or what is on its error."""
    try:
        return await ctx.run(step).options(retry_policy=Never())
    except CarrierError as error:
        return error.value
    except ValueCodecError as error:
        return f"refused: {error}"


async def begin(resonate: Resonate, notes: Notes) -> None:
    """The first run: until everybody waits at the gate."""
    of = functions(notes)
    await resonate.begin_run("flow", register(resonate, notes, of)).created()
    for name, kind in KINDS.items():
        try:
            await resonate.begin_run(name, of[name].root, kind.make()).created()
        except ValueCodecError as error:
            notes.note(name, "refused as argument of an execution", str(error))
    await notes.are(EVERYTHING)


async def go_on(resonate: Resonate, notes: Notes) -> dict[str, Any]:
    """The replay, through the gate to the end; returns the results of the executions."""
    of = functions(notes)
    register(resonate, notes, of)
    # Joined, as a service that starts again would do it (law 1).
    handles = {n: resonate.begin_run(n, of[n].root, kind.make()) for n, kind in STORED.items()}
    flow = resonate.get("flow")
    await notes.are(EVERYTHING - len(REFUSED))
    await resonate.promises.resolve(GATE)
    results: dict[str, Any] = {}
    async with asyncio.timeout(30):
        assert await flow == "done"
        for name, handle in handles.items():
            results[name] = await handle
    return results


def register(resonate: Resonate, notes: Notes, of: dict[str, Functions]) -> Any:
    for name in KINDS:
        resonate.register(of[name].root, name=name)
    flow = program(notes, of)
    resonate.register(flow)
    return flow


def in_memory(_: Path, first: Main, second: Main, notes: tuple[Notes, Notes]) -> Any:
    life = Life()
    life.run_killed(lambda resonate: first(resonate, notes[0]))
    return Life(life).run(lambda resonate: second(resonate, notes[1]))


def on_sqlite(path: Path, first: Main, second: Main, notes: tuple[Notes, Notes]) -> Any:
    async def life(main: Main, number: int) -> Any:
        async with Resonate.local(path=path / "app.db", synchronous="NORMAL") as resonate:
            return await main(resonate, notes[number])

    asyncio.run(life(first, 0))
    return asyncio.run(life(second, 1))


@pytest.mark.parametrize("lives", [in_memory, on_sqlite], ids=["memory", "sqlite"])
def test_every_kind_of_value_everywhere(lives: Any, tmp_path: Path) -> None:
    assert len(KINDS) >= 40
    notes = Notes(), Notes()
    results = lives(tmp_path, begin, go_on, notes)
    first, replay = (life.seen for life in notes)
    for name, kind in STORED.items():
        for where in ("result", "argument of an execution"):
            assert alike(first[name, where], kind.expected), (name, where, first[name, where])
        # A live argument of a type that the annotation does not rule out stays of that type.
        argument = first[name, "argument"]
        assert alike(argument, kind.expected) or alike(argument, kind.make()), (name, argument)
        assert type(first[name, "argument without annotation"]) is type(kind.make()), name
        assert alike(results[name], kind.expected), (name, results[name])
    for name, kind in REFUSED.items():
        assert "cannot be recorded" in first[name, "result"], (name, first[name, "result"])
        if kind.refused_late:
            assert alike(first[name, "argument"], kind.make()), name
    for key, value in replay.items():
        assert alike(first[key], value), (key, first[key], value)
    refused = {key for key in first if key not in replay}
    assert refused == {(name, "refused as argument of an execution") for name in REFUSED}
