"""Laws 2 to 6 over random programs: whatever instant a crash falls on (S5, S10, S11, S22).

`tests/programs/random` makes the programs and says what each may give. Each runs once
undisturbed, then with a crash before and after every store operation, at handles of the event
loop, and with several crashes in one run. It ends each time, gives what it may give, keeps
what was recorded, starts no recorded step again, and never meets a `NonDeterminismError`.
Where nothing is decided by time, result and records are those of the undisturbed run.

Some seeds belong to the suite. To run many:

    RANDOM_PROGRAMS=1000-3000 python -m pytest tests/laws/test_random_programs.py -n 2

and the same with `RANDOM_PROGRAMS_STORE=sqlite`. A failure prints the smallest program found
that still fails, and its crash points.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from time import monotonic
from typing import Any, Literal

import pytest
from tests.programs.random import (
    Part,
    Runner,
    admits,
    is_a_race,
    nodes_of,
    program_of,
    smaller,
)
from tests.programs.random.nodes import (
    Calls,
    Cancelled,
    Deadline,
    Detached,
    Gather,
    Limit,
    Node,
    Passes,
    Sleep,
    Step,
)

from resonate_aio import Resonate
from resonate_aio.execution import body
from resonate_aio.testing import CrashError, Report, crash_everywhere

_SHRINKING_S = 20.0
_STORE: Any = os.environ.get("RANDOM_PROGRAMS_STORE", "memory")


def _seeds() -> list[int]:
    chosen = os.environ.get("RANDOM_PROGRAMS")
    if chosen is None:
        return list(range(30))
    low, _, high = chosen.partition("-")
    return list(range(int(low), int(high or low) + 1))


@pytest.fixture(autouse=True)
def _failed_attempts_are_not_logged() -> Any:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def survive(
    program: Part, *, store: Literal["memory", "sqlite"] = "memory", seed: int = 0, **how: Any
) -> Report:
    """Put a random program through crashes."""
    effects: Counter[str] = Counter()
    is_open = is_a_race(program)

    async def main(resonate: Resonate) -> Any:
        outcomes = await Runner(program, effects).main(resonate)
        why = admits(program, outcomes)
        assert not why, why
        return "ended" if is_open else outcomes

    return crash_everywhere(
        main, store=store, seed=seed, effects=effects, values_vary=is_open, **how
    )


def survive_or_shrink(program: Part, **how: Any) -> Report:
    """The same; a failure names the smallest program that was found to fail."""
    try:
        return survive(program, **how)
    except (CrashError, AssertionError, TimeoutError) as error:
        until, failure, found = monotonic() + _SHRINKING_S, error, True
        while found:
            found = False
            for less in smaller(program):
                if monotonic() > until:
                    break
                try:
                    survive(less, **how)
                except type(error) as again:
                    program, failure, found = less, again, True
                    break
        raise AssertionError(f"{failure}\n  program: {program}") from error


@pytest.mark.law
@pytest.mark.parametrize("seed", _seeds())
def test_random_program(seed: int) -> None:
    program = program_of(seed)

    report = survive_or_shrink(program, store=_STORE, seed=seed, between=8, random_runs=6)

    assert report.crashes >= 2 * report.operations > 0


@pytest.mark.parametrize("seed", range(100, 104))
def test_random_program_on_sqlite(seed: int) -> None:
    report = survive_or_shrink(
        program_of(seed, size=8), store="sqlite", seed=seed, between=2, random_runs=2
    )

    assert report.crashes >= 2 * report.operations > 0


def test_an_interruption_is_logged_with_the_result_it_wins_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by seed 100056, several crashes in one run; the check shows what it would be (S5)."""
    calls = Part("n5", (Calls("n6", (1.8, 0.3, 3.0), "as_completed"),))
    inner = Part("n3", (Cancelled("n4", calls, 0.5),))
    program = Part("n1", (Limit("n2", inner, 0.0, is_durable=True),))
    points = (9, 16, 9, 12, 16)

    assert survive(program, seed=1, only=points).crashes >= 4

    monkeypatch.setattr(body, "_is_won_over", lambda _: False)
    with pytest.raises(CrashError, match="no longer makes call"):
        survive(program, seed=1, only=points)


def test_a_body_that_was_quiet_and_went_on_has_to_come_to_rest_again() -> None:
    """Found by seed 400257: a helper's bare pass was overtaken by the next input (S6)."""
    first = Cancelled("n2", Part("n3", (Step("n4", 0.116),)), 1)
    second = Cancelled("n5", Part("n6", (Passes("n7", 1),)), 0.5)
    program = Part("n1", (first, second, Detached("n8", 4.0)))

    assert survive(program, seed=257, between=10, random_runs=10).crashes > 20


def test_a_deadline_that_passed_while_the_log_was_given_is_not_overtaken() -> None:
    """Found by seed 700039: a step that is run again holds the log until both have passed (S5)."""
    slow = Part("n2", (Step("n3", 2.0, "volatile"),))
    limits = Part("n4", (Sleep("n5", 1.6), Deadline("n6", promise_s=0.5, limit_s=2)))
    both = Part("n7", (Calls("n8", (1.9, 2.0), "gather"), Step("n9", 0.1)))
    program = Part("n1", (Gather("n10", (slow, limits, both), shares=False),))

    assert survive(program, seed=39).crashes > 20


def test_every_kind_of_node_is_generated() -> None:
    """The generator covers what the issue lists, and both dialects."""
    found: Counter[str] = Counter()
    for seed in range(200):
        for node in nodes_of(program_of(seed)):
            kind = type(node).__name__
            found[" ".join([kind, *(v for v in vars(node).values() if v in _VARIANTS)])] += 1

    assert {name.split()[0] for name in found} == _KINDS
    assert {v for name in found for v in name.split()[1:]} == _VARIANTS


_KINDS = {kind.__name__ for kind in Node.__subclasses__()}
_VARIANTS = {"async", "generator", "run", "rpc", "passes", "cleans", "returns"}
_VARIANTS |= {"gather", "as_completed", "plain", "id", "volatile"}


def test_what_a_program_cannot_give_is_not_admitted() -> None:
    """The check can fail: another value, a wrong winner, a limit that was passed (laws 3, 4)."""
    for seed in range(40):
        program = program_of(seed)
        assert admits(program, [])
        assert admits(program, ["something else"] * len(program.nodes))


def test_a_program_whose_loss_matters_is_found() -> None:
    """A fault of the check's own kind: a step that is not what its name says (law 3)."""
    program = program_of(0)

    class Forgetful(Runner):
        lives = 0

        async def main(self, resonate: Resonate) -> list[Any]:
            Forgetful.lives += 1
            outcomes = await super().main(resonate)
            return outcomes if Forgetful.lives < 3 else [*outcomes, "more"]

    async def main(resonate: Resonate) -> Any:
        outcomes = await Forgetful(program, Counter()).main(resonate)
        why = admits(program, outcomes)
        assert not why, why

    with pytest.raises(CrashError, match="n1 gave"):
        crash_everywhere(main, values_vary=True)
