"""How a simulated life ends other than in order."""

from __future__ import annotations


class Killed(BaseException):
    """The life of this loop has ended; nothing of it will ever run again."""


class SimDeadlock(RuntimeError):  # noqa: N818  the name says what happened
    """Nothing is ready, no timer is set and no thread is at work: nobody can go on."""


class ThreadsStuck(RuntimeError):  # noqa: N818  the name says what happened
    """Real threads stayed at work for longer than the loop was told to wait for them."""
