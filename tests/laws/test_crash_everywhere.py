"""Laws 2 to 6: whatever instant a crash falls on, a program ends as if it had not been.

The whole corpus goes through a crash before and after every store operation, on memory and
on SQLite, through crashes between operations, and through several crashes in one run.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest
from tests.programs import PROGRAMS

from resonate_aio import Context, Resonate
from resonate_aio.testing import CrashError, crash_everywhere

from .corpus import survive

ROOT = Path(__file__).parents[2]

EVERY = list(PROGRAMS)

# What the corpus must hold at least, and a program that is just that.
SHAPES = {
    "sequences": "sequence",
    "loops": "loop",
    "nested calls": "nested",
    "begin_run fan-out": "fan_out",
    "gather of helpers whose first call comes late": "gather_of_helpers",
    "TaskGroup with a failing child": "task_group_that_fails",
    "asyncio.timeout around a slow step": "timeout_expires",
    "wait FIRST_COMPLETED with the losers cancelled": "first_completed",
    "retries": "flaky_step",
    "raise-and-catch": "raise_and_catch",
    "sleep": "sleep",
    "promise settled from outside": "promise_settled_outside",
    "rpc chain": "rpc_chain",
    "detached": "detached",
    "random and time": "random_and_time",
    "recursion": "recursion",
    "deadlines": "deadline",
}


def test_corpus_is_what_the_laws_are_stated_over() -> None:
    assert len(PROGRAMS) >= 25
    assert {program.dialect for program in PROGRAMS.values()} == {"async", "generator", "mixed"}
    assert any(program.threads for program in PROGRAMS.values())
    assert set(SHAPES.values()) <= set(PROGRAMS)


@pytest.mark.law
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", EVERY)
def test_memory(name: str, seed: int) -> None:
    report = survive(name, seed=seed)

    assert report.runs == report.crashes == 2 * report.operations > 0


@pytest.mark.law
@pytest.mark.parametrize("name", EVERY)
def test_memory_several_crashes_and_between_operations(name: str) -> None:
    report = survive(name, seed=3, random_runs=12, between=12, lives=6)

    assert report.crashes > report.runs, "some runs crash more than once"


@pytest.mark.parametrize("name", EVERY)
def test_sqlite(name: str) -> None:
    report = survive(name, store="sqlite", seed=1, random_runs=2, between=2)

    assert report.runs >= 2 * report.operations > 0


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", range(12))
def test_an_id_that_several_call(seed: int, store: Literal["memory", "sqlite"]) -> None:
    """Laws 1, 2, 6: whoever calls it, in whatever way, gets its one outcome."""
    report = survive("shared_in_many_ways", store=store, seed=seed)

    assert report.runs >= 2 * report.operations > 0


# Hash order differs by process: nothing recorded may depend on it (S43).

_HASHED = ["gather_of_helpers", "task_group_that_fails", "first_completed", "mixed_rpc", "loop"]
_PRINT_RECORDS = """
import json, sys
from tests.laws.corpus import survive
records = [sorted(survive(name).records.items()) for name in sys.argv[1:]]
print(json.dumps(records))
"""


@pytest.mark.law
def test_records_do_not_depend_on_the_hash_seed() -> None:
    printed = set()
    for hash_seed in ("0", "1", "4242"):
        run = subprocess.run(
            [sys.executable, "-c", _PRINT_RECORDS, *_HASHED],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}:{ROOT}/src"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        printed.add(run.stdout)

    assert len(printed) == 1


# The harness as its user meets it.


async def forgetful(ctx: Context) -> list[int]:
    """Steered by what is not recorded: how often it was called."""
    forgetful_calls.append(1)
    return [await ctx.run(number) for _ in range(len(forgetful_calls))]


async def number(ctx: Context) -> int:
    effects[ctx.id] += 1
    return 1


effects: Counter[str] = Counter()
forgetful_calls: list[int] = []


@pytest.mark.law
def test_a_program_that_does_not_survive_is_named_with_its_crash_and_the_way_to_repeat_it() -> None:
    async def counting(resonate: Resonate) -> list[int]:
        resonate.register(forgetful)
        return await resonate.run("forgetful", forgetful)

    forgetful_calls.clear()
    with pytest.raises(CrashError) as caught:
        crash_everywhere(counting, seed=7, effects=effects)

    error = caught.value
    assert (error.program, error.store, error.seed) == ("counting", "memory", 7)
    assert "crash before store operation" in str(error)
    assert f"crash_everywhere(counting, store='memory', seed=7, only={error.points})" in str(error)


@pytest.mark.law
def test_only_runs_one_plan() -> None:
    report = survive("sequence", only=(3, 5, 2))

    assert (report.runs, report.crashes) == (1, 3)


@pytest.mark.law
def test_a_program_that_fails_by_itself_raises_its_own_error() -> None:
    async def main(resonate: Resonate) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        crash_everywhere(main)


@pytest.mark.law
def test_a_program_that_never_ends_after_a_crash_is_an_error_and_no_endless_run() -> None:
    lives: list[int] = []

    async def once(resonate: Resonate) -> None:
        lives.append(1)
        await resonate.promises.create(id="p", timeout=4_102_444_800_000)
        while len(lives) > 1:  # noqa: ASYNC110  it never ends
            await asyncio.sleep(60)

    with pytest.raises(CrashError, match="did not end within"):
        crash_everywhere(once)


@pytest.mark.law
def test_a_step_that_starts_again_although_recorded_is_found() -> None:
    """The harness's own sense of effects: a main that counts in a recorded step's name."""
    started: Counter[str] = Counter()

    async def step(ctx: Context) -> int:
        return 1

    async def main(resonate: Resonate) -> int:
        resonate.register(step)
        started["again"] += 1
        return await resonate.run("again", step)

    with pytest.raises(CrashError, match="'again' was recorded at the crash of life 1"):
        crash_everywhere(main, effects=started)


def test_an_unknown_store_is_refused() -> None:
    async def main(resonate: Resonate) -> None: ...

    with pytest.raises(ValueError, match="memory, sqlite"):
        crash_everywhere(main, store="paper")  # type: ignore[arg-type]
