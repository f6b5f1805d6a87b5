"""Retry policies: delays, limits, refusals (law 11, mission table T1 to T7)."""

from __future__ import annotations

import math
import sys
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonate_aio.retry_policies import Constant, Exponential, Linear, Never

if TYPE_CHECKING:
    from resonate_aio.retry_policies import RetryPolicy


def delays(policy: RetryPolicy, attempts: int) -> list[float | None]:
    return [policy.next(attempt) for attempt in range(1, attempts + 1)]


def test_defaults_are_those_of_the_seeds() -> None:
    """Mission T1, T2, T3, T4, T5: one import path, and the figures of 0.6.7."""
    assert Exponential() == Exponential(
        delay=1, max_retries=sys.maxsize, factor=2, max_delay=30, jitter=0.0
    )
    assert Constant() == Constant(delay=1, max_retries=sys.maxsize)
    assert Linear() == Linear(delay=1, max_retries=sys.maxsize)


def test_exponential_doubles_up_to_its_ceiling() -> None:
    """Mission T2."""
    assert delays(Exponential(), 7) == [2, 4, 8, 16, 30, 30, 30]


def test_exponential_with_other_figures() -> None:
    assert delays(Exponential(delay=0.5, factor=3, max_delay=10), 4) == [1.5, 4.5, 10, 10]
    assert delays(Exponential(delay=8, factor=0.5), 3) == [4, 2, 1]
    assert delays(Exponential(delay=0), 3) == [0, 0, 0]


def test_constant_and_linear() -> None:
    """Mission T3, T4."""
    assert delays(Constant(delay=0.25), 3) == [0.25, 0.25, 0.25]
    assert delays(Linear(delay=2), 3) == [2, 4, 6]


def test_never() -> None:
    """Mission T5."""
    assert delays(Never(), 3) == [None, None, None]


@pytest.mark.parametrize("kind", [Exponential, Constant, Linear])
def test_max_retries_counts_retries_not_attempts(kind: type[Any]) -> None:
    assert [delay is None for delay in delays(kind(max_retries=2), 4)] == [
        False,
        False,
        True,
        True,
    ]
    assert kind(max_retries=0).next(1) is None


def test_times_may_be_timedeltas() -> None:
    half = timedelta(milliseconds=500)
    assert Constant(delay=half).next(1) == 0.5
    assert Linear(delay=half).next(3) == 1.5
    assert delays(Exponential(delay=half, max_delay=timedelta(seconds=3)), 3) == [1, 2, 3]


@given(
    attempt=st.integers(1, sys.maxsize),
    delay=st.floats(0, 1e300),
    factor=st.floats(0, 1e300),
    max_delay=st.floats(0, 1e300),
)
def test_no_attempt_number_overflows(
    attempt: int, delay: float, factor: float, max_delay: float
) -> None:
    answer = Exponential(delay=delay, factor=factor, max_delay=max_delay).next(attempt)
    assert answer is not None
    assert 0 <= answer <= max_delay


@given(
    delay=st.floats(0, 100),
    factor=st.floats(1, 10),
    max_delay=st.floats(0, 1000),
    jitter=st.just(0),
)
def test_exponential_never_shrinks(
    delay: float, factor: float, max_delay: float, jitter: float
) -> None:
    policy = Exponential(delay=delay, factor=factor, max_delay=max_delay, jitter=jitter)
    for earlier, later in pairwise(delays(policy, 50)):
        assert earlier is not None
        assert later is not None
        assert earlier <= later


def test_jitter_takes_away_at_most_its_share() -> None:
    policy = Exponential(jitter=0.25)
    rng = Random(7)
    drawn = [policy.next(3, rng) for _ in range(500)]
    figures = [delay for delay in drawn if delay is not None]
    assert len(figures) == 500
    assert 6 <= min(figures) < 6.1
    assert 7.9 < max(figures) <= 8
    assert len(set(figures)) > 400


def test_jitter_comes_from_the_given_generator_alone() -> None:
    policy = Exponential(jitter=1)
    assert policy.next(2) == policy.next(2) == 4
    assert policy.next(2, Random(3)) == policy.next(2, Random(3)) != policy.next(2, Random(4))


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "named"),
    [
        (Exponential, {"delay": -1}, ValueError, "Exponential: delay"),
        (Exponential, {"delay": math.nan}, ValueError, "Exponential: delay"),
        (Exponential, {"delay": 10**400}, ValueError, "Exponential: delay"),
        (Exponential, {"delay": "1"}, TypeError, "Exponential: delay"),
        (Exponential, {"factor": -0.1}, ValueError, "Exponential: factor"),
        (Exponential, {"factor": None}, TypeError, "Exponential: factor"),
        (Exponential, {"max_delay": math.inf}, ValueError, "Exponential: max_delay"),
        (Exponential, {"max_delay": timedelta(seconds=-1)}, ValueError, "Exponential: max_delay"),
        (Exponential, {"jitter": 1.5}, ValueError, "Exponential: jitter"),
        (Exponential, {"max_retries": -1}, ValueError, "Exponential: max_retries"),
        (Constant, {"delay": True}, TypeError, "Constant: delay"),
        (Constant, {"max_retries": 1.0}, TypeError, "Constant: max_retries"),
        (Linear, {"delay": -2}, ValueError, "Linear: delay"),
        (Linear, {"max_retries": True}, TypeError, "Linear: max_retries"),
    ],
)
def test_refusals_name_the_argument(
    kind: type[Any], arguments: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        kind(**arguments)


def test_policies_are_values() -> None:
    assert Exponential(delay=2) == Exponential(delay=2) != Exponential(delay=3)
    assert len({Constant(), Constant(), Constant(delay=2), Never(), Never()}) == 3
    with pytest.raises(AttributeError):
        Constant().delay = 2  # type: ignore[misc]
