"""Steps per second, with plain asyncio and raw SQLite in the same run as yardsticks.

Every round runs every case once, so that a busy moment of the machine hits all of them; what
is shown is the median of the rounds. Ratios are medians of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import durable
import yardsticks

Measure = Callable[[Path], Awaitable[float]]
PLAIN = "plain asyncio"
RAW = "raw SQLite FULL"


@dataclass
class Case:
    """One line of the report.

    Attributes:
        shape: What is done.
        place: Where: a store, or a yardstick.
        steps: How many steps that is.
        measure: Does it once, in the given empty folder; returns seconds.
        seconds: What the rounds took.
    """

    shape: str
    place: str
    steps: int
    measure: Measure
    seconds: list[float] = field(default_factory=list)

    @property
    def us_per_step(self) -> float:
        return median(self.seconds) / self.steps * 1e6


@dataclass
class Budget:
    """A limit on a ratio of two cases' time per step: at most, or at least."""

    text: str
    above: Case
    below: Case
    limit: float
    at_most: bool

    @property
    def ratio(self) -> float:
        per_step = self.below.steps / self.above.steps
        rounds = zip(self.above.seconds, self.below.seconds, strict=True)
        return median(above / below * per_step for above, below in rounds)

    @property
    def passed(self) -> bool:
        return self.ratio <= self.limit if self.at_most else self.ratio >= self.limit


def without_folder(function: Callable[..., Awaitable[float]], *counts: int) -> Measure:
    async def measure(_: Path) -> float:
        return await function(*counts)

    return measure


def cases(scale: int) -> dict[tuple[str, str], Case]:
    """Every case, by shape and place; `scale` divides the counts."""
    thousand, ten_thousand = 1_000 // scale, 10_000 // scale
    listed: list[Case] = []

    def add(shape: str, place: str, steps: int, measure: Measure) -> None:
        listed.append(Case(shape, place, steps, measure))

    def add_durable(shape: str, steps: int, run: durable.Shape) -> None:
        for store in durable.STORES:
            add(shape, store, steps, partial(durable.measure, store, run))

    for count in (thousand, ten_thousand):
        shape = f"1 execution x {count:,} steps"
        add(shape, PLAIN, count, without_folder(yardsticks.plain_tasks, 1, count))
        if count == thousand:
            add(shape, RAW, count, partial(yardsticks.raw_commits, count))
        add_durable(shape, count, durable.sequential(count))
    shape = f"{thousand:,} executions x 5 steps"
    steps = 5 * thousand
    add(shape, PLAIN, steps, without_folder(yardsticks.plain_tasks, thousand, 5))
    add(shape, RAW, steps, partial(yardsticks.raw_writer, thousand, 5))
    add_durable(shape, steps, durable.executions(thousand, 5))
    for way in ("begin_run", "gather"):
        shape = f"{thousand:,} children by {way}"
        add(shape, PLAIN, thousand, without_folder(yardsticks.plain_children, thousand))
        add_durable(shape, thousand, durable.children(thousand, gathered=way == "gather"))
    shape = f"{ten_thousand:,} sleeps of 1 s at a time"
    add(shape, PLAIN, ten_thousand, without_folder(yardsticks.plain_sleeps, ten_thousand))
    add_durable(shape, ten_thousand, durable.sleeps(ten_thousand))
    return {(case.shape, case.place): case for case in listed}


def budgets(measured: dict[tuple[str, str], Case], scale: int) -> list[Budget]:
    thousand, ten_thousand = 1_000 // scale, 10_000 // scale
    many = f"{thousand:,} executions x 5 steps"
    short = f"1 execution x {thousand:,} steps"
    long = f"1 execution x {ten_thousand:,} steps"
    memory, full = durable.STORES[:2]
    return [
        Budget(
            f"{many}, memory: time of plain asyncio tasks",
            measured[many, memory],
            measured[many, PLAIN],
            4.0,
            at_most=True,
        ),
        *(
            Budget(
                f"{long}, {store}: time per step of {thousand:,} steps",
                measured[long, store],
                measured[short, store],
                1.15,
                at_most=True,
            )
            for store in (memory, full)
        ),
        Budget(
            f"{short}, SQLite FULL: speed of one raw commit per step",
            measured[short, RAW],
            measured[short, full],
            0.55,
            at_most=False,
        ),
        Budget(
            f"{many}, SQLite FULL: speed of asyncio with a raw writer",
            measured[many, RAW],
            measured[many, full],
            0.20,
            at_most=False,
        ),
    ]


def run_rounds(measured: dict[tuple[str, str], Case], rounds: int, parent: str | None) -> None:
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds} ...", file=sys.stderr, flush=True)
        for case in measured.values():
            with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as folder:
                gc.collect()
                case.seconds.append(asyncio.run(in_loop(case, Path(folder))))


async def in_loop(case: Case, folder: Path) -> float:
    return await case.measure(folder)


def show(measured: dict[tuple[str, str], Case], checked: list[Budget], rounds: int) -> None:
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"median of {rounds} round{'s' if rounds > 1 else ''}"
    )
    shape = ""
    for case in measured.values():
        if case.shape != shape:
            shape = case.shape
            print(f"\n{shape:<32}{'seconds':>10}{'steps/s':>12}{'us/step':>12}")
        per_second = 1e6 / case.us_per_step
        print(
            f"  {case.place:<30}{median(case.seconds):>10.3f}"
            f"{per_second:>12,.0f}{case.us_per_step:>12.1f}"
        )
    print("\nBudget")
    for budget in checked:
        verdict = "PASS" if budget.passed else "MISS"
        bound = "at most" if budget.at_most else "at least"
        print(f"  {verdict}  {budget.text}: {budget.ratio:.2f} ({bound} {budget.limit:.2f})")


def as_data(
    measured: dict[tuple[str, str], Case], checked: list[Budget], rounds: int
) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "rounds": rounds,
        "cases": [
            {
                "shape": case.shape,
                "place": case.place,
                "steps": case.steps,
                "us_per_step": round(case.us_per_step, 3),
                "steps_per_s": round(1e6 / case.us_per_step, 1),
                "seconds": [round(seconds, 6) for seconds in case.seconds],
            }
            for case in measured.values()
        ],
        "budget": [
            {
                "text": budget.text,
                "ratio": round(budget.ratio, 3),
                "limit": budget.limit,
                "at_most": budget.at_most,
                "passed": budget.passed,
            }
            for budget in checked
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure durable steps beside plain asyncio and raw SQLite."
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often (default: 3)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of a tenth of everything: a look, no more"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument(
        "--dir", help="where the SQLite files go: the disk decides what a commit costs"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    scale, rounds = (10, 1) if arguments.quick else (1, arguments.rounds)
    measured = cases(scale)
    run_rounds(measured, rounds, arguments.dir)
    checked = budgets(measured, scale)
    if arguments.json:
        print(json.dumps(as_data(measured, checked, rounds), indent=2))
    else:
        show(measured, checked, rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
