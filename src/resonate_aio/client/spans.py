"""How long a durable sleep is: a span, or what is left until an instant (X19)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..runtime.options import seconds


def sleep_s(delay: Any, until: Any, now_ms: int) -> float:
    """Seconds to sleep; none until an instant that is past.

    Raises:
        TypeError, ValueError: Neither or both are given, or one of the wrong kind.
    """
    if until is None:
        return seconds(delay, "sleep")
    if delay is not None:
        raise TypeError("sleep takes a delay or until=, not both")
    if isinstance(until, datetime):
        if until.tzinfo is None:
            raise ValueError(f"until needs a time zone, such as datetime.now(UTC) has: {until!r}")
        until = until.timestamp()
    if isinstance(until, bool) or not isinstance(until, int | float):
        raise TypeError(f"until is a datetime or seconds since the epoch, got {until!r}")
    return seconds(max(until - now_ms / 1000, 0.0), "until")
