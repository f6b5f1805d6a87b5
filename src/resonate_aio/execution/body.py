"""One body: the order in which a user's function is given its inputs (S1 to S11, S22).

One routine, on the first run and on replay alike (S5). A body has a log of batches, the
recorded asks it has not made again, and the set of results and interruptions that wait to
be given. When its shell finds the body quiescent, `next_batch` says what it is given next:
nothing while a recorded ask is owed; else the next batch of the log once all its members
are there; else everything that waits, which then becomes the log's next batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import InternalError, NonDeterminismError
from ..protocol.records import Promise
from .branch import Branch
from .call import ASKED, CALLED, ENDED, GIVEN, TIMEOUT, Call, CallersCancel, KeptCancel, Wait
from .interruptions import NOTHING, Input, Interruptible
from .log import INTERRUPTION, Batch, Recorded
from .volatile import Ending, endings_in, member_of

if TYPE_CHECKING:
    from .execution import Execution

__all__ = ["Body", "Branch", "Input"]


class Body(Interruptible):
    """A user function being driven; it is itself the branch of its main asyncio task.

    Attributes:
        id: The id of the call it computes; `call` is that call.
        is_owed: A recorded ask was not made again; at the body's end that is an error (S9a).
        live_tasks: How many asyncio tasks it has.
        arriving: How many outcomes that earlier lives recorded are on their way to it.
        joint: What stands between its id and its calls' suffixes (S61).
        is_dead: Its frames may not record any more, whatever they do.
    """

    # Defaults live on the class: most bodies are leaves and never set any of these.
    live_tasks: int = 0
    arriving: int = 0
    unawaited_failures: dict[str, Call] | None = None
    is_owed: bool = False
    joint: str = "."
    is_dead: bool = False
    _positions: dict[str, int] | None = None
    _owed: dict[int, int] | None = None
    _endings: dict[str, Ending] | None = None
    _made: Call | None = None
    idle: dict[Call, None] | None = None

    def __init__(self, execution: Execution, call: Call) -> None:
        self.body = self
        self.execution = execution
        self.call = call
        self.id = call.promise_id

    def remember(self, records: Iterable[Promise], logs: Iterable[str] = ()) -> None:
        """Take over what an earlier life of this body recorded.

        Args:
            logs: What others carried of its log.
        """
        recorded = Recorded(self.id, records, logs)
        self._log = recorded.batches
        self._positions = recorded.positions
        self.is_plain = False
        self.is_owed = bool(recorded.positions)
        self._sequential = recorded.sequential
        self._gain_start = len(recorded.batches)
        self._gain = []
        self._creates = len(recorded.positions)
        self._owed = {}
        for position in recorded.positions.values():
            self._owed[position] = self._owed.get(position, 0) + 1
        self._logged_interruptions = {
            member for batch in self._log for member in batch if member.startswith(INTERRUPTION)
        }

    def ending_of(self, call: Call) -> Ending | None:
        """How the log says that this call ended; None where it does not."""
        if self._log is None:
            return None
        if self._endings is None:
            self._endings = endings_in(self._log)
        ending = self._endings.get(call.suffix)
        # Of the Promise of a `begin_*` only the wait ended: the work goes on (S10).
        return None if ending is Ending.CUT and not call.direct else ending

    # -- asking ------------------------------------------------------------------------

    def called(self, call: Call, branch: Branch) -> None:
        """A ctx call was made in this branch: it takes its id and its position (S1, S5)."""
        if self.waiting is NOTHING:
            self._open()
        branch.count += 1
        call.body = self
        call.suffix = f"{branch.prefix}{branch.count}"
        call.id = call.promise_id = f"{self.id}{self.joint}{call.suffix}"
        call.position = self.position
        call.state = CALLED
        self.activity += 1
        if self._made is not None:
            if self.idle is None:
                self.idle = {}
            self.idle[self._made] = None
        self._made = call
        if self._log is not None:
            self._made_again(call)

    def _made_again(self, call: Call) -> None:
        call.made_when = self.activity
        position = self._positions.pop(call.suffix, None) if self._positions else None
        if position is not None and self._owed is not None:
            self._owed[position] -= 1
            self.is_owed = bool(self._positions)

    def asked(self, call: Call) -> None:
        """The call starts: its body now waits for it to end (S22).

        Of a detached one it waits only for the create (`closed`), which must not come after the
        body's own outcome; of a time limit for nothing.
        """
        if call.state is not CALLED:
            raise InternalError(f"call {call.id!r} was asked in state {call.state}")
        if self._made is call:  # as `refused`, which nearly every call goes through
            self._made = None
        else:
            self.refused(call)
        call.state = ASKED
        if call.kind is not TIMEOUT:
            self.open_calls += 1

    def refused(self, call: Call) -> None:
        """The call was awaited, whether it can start or not: it is not one nobody asked for."""
        if self._made is call:
            self._made = None
        elif self.idle is not None:
            self.idle.pop(call, None)

    # -- inputs ------------------------------------------------------------------------

    def arrived(self, call: Call) -> None:
        """The call's outcome is durable: it waits for its turn (unless it was cut)."""
        if call.state is not ASKED:
            raise InternalError(f"the outcome of {call.id!r} arrived in state {call.state}")
        call.state = ENDED
        if not call.closed and call.kind is not TIMEOUT:
            call.closed = True
            self.open_calls -= 1
        if call.failed and not call.waited and not call.cut and call.kind is not TIMEOUT:
            if self.unawaited_failures is None:
                self.unawaited_failures = {}
            self.unawaited_failures[call.suffix] = call
        if not call.cut and not call.awaits_cancel:
            self.waiting[call.suffix if call.durable else member_of(call)] = call

    def wait_begun(self, wait: Wait, owner: Any) -> None:
        """A task of the body (`owner`, any hashable) suspends on a call."""
        self.at[owner] = wait
        self.activity += 1
        call = wait.call
        if call.wait is None:
            call.wait = wait
        else:
            call.wait_begun(wait)
        if self.unawaited_failures and call.suffix in self.unawaited_failures:
            del self.unawaited_failures[call.suffix]

    def wait_over(self, wait: Wait, owner: Any) -> None:
        """The task is about to go on: with a result, an interruption, or because it dies."""
        del self.at[owner]
        wait.call.wait_over(wait)

    @property
    def is_at_one_wait(self) -> bool:
        """Whether the body's only live asyncio task is at a wait: it is quiescent now (S6)."""
        return self.live_tasks == 1 and len(self.at) == 1

    def is_for_result(self, wait: Wait) -> bool:
        """Whether this wait is given the call's result (no interruption is meant for it)."""
        return not wait.interrupted and (
            not self._logged_interruptions or wait.member not in self._logged_interruptions
        )

    @property
    def has_input(self) -> bool:
        """Whether something waits to be given, or a kept cancel may now be let through."""
        return bool(self.waiting) or self._kept is not None

    def give_directly(self, call: Call) -> Wait | None:
        """The call's outcome is durable, and the body, at its only wait, is given it at once.

        The common case of `arrived`, `next_batch` and `wait_over` in one.

        Returns:
            The wait that is over; None where something else waits, or the call is not what its
            body waits for: then those have to be asked, and nothing was done.
        """
        wait = call.wait
        if wait is None or self.waiting or call.closed:
            return None
        if wait.interrupted or wait.passed_on or call.ending is not None:
            return None
        call.state = GIVEN
        call.closed = True
        self.open_calls -= 1
        # A plain sequence gains nothing that has to be said, as `_gained` would find out.
        is_next = self._sequential and self.count == self.position + 1 == self._creates
        if not is_next or call.position != self.position:
            self._gained((call.suffix,))
        self.position += 1
        self.at.clear()
        call.wait_over(wait)
        return wait

    @property
    def only_limits_wait(self) -> bool:
        """Whether every input that waits is a time limit (S11a) or the cancel of a task."""
        return bool(self.waiting) and all(map(_ends_something, self.waiting.values()))

    def next_batch(self) -> list[Input] | None:
        """What the quiescent body is given now, or None (S5). Moves the position."""
        elsewhere = self.kept_elsewhere() if self._kept else []
        for cancel in elsewhere:
            self.waiting[cancel.member] = cancel
        batch = self._take_batch()
        for cancel in elsewhere:
            self.waiting.pop(cancel.member, None)  # not now: its task may come to a wait first
        return batch

    def _take_batch(self) -> list[Input] | None:
        waiting = self.waiting
        if self._owed and self._owed.get(self.position, 0) > 0:
            return None
        log = self._log
        if log is not None and self.position < len(log):
            names = log[self.position]
            if any(name not in waiting for name in names):
                return None
            batch = [waiting.pop(name) for name in names]
        else:
            if not waiting:
                return None
            names = tuple(waiting)
            if log is not None:
                if self.arriving:
                    return None
                if not all(map(_is_result, waiting.values())):
                    names = self._next_by_time()
            batch = [waiting.pop(name) for name in names]
            self._gained(names)
        self.position += 1
        for given in batch:
            if isinstance(given, Call):
                given.state = GIVEN
            elif self._logged_interruptions:
                self._logged_interruptions.discard(given.member)
        return batch

    def _next_by_time(self) -> Batch:
        """What is given next where something was ended, behind the log of an earlier life.

        Nothing tells there what the body saw first, and all of it is known at once: first the
        results recorded before the first limit was reached or the first call was cut, then
        that, then the rest. A cancel whose time is not known, such as one from its caller,
        comes after all results that were recorded, but those of calls that were made after it
        came; and one that wins over the result of its wait is in the same batch, or the log
        would not show that it won.
        """
        ended = {n: self._ended_ms(n, m) for n, m in self.waiting.items() if not _is_result(m)}
        first_ms = min((at_ms for at_ms in ended.values() if at_ms is not None), default=None)
        earlier = tuple(
            name
            for name, member in self.waiting.items()
            if _is_result(member)
            and not _is_won_over(member)
            and (at_ms := _known_ms(member)) is not None
            and (first_ms is None or at_ms < first_ms)
        )
        if earlier or first_ms is None:
            return earlier or tuple(self.waiting)
        return tuple(name for name, at_ms in ended.items() if at_ms == first_ms)

    def _ended_ms(self, name: str, member: Input) -> int | None:
        """When it was given at the latest, as far as that is known."""
        at_ms = _known_ms(member)
        came_when = self._came.get(name) if self._came else None
        if at_ms is not None or came_when is None:
            return at_ms
        results = (m for m in self.waiting.values() if isinstance(m, Call) and _is_result(m))
        later = (_known_ms(call) for call in results if call.made_when > came_when)
        return min((later_ms for later_ms in later if later_ms is not None), default=None)

    # -- the end -----------------------------------------------------------------------

    def missing(self) -> str:
        """Name a recorded ask that was not made again, for a message; "" if there is none."""
        if not self._positions:
            return ""
        first = min(self._positions, key=lambda suffix: self._positions[suffix])  # type: ignore[index]
        return repr(f"{self.id}{self.joint}{first}")

    @property
    def is_held(self) -> bool:
        """Whether the body is given nothing only because a recorded ask was not made again."""
        return self._owed is not None and self._owed.get(self.position, 0) > 0

    def never_asked(self) -> list[Call]:
        """The calls that were made but never awaited or yielded; in program order."""
        last = [] if self._made is None else [self._made]
        return last if self.idle is None else [*self.idle, *last]

    def missing_error(self) -> NonDeterminismError:
        """The error that names the recorded ask which was not made again."""
        return NonDeterminismError(
            f"{self.id!r} no longer makes call {self.missing()}, which it made when it was "
            "recorded: the code changed while this execution was running. Finish it with the old "
            "code, or give the new code a new version"
        )


def _is_result(member: Input) -> bool:
    return isinstance(member, Call) and member.kind is not TIMEOUT


def _ends_something(member: Input) -> bool:
    """Whether it is a time limit or a cancel of a task: it runs nothing by itself."""
    return isinstance(member, CallersCancel | KeptCancel) or (
        isinstance(member, Call) and member.kind is TIMEOUT
    )


def _is_won_over(member: Input) -> bool:
    return isinstance(member, Call) and any(wait.interrupted for wait in member.waits)


def _known_ms(member: Input) -> int | None:
    """When an earlier life recorded it, or what came of it."""
    if isinstance(member, CallersCancel | KeptCancel):
        return None
    call = member if isinstance(member, Call) else member.call
    if call.kind is TIMEOUT:
        return call.timeout_at_ms
    if call.record is None or not (call is member or call.cut):
        return None
    return call.record.settled_at_ms
