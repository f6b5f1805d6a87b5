"""Crash-everywhere can fail: take one mechanism away and it finds a program that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from resonate_aio.testing import CrashError, Report, crash_everywhere

from .ablations import ABLATIONS, Told, Uneven
from .corpus import survive

pytestmark = pytest.mark.law


def uneven() -> Report:
    program = Uneven(0.1)
    return crash_everywhere(program.main, effects=program.effects, name="uneven")


def told() -> Report:
    program = Told()
    return crash_everywhere(
        program.main, store="sqlite", effects=program.effects, values_vary=True, name="told"
    )


def of_corpus(name: str) -> Callable[[], Report]:
    return lambda: survive(name)


# Which programs need the mechanism, and one that does not.
SHOWN_BY: dict[str, tuple[list[Callable[[], Report]], str]] = {
    "log_is_forgotten": ([of_corpus("first_completed_promises")], "sequence"),
    "recorded_results_are_given_at_the_ask": ([of_corpus("as_completed_order")], "sequence"),
    "branches_are_numbered_by_first_call": ([uneven], "fan_out"),
    "records_are_not_looked_up": ([of_corpus("sequence")], ""),
    "cut_mark_is_ignored": ([of_corpus("ctx_timeout_expires")], "gather_of_helpers"),
    "interruptions_are_not_logged": ([of_corpus("rpc_given_up")], "gather_of_helpers"),
    "settlements_carry_no_log": ([of_corpus("cut_before_more_arrived")], "gather_of_helpers"),
    "creates_overtake_each_other": ([of_corpus("first_completed_promises")], "sequence"),
    "values_are_given_before_they_are_recorded": ([told], "sequence"),
}


@pytest.fixture(params=sorted(ABLATIONS))
def taken(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        ABLATIONS[request.param](patch)
        yield request.param


def test_every_ablation_has_its_program() -> None:
    assert set(SHOWN_BY) == set(ABLATIONS)


def test_crash_everywhere_finds_it(taken: str) -> None:
    for program in SHOWN_BY[taken][0]:
        with pytest.raises(CrashError):
            program()


def test_a_program_without_need_of_it_goes_on(taken: str) -> None:
    """So it is the mechanism that was found, and no wreck."""
    spared = SHOWN_BY[taken][1]
    if spared:
        survive(spared)


@pytest.mark.parametrize("program", [uneven, told])
def test_programs_of_this_file_survive_when_nothing_is_taken(
    program: Callable[[], Report],
) -> None:
    assert program().crashes > 0
