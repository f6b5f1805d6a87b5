"""`ctx.random` and `ctx.time` at their edges (mission X20, X21): wrong arguments, live elements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from tests.client.lives import Lives, utc, where

from resonate_aio import Context, Resonate
from resonate_aio.errors import NonDeterminismError
from resonate_aio.retry_policies import Constant

Make = Callable[..., Resonate]


class Color(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int


class Rude:
    """A sequence of a user's that has a length, and nothing to give."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        raise LookupError("nothing here")


WRONG: dict[str, tuple[Callable[[Any], Any], type[Exception]]] = {
    "choice of nothing": (lambda ctx: ctx.random.choice([]), IndexError),
    "choice that fails": (lambda ctx: ctx.random.choice(Rude()), LookupError),
    "randint": (lambda ctx: ctx.random.randint(6, 1), ValueError),
    "randint of nothing": (lambda ctx: ctx.random.randint(None, 1), TypeError),
    "randrange": (lambda ctx: ctx.random.randrange(0), ValueError),
    "getrandbits": (lambda ctx: ctx.random.getrandbits(""), TypeError),
    "strftime": (lambda ctx: ctx.time.strftime("%Y\0"), ValueError),
    "with a policy": (
        lambda ctx: ctx.random.randint(6, 1).options(retry_policy=Constant(delay=5, max_retries=9)),
        ValueError,
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("dialect", ["awaits", "yields"])
async def test_a_wrong_argument_is_an_error_at_once(make: Make, wrong: str, dialect: str) -> None:
    """No retry could change it: the body gets it, and it is that call's recorded rejection."""
    call, expected = WRONG[wrong]

    async def awaits(ctx: Context) -> str:
        with pytest.raises(expected) as caught:
            await call(ctx)
        return type(caught.value).__name__

    def yields(ctx: Context) -> Generator[Any, Any, str]:
        try:
            yield call(ctx)
        except expected as error:
            return type(error).__name__
        return "no error"

    async with make() as resonate:
        program = resonate.register(awaits if dialect == "awaits" else yields)
        begun = asyncio.get_running_loop().time()
        assert await resonate.run("a", program) == expected.__name__
        assert asyncio.get_running_loop().time() - begun < 1, "it was tried again"
        assert (await resonate.promises.get("a.1")).state == "rejected"


@pytest.mark.parametrize("wrong", [5, None, {1, 2}, iter([1])])
async def test_what_is_no_sequence_is_refused_at_the_call(make: Make, wrong: Any) -> None:
    async def flow(ctx: Context) -> str:
        with pytest.raises(TypeError):
            ctx.random.choice(wrong)
        return "went on"

    async with make() as resonate:
        assert await resonate.run("a", resonate.register(flow)) == "went on"
        assert [p.id async for p in resonate.promises.search()] == ["a"]


SEQUENCES: list[Any] = [
    list(Color),
    [date(2020, 1, 1), date(2021, 1, 1)],
    [Point(1), Point(2)],
    [(1, 2), (3, 4)],
    [b"x", b"y"],
    range(5, 50, 5),
    "text",
    (object(), object()),
    [None, 1],
    range(10**15),
]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("dialect", ["awaits", "yields"])
def test_choice_gives_the_very_element(kind: str, dialect: str, tmp_path: Path) -> None:
    """Law 3: whatever its type; after recovery the same one of the sequence."""
    lives_seen: list[list[Any]] = []

    async def awaits(ctx: Context) -> int:
        found = [await ctx.random.choice(sequence) for sequence in SEQUENCES]
        lives_seen.append(found)
        await ctx.sleep(10)
        return len(found)

    def yields(ctx: Context) -> Generator[Any, Any, int]:
        found = []
        for sequence in SEQUENCES:
            found.append((yield ctx.random.choice(sequence)))  # noqa: PERF401  it yields
        lives_seen.append(found)
        yield ctx.sleep(10)
        return len(found)

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
    assert lives.life(main) == len(SEQUENCES)
    first, second = lives_seen
    assert first == second
    for sequence, element, again in zip(SEQUENCES, first, second, strict=True):
        assert element in sequence
        if not isinstance(sequence, range | str | bytes):
            assert any(element is one for one in sequence)
            assert again is element


@pytest.mark.parametrize("dialect", ["awaits", "yields"])
@pytest.mark.parametrize("checked", [True, False])
def test_choice_on_a_replay_from_another_sequence(dialect: str, checked: bool) -> None:
    """Law 5: another length stops it; unchecked, only an index that lies outside does (S43)."""
    sequence: list[str] = []
    seen: list[str] = []

    def call(ctx: Context) -> Any:
        choice = ctx.random.choice(sequence)
        return choice if checked else choice.options(check_arguments=False)

    async def awaits(ctx: Context) -> str:
        found: str = await call(ctx)
        seen.append(found)
        await ctx.sleep(10)
        return found

    def yields(ctx: Context) -> Generator[Any, Any, str]:
        found: str = yield call(ctx)
        seen.append(found)
        yield ctx.sleep(10)
        return found

    program = awaits if dialect == "awaits" else yields

    async def killed(resonate: Resonate) -> None:
        resonate.register(program)
        await resonate.begin_run("a", dialect).created()
        await asyncio.sleep(1)

    async def stopped(resonate: Resonate) -> None:
        resonate.register(program)
        with pytest.raises(NonDeterminismError, match=r"call 'a\.1'"):
            await resonate.run("a", dialect)
        assert (await resonate.promises.get("a")).state == "pending"

    async def finished(resonate: Resonate) -> Any:
        resonate.register(program)
        return await resonate.run("a", dialect)

    lives = Lives(None, utc("2024-05-01 12:00"))
    sequence[:] = ["x"] * 3
    lives.life(killed, killed=True)
    sequence[:] = []
    lives.life(stopped)
    sequence[:] = ["y"] * (3 if checked else 5)
    assert lives.life(finished) == "y", "the live sequence counts"
    assert seen == ["x", "y"]
