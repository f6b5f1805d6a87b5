"""The figures of the runtime, named; wiring and tests may change them."""

from __future__ import annotations

import os

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """Limits and patience of one worker.

    Attributes:
        workers: Functions that execute at a time; None: coroutines unlimited (S27).
        threads: Worker threads for plain functions.
        quiet_passes: Loop passes without activity after which a body counts as quiescent (S6).
        held_s: How long a body waits for a recorded ask before that is an error (S9a).
        dying_calls: ctx calls of a dying frame that raise before one parks (S31).
        grace_s: How long `stop()` lets functions that execute go on, unless it is told.
        stop_s: How long `stop()` waits for frames to end.
        default_timeout_s: Deadline of a top-level call without one (K14: a year).
        check_arguments: Whether arguments count in fingerprints (S43).
        non_retryable_exceptions: After these no function is tried again (law 11).
        queue_slice_s: Longest the scheduler holds the loop at a time.
        hold_up_s: How long a step may hold the event loop up without being named (law 15).
        poison_first_s, poison_most_s: Delays before a stopped execution is tried again (S42).
    """

    workers: int | None = None
    threads: int = min(32, os.cpu_count() or 1)
    quiet_passes: int = 12
    held_s: float = 30.0
    dying_calls: int = 20
    grace_s: float = 1.0
    stop_s: float = 10.0
    default_timeout_s: float = 31_536_000.0
    check_arguments: bool = True
    non_retryable_exceptions: tuple[type[BaseException], ...] = ()
    queue_slice_s: float = 0.001
    hold_up_s: float = 0.5
    poison_first_s: float = 1.0
    poison_most_s: float = 300.0
