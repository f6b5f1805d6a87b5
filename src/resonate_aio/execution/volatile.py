"""Calls with durable=False: their outcome is recorded nowhere, and a replay drives them anew.

Their record is a mark of the ask, settled at once (S4). How they ended the log of their body
tells: it names what the body was given, and for such a call also how that came to be, where a
replay could not find out by driving it once more. A call whose wait was interrupted and whose
outcome was never given was cut before that (S10): it must not run again. One that its own
deadline ended must not run until it passes again (S14), and one that ended in time has none
any more. One that outlived a cancel needs that cancel to end as it did; one that ended while
the cancel was on its way must not be reached by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from ..protocol.records import EMPTY, PromiseState, Value
from .call import Call
from .log import INTERRUPTION, Batch


class Ending(StrEnum):
    """How a call ended, as the log marks it in front of the call's suffix."""

    RETURNED = ""  # by itself, in time
    OUTLIVED = "+"  # with an outcome of its own, though its function was cancelled
    UNREACHED = "="  # the same, before the cancel of its wait reached its function
    TIMED_OUT = "~"
    CUT = INTERRUPTION  # a wait for it was interrupted, and its outcome was never given


def endings_in(log: Iterable[Batch]) -> dict[str, Ending]:
    """How each call of a body ended, by suffix, as far as its log tells."""
    endings: dict[str, Ending] = {}
    for batch in log:
        for member in batch:
            mark = member[0]
            if mark == Ending.CUT:
                suffix, _, _ = member[1:].partition("#")
                endings.setdefault(suffix, Ending.CUT)
            elif mark in _MARKS:
                endings[member[1:]] = Ending(mark)
            else:
                endings[member] = Ending.RETURNED
    return endings


_MARKS = (Ending.OUTLIVED, Ending.UNREACHED, Ending.TIMED_OUT)

AFTER_CANCEL = (Ending.OUTLIVED, Ending.UNREACHED)
"""How a call ends whose outcome is given though its wait was cancelled (S10)."""


def member_of(call: Call) -> str:
    """How the log names the call's outcome: as an earlier life did, whatever this one saw."""
    if not call.is_volatile:
        return call.suffix
    ending = call.ending
    if ending is None and call.is_being_cancelled:
        ending = Ending.OUTLIVED if call.reached else Ending.UNREACHED
    elif ending is None:
        ending = Ending.RETURNED
    return f"{ending}{call.suffix}"


def judged(
    call: Call, state: PromiseState, value: Value, now_ms: int
) -> tuple[PromiseState, Value]:
    """What becomes of an outcome that no store judges: past its deadline it is none (S14)."""
    if call.ending is Ending.TIMED_OUT or call.timeout_at_ms <= now_ms:
        call.ending = Ending.TIMED_OUT
        return PromiseState.TIMEDOUT, EMPTY
    return state, value
