"""What a program of the corpus is, and the world it runs in.

A program is one coroutine function, `main(resonate, world)`: it registers what it needs,
before its first await, and returns a JSON-able result. It may be called again in a later life
on the same store, with a fresh client and `world.next_life()`; ids are the same each time,
so a later call joins what the earlier one began.

Rules that make a program fit for crash-everywhere:

* The result is `expected`, whatever the seed and wherever the crash: what depends on luck is
  turned into a statement that must hold ("the winner is the quickest").
* A step that counts begins with `world.step(ctx.id)` or `await world.work(ctx)`. Effects are
  kept by promise id, so that they can be compared with what was recorded: once a promise is
  settled, its count must never grow again (law 2).
* A step's duration depends on the seed and its key alone; what has to outlast a limit
  sleeps `FOREVER_S`.
* Nothing but recorded values steers a body (semantics part B).
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from resonate_aio import Context, Resonate

FOREVER_S = 1e6
"""Longer than every time limit that a program sets."""

PROGRAM_LIMIT_S = FOREVER_S / 2
"""A program that takes longer waits for something that it has given up."""

FAR_FUTURE_MS = 4_102_444_800_000
"""An absolute deadline that no virtual clock reaches: the year 2100."""

Main = Callable[[Resonate, "World"], Awaitable[Any]]


class World:
    """What a program shares with the test that runs it.

    Attributes:
        seed: What the durations of steps depend on.
        rng: A generator seeded with it, for code outside durable functions.
        effects: How often each step started, by promise id, over all lives.
    """

    def __init__(self, seed: int = 0, *, effects: Counter[str] | None = None) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.effects: Counter[str] = Counter() if effects is None else effects
        self._attempts: Counter[str] = Counter()

    def next_life(self) -> World:
        """The world after a crash: effects remain, what was only in memory is gone."""
        return World(self.seed, effects=self.effects)

    def step(self, name: str) -> None:
        """Count the start of a step; the name is its promise's id."""
        self.effects[name] += 1

    def attempt(self, key: str) -> int:
        """Count an attempt in this life and say which it is, from 1."""
        self._attempts[key] += 1
        return self._attempts[key]

    def duration(self, key: str) -> float:
        """How many virtual seconds `delay` takes for this key: under one second."""
        return Random(f"{self.seed}/{key}").uniform(0.001, 1.0)

    async def delay(self, key: str) -> None:
        """Take the key's virtual time; nothing of it is durable."""
        await asyncio.sleep(self.duration(key))

    async def work(self, ctx: Context) -> None:
        """What a step begins with: count it, then let it take its time."""
        self.step(ctx.id)
        await self.delay(ctx.id)

    # Steps that many programs use

    async def add(self, ctx: Context, a: int, b: int) -> int:
        """A step that gives the sum of its arguments."""
        await self.work(ctx)
        return a + b

    async def echo(self, ctx: Context, value: Any) -> Any:
        """A step that gives back its argument."""
        await self.work(ctx)
        return value

    async def fail(self, ctx: Context, text: str) -> None:
        """A step that always fails; a ValueError, retried as the call's options say."""
        await self.work(ctx)
        raise ValueError(text)

    async def hang(self, ctx: Context) -> str:
        """A step that outlasts every limit."""
        self.step(ctx.id)
        await asyncio.sleep(FOREVER_S)
        return "never"


@dataclass(frozen=True)
class Program:
    """One program of the corpus.

    Attributes:
        name: Its name; also the id of its first execution.
        main: The whole program, see the module's docstring.
        expected: What `main` returns on every run.
        dialect: How its bodies are written: "async", "generator" or "mixed".
        threads: Whether it has plain `def` functions, which run on real threads.
        values_vary: Whether recorded values may differ from run to run (not within one).
    """

    name: str
    main: Main
    expected: Any
    dialect: str
    threads: bool
    values_vary: bool

    def __str__(self) -> str:
        """The name: what a test id shows."""
        return self.name


PROGRAMS: dict[str, Program] = {}


def program(
    *,
    expected: Any,
    dialect: str = "async",
    threads: bool = False,
    values_vary: bool = False,
) -> Callable[[Main], Main]:
    """Add the decorated `main` to the corpus, under its own name."""

    def add(main: Main) -> Main:
        name = getattr(main, "__name__", "")
        if name in PROGRAMS:
            raise ValueError(f"two programs are called {name!r}")

        @functools.wraps(main)
        async def limited(resonate: Resonate, world: World) -> Any:
            async with asyncio.timeout(PROGRAM_LIMIT_S):
                return await main(resonate, world)

        PROGRAMS[name] = Program(name, limited, expected, dialect, threads, values_vary)
        return limited

    return add
