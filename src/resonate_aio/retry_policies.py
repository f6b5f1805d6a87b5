"""When a failed attempt is followed by another one.

A policy answers one question: so many attempts have failed, how long until the next? It is
pure: it holds no attempt count, reads no clock and draws randomness only from the generator
it is given, so the same policy serves every call and a replay can ask it again. It knows
nothing of deadlines: that no delay passes the promise's deadline is the execution's rule
(law 11).

Names, arguments, defaults and delays are those of the Resonate Python SDK 0.6.7
(seed 001, mission table T1 to T7); `jitter` is an addition.
"""

from __future__ import annotations

import math
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from random import Random

__all__ = ["Constant", "Exponential", "Linear", "Never", "RetryPolicy"]

_LARGEST_EXPONENT = 700.0
"""math.exp of this is still a float; growth is cut here, long past any sensible delay."""

_FINITE = sys.float_info.max


class RetryPolicy(Protocol):
    """What a call needs to know about retrying."""

    def next(self, attempt: int, rng: Random | None = None) -> float | None:
        """The delay in seconds before the retry that follows a failed attempt.

        Args:
            attempt: The number of the attempt that failed, counted from 1.
            rng: Where jitter comes from; None means no jitter.

        Returns:
            Seconds to wait, or None to give up: the attempt's error is the outcome.
        """
        ...


class Exponential(msgspec.Struct, frozen=True, gc=False):
    """Delays that grow by a factor up to a ceiling: 2, 4, 8, 16, 30, 30, ... seconds.

    Args:
        delay: Seconds (or a timedelta) that the factor multiplies.
        max_retries: How many retries follow the first attempt at most.
        factor: What each further retry multiplies the delay by.
        max_delay: The ceiling, in seconds (or a timedelta).
        jitter: The share of each delay that chance may take away: 0 for none, 1 for a delay
            anywhere between nothing and the full one.

    Raises:
        TypeError: An argument is not a number (or, for times, a timedelta).
        ValueError: An argument is out of its range; the message names it.
    """

    delay: float | timedelta = 1
    max_retries: int = sys.maxsize
    factor: float = 2
    max_delay: float | timedelta = 30
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Refuse arguments that can not be meant."""
        _check_delay(self, "delay", self.delay)
        _check_retries(self, self.max_retries)
        _check_number(self, "factor", self.factor)
        _check_delay(self, "max_delay", self.max_delay)
        _check_number(self, "jitter", self.jitter, maximum=1)

    def next(self, attempt: int, rng: Random | None = None) -> float | None:
        """The delay in seconds before the retry that follows failed attempt `attempt`.

        Args:
            attempt: The number of the attempt that failed, counted from 1.
            rng: Where jitter comes from; None means no jitter.

        Returns:
            Seconds to wait, or None once `max_retries` are used up.
        """
        if attempt > self.max_retries:
            return None
        growth = float(self.factor)
        if growth > 1:  # cut before the power: no attempt number overflows
            attempt = min(attempt, int(_LARGEST_EXPONENT / math.log(growth)))
        delay_s = min(_seconds(self.delay) * growth**attempt, _seconds(self.max_delay))
        if rng is not None and self.jitter:
            delay_s *= 1 - self.jitter * rng.random()
        return delay_s


class Constant(msgspec.Struct, frozen=True, gc=False):
    """The same delay before every retry.

    Args:
        delay: Seconds (or a timedelta) before each retry.
        max_retries: How many retries follow the first attempt at most.

    Raises:
        TypeError: An argument is not a number (or, for times, a timedelta).
        ValueError: An argument is out of its range; the message names it.
    """

    delay: float | timedelta = 1
    max_retries: int = sys.maxsize

    def __post_init__(self) -> None:
        """Refuse arguments that can not be meant."""
        _check_delay(self, "delay", self.delay)
        _check_retries(self, self.max_retries)

    def next(self, attempt: int, rng: Random | None = None) -> float | None:
        """The delay in seconds before the retry that follows failed attempt `attempt`."""
        return _seconds(self.delay) if attempt <= self.max_retries else None


class Linear(msgspec.Struct, frozen=True, gc=False):
    """Delays that grow by the same amount: 1, 2, 3, ... times `delay`.

    Args:
        delay: Seconds (or a timedelta) that each further retry adds.
        max_retries: How many retries follow the first attempt at most.

    Raises:
        TypeError: An argument is not a number (or, for times, a timedelta).
        ValueError: An argument is out of its range; the message names it.
    """

    delay: float | timedelta = 1
    max_retries: int = sys.maxsize

    def __post_init__(self) -> None:
        """Refuse arguments that can not be meant."""
        _check_delay(self, "delay", self.delay)
        _check_retries(self, self.max_retries)

    def next(self, attempt: int, rng: Random | None = None) -> float | None:
        """The delay in seconds before the retry that follows failed attempt `attempt`."""
        return _seconds(self.delay) * attempt if attempt <= self.max_retries else None


class Never(msgspec.Struct, frozen=True, gc=False):
    """No retry: the first failure is the outcome."""

    def next(self, attempt: int, rng: Random | None = None) -> float | None:
        """None, whatever the attempt."""
        return None


def _seconds(delay: float | timedelta) -> float:
    return delay.total_seconds() if isinstance(delay, timedelta) else delay


def _check_delay(policy: object, name: str, value: object) -> None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    _check_number(policy, name, value)


def _check_number(policy: object, name: str, value: object, *, maximum: float = _FINITE) -> None:
    kind = type(policy).__name__
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{kind}: {name} must be a number, not {value!r}")
    if not 0 <= value <= maximum:
        limit = "finite" if maximum == _FINITE else f"at most {maximum}"
        raise ValueError(f"{kind}: {name} must be at least 0 and {limit}, not {value!r}")


def _check_retries(policy: object, value: object) -> None:
    kind = type(policy).__name__
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{kind}: max_retries must be an int, not {value!r}")
    if value < 0:
        raise ValueError(f"{kind}: max_retries must be at least 0, not {value!r}")
