"""One node of an execution: a call that a body asked for, and the waits for its result.

Plain state, owned by one body and one scheduler. Shells subclass these to add what their
event loop needs (a call is also the awaitable its body holds, see runtime/awaitables.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ..protocol.records import Promise, target_of
from .log import INTERRUPTION

if TYPE_CHECKING:
    from .body import Body
    from .volatile import Ending


class CallKind(StrEnum):
    """What kind of durable call a body made; it is part of the fingerprint."""

    RUN = "run"
    RPC = "rpc"
    DETACHED = "detached"
    SLEEP = "sleep"
    PROMISE = "promise"
    TIMEOUT = "timeout"


class CallState(StrEnum):
    """Where a call stands, seen from the body that asked for it."""

    NEW = "new"  # made, but not yet given an id
    CALLED = "called"  # has its id and position, has not started
    ASKED = "asked"  # started: it runs here, runs elsewhere, or waits for its deadline
    ENDED = "ended"  # its outcome is durable and arrived at the body
    GIVEN = "given"  # the body was given the outcome, awaited or not


# Bound once: looking a member up on an enum class costs more than most steps that need it.
RUN: Final = CallKind.RUN
DETACHED: Final = CallKind.DETACHED
TIMEOUT: Final = CallKind.TIMEOUT
CALLED: Final = CallState.CALLED
ASKED: Final = CallState.ASKED
ENDED: Final = CallState.ENDED
GIVEN: Final = CallState.GIVEN


OVER: Final[Any] = object()
"""Stands for a child body that has ended, while its outcome is on its way to the store."""


class Call:
    """A call of a body: identity, record and outcome.

    Attributes:
        id: The promise's id; `suffix` is the part after the asking body's.
        body: The body that asked, None for the root of an execution.
        promise_id: The promise that holds the outcome: `id`, unless an explicit id was given.
        durable: Whether its outcome is to be recorded under its own id (S4).
        carried: How much of the log its create carries, while that is on its way (S8).
        carried_above: What its create carries of other bodies' logs, likewise.
        record: The stored promise, once known.
        value: The decoded outcome once ENDED, or an exception where `failed`.
        child: The body that computes it here; `OVER` once that has ended.
        cut: Settled because an interruption ended it: its waits get no result (S10, S11).
        outlived: It returned a value when it was cancelled, in an earlier life (S10).
        closed: Its body need not wait for it to end, or not any more (S22).
        joined: The call that runs the function of its explicit id, if that is another one.
        joiners: The calls of the same id that have joined this one.
        passed_on: A cancel that arrived at a wait for it is, or was, on its way to it (S10).
        is_forced: That cancel was kept at an earlier wait: whatever it returns, its wait ends.
        reached: A cancel from its body came to its function (S10).
        cancelled_by: The waits whose cancel was passed on to the call itself (S10).
        ending: How a call that is not durable ended, where its outcome does not tell.
        takes_live: Its arguments are immutable scalars: what they decode to is what they are.
        made_when: When it was made on a replay, as its body counts (`activity`).
        waited: How many waits for it ever began.
        wait: The first of the waits for it that are not over.
        more_waits: The others; few calls have any.
    """

    # Defaults live on the class: a call is made at every step and sets few of them.
    state: CallState = CallState.NEW
    id: str = ""
    suffix: str = ""
    promise_id: str = ""
    fingerprint: str = ""
    data: str | None = None
    position: int = 0
    carried: int = -1
    carried_above: dict[str, str] | None = None
    timeout_at_ms: int = 0
    body: Body | None = None
    child: Body | None = None
    record: Promise | None = None
    value: Any = None
    failed: bool = False
    cut: bool = False
    outlived: bool = False
    passed_on: bool = False
    is_forced: bool = False
    reached: bool = False
    closed: bool = False
    arguments_count: bool = True
    durable: bool = True
    takes_live: bool = False
    made_when: int = 0
    waited: int = 0
    ending: Ending | None = None
    wait: Wait | None = None
    more_waits: list[Wait] | None = None
    cancelled_by: list[Wait] | None = None
    joined: Call | None = None
    joiners: dict[Call, None] | None = None

    def __init__(self, kind: CallKind, *, direct: bool) -> None:
        self.kind = kind
        self.direct = direct

    @property
    def is_ended(self) -> bool:
        """Whether the outcome is durable (given to the body or not)."""
        return self.state is ENDED or self.state is GIVEN

    @property
    def runs_here(self) -> bool:
        """Whether its body runs it: not if its id stands for an execution with a task (law 1).

        Nor if another call of the same explicit id runs it.
        """
        if self.kind is not RUN or self.joined is not None:
            return False
        return self.record is None or target_of(self.record) is None

    @property
    def is_volatile(self) -> bool:
        """Whether its outcome is recorded nowhere: neither under its own id nor another (S4)."""
        return not self.durable and self.promise_id == self.id

    # -- who waits for it

    @property
    def waits(self) -> Sequence[Wait]:
        """The waits for it that are not over, in the order in which they began."""
        if self.wait is None:
            return ()
        return (self.wait, *(self.more_waits or ()))

    def wait_begun(self, wait: Wait) -> None:
        """A wait for it begins."""
        if self.wait is None:
            self.wait = wait
        elif self.more_waits is None:
            self.more_waits = [wait]
        else:
            self.more_waits.append(wait)

    def wait_over(self, wait: Wait) -> None:
        """A wait for it is over."""
        if self.wait is wait:
            self.wait = self.more_waits.pop(0) if self.more_waits else None
        elif self.more_waits and wait in self.more_waits:
            self.more_waits.remove(wait)

    # -- explicit ids, which several bodies may call

    @property
    def is_wanted(self) -> bool:
        """Whether its body still waits for it to end."""
        is_open = self.state is ASKED and not self.closed and not self.cut
        return is_open and self.body is not None and not self.body.is_dead

    @property
    def is_shared(self) -> bool:
        """Whether others wait for the function that it runs."""
        return self.joiners is not None and any(other.is_wanted for other in self.joiners)

    @property
    def awaits_cancel(self) -> bool:
        """Whether its value is to be given only once its wait is cancelled again (S10, S11)."""
        return self.outlived and not any(wait.passed_on for wait in self.waits)

    @property
    def is_being_cancelled(self) -> bool:
        """Whether a cancel from its body reached it, or is on its way to it alone (S10)."""
        if self.cancelled_by is not None:
            return True
        if not self.passed_on or self.is_forced or self.is_shared:
            return False
        return any(wait.passed_on for wait in self.waits)

    @property
    def is_cut_before_it_begins(self) -> bool:
        """Whether a cancel from its body comes before it has begun (S10).

        What an earlier life recorded may have begun there, and clean up: the cancel goes to it.
        """
        if self.record is not None or self.is_volatile or self.is_shared:
            return False
        return any(wait.passed_on for wait in self.waits)

    def join(self, runner: Call) -> None:
        """Another call of the same id runs its function."""
        self.leave()
        self.joined = runner
        if runner.joiners is None:
            runner.joiners = {}
        runner.joiners[self] = None

    def leave(self) -> None:
        """It has not joined another one any more."""
        if self.joined is not None and self.joined.joiners is not None:
            self.joined.joiners.pop(self, None)
        self.joined = None


class CallersCancel:
    """The cancel that a body's caller passed on to it: an input of the body like any other (S10).

    It may find the body at a wait that is nobody's business, such as `asyncio.sleep`; so that
    it comes in its turn on a replay, the log names it, apart from what it leads to.

    Attributes:
        member: How the log names it.
    """

    __slots__ = ("member",)

    def __init__(self, number: int) -> None:
        self.member = INTERRUPTION if number == 1 else f"{INTERRUPTION}#{number}"


class KeptCancel:
    """A kept cancel whose task is at no durable wait: an input, as that of the caller (S10).

    Attributes:
        owner: The asyncio task it is kept with.
        member: How the log names it: by the wait that the cancel arrived at.
    """

    __slots__ = ("member", "owner")

    def __init__(self, owner: Any, arrived_at: Wait) -> None:
        self.owner = owner
        self.member = f"{arrived_at.member}+"


class Wait:
    """One asyncio task (or generator) of a body suspended on a call's outcome.

    Attributes:
        direct: The ctx call itself is awaited, not the Promise of a `begin_*` (S10).
        interrupted: An interruption is on its way to this wait; no result will be given.
        passed_on: A cancel that arrived at it is on its way to the call (S10).
        message: What that cancel said (`task.cancel(message)`).
    """

    __slots__ = ("call", "direct", "interrupted", "message", "number", "passed_on")

    def __init__(self, call: Call, *, direct: bool) -> None:
        self.call = call
        self.direct = direct
        self.interrupted = False
        self.passed_on = False
        self.message: object = None
        call.waited += 1
        self.number = call.waited

    @property
    def member(self) -> str:
        """How the log names the interruption of this wait."""
        suffix = f"{INTERRUPTION}{self.call.suffix}"
        return suffix if self.number == 1 else f"{suffix}#{self.number}"
