"""Attempts: whether a failed function is tried again, and when (law 11, S40)."""

from __future__ import annotations

from math import isnan
from typing import Any, Protocol

from ..errors import ContextMisuseError, NonDeterminismError, ValueCodecError

_NEVER_RETRIED = (NonDeterminismError, ContextMisuseError, ValueCodecError)


class RetryPolicy(Protocol):
    """When to try again: see `resonate_aio.retry_policies`."""

    def next(self, attempt: int) -> float | None:
        """Seconds to wait after failed attempt number `attempt` (from 1); None: stop."""
        ...


def retry_delay_s(
    policy: RetryPolicy,
    attempt: int,
    error: BaseException,
    non_retryable: tuple[type[BaseException], ...],
    now_ms: int,
    timeout_at_ms: int,
    rng: Any,
) -> float | None:
    """Seconds until the next attempt, or None when this failure is the outcome.

    A delay never passes the deadline, whose arrival is the outcome instead. `rng` is the
    `random.Random` that policies with jitter draw from.
    """
    if not isinstance(error, Exception) or isinstance(error, _NEVER_RETRIED):
        return None
    if non_retryable and isinstance(error, non_retryable):
        return None
    jitters = getattr(policy, "jitter", 0)
    # Policies with jitter are ours and take the generator; others know the attempt alone.
    arguments: tuple[Any, ...] = (attempt, rng) if jitters else (attempt,)
    delay: float | None = policy.next(*arguments)
    if delay is not None and (not isinstance(delay, int | float) or isnan(delay)):
        raise TypeError(f"a retry policy gives seconds or None, got {delay!r}")
    if delay is None or now_ms + delay * 1000 >= timeout_at_ms:
        return None
    return max(delay, 0.0)
