"""One body: the order in which a user's function is given its inputs (S1 to S11, S22).

One routine, on the first run and on replay alike (S5). A body has a log of batches, the
recorded asks it has not made again, and the set of results and interruptions that wait to
be given. When its shell finds the body quiescent, `next_batch` says what it is given next:
nothing while a recorded ask is owed; else the next batch of the log once all its members
are there; else everything that waits, which then becomes the log's next batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from ..errors import InternalError, NonDeterminismError
from ..protocol.records import Promise
from .call import ASKED, CALLED, ENDED, GIVEN, RUN, TIMEOUT, Call, CallersCancel, Wait
from .ids import segment
from .log import INTERRUPTION, LOG_HEADER, Asked, Batch, Recorded, log_header

if TYPE_CHECKING:
    from .execution import Execution


Input = Call | Wait | CallersCancel
"""What a body is given: a call's outcome, the interruption of a wait, its caller's cancel."""


class Interruption(Enum):
    """What becomes of a cancel that arrived at a wait (S10, S11)."""

    QUEUED = auto()  # it waits for its turn among the body's inputs
    KEPT = auto()  # it stays with its asyncio task until a later wait
    CANCEL_CHILD = auto()  # the call itself gets the cancel first


class Branch:
    """One asyncio task of a body, as far as ids go: it counts the calls made in it (S2)."""

    parent: Branch | None = None
    prefix: str = ""
    count: int = 0
    siblings: dict[str, int] | None = None
    is_unordered: bool = False

    def __init__(self, parent: Branch | None, prefix: str) -> None:
        self.parent = parent
        if parent is not None and parent.is_unordered:
            self.is_unordered = True
        self.body: Body = parent.body if parent is not None else self  # type: ignore[assignment]
        self.prefix = prefix

    def fork_unordered(self) -> Branch:
        """The branch of a task whose place among its siblings is luck: it makes no call (S3)."""
        branch = Branch(self, "")
        branch.is_unordered = True
        branch.body = None  # type: ignore[assignment]  # so that it is nobody's branch
        return branch

    def may_wait_in(self, body: Body) -> bool:
        """Whether a promise of the body may be awaited here: that takes no id."""
        if self.body is body:
            return True
        return self.is_unordered and self.parent is not None and self.parent.body is body

    def fork(self, qualname: str) -> Branch:
        """The branch of an asyncio task that is being created in this one."""
        if self.siblings is None:
            self.siblings = {}
        number = self.siblings[qualname] = self.siblings.get(qualname, 0) + 1
        return Branch(self, f"{self.prefix}{segment(self.count, qualname, number)}.")


_NOTHING: Final[dict[Any, Any]] = {}
"""What a leaf waits for and holds; never written to: `Body._open` comes first."""


class Body(Branch):
    """A user function being driven; it is itself the branch of its main asyncio task.

    Attributes:
        id: The id of the call it computes; `call` is that call.
        position: How many batches it was given.
        open_calls: Calls that must end before the body may (S22).
        waiting: The inputs that wait to be given (W), by member, in order of arrival.
        is_plain: Nothing is replayed and no cancel is kept: inputs are given as they come.
        is_owed: A recorded ask was not made again; at the body's end that is an error (S9a).
        live_tasks: How many asyncio tasks it has; `at` says which of them are at which wait.
        activity: Grows with every call and wait; what quiescence is judged by (S6).
        arriving: How many outcomes that earlier lives recorded are on their way to it.
        cancels: How often its caller passed a cancel on to it.
        joint: What stands between its id and its calls' suffixes (S61).
        unordered: Its creates may overtake each other on their way (S8).
    """

    # Defaults live on the class: most bodies are leaves and never set any of these.
    position: int = 0
    live_tasks: int = 0
    activity: int = 0
    open_calls: int = 0
    arriving: int = 0
    cancels: int = 0
    unawaited_failures: dict[str, Call] | None = None
    is_plain: bool = True
    is_owed: bool = False
    joint: str = "."
    unordered: bool = False
    _under_way: dict[tuple[str, int], Asked] | None = None
    _sequential: bool = True
    _creates: int = 0
    _gain_start: int = 0
    _log: list[Batch] | None = None
    _positions: dict[str, int] | None = None
    _owed: dict[int, int] | None = None
    _logged_interruptions: set[str] | None = None
    _kept: dict[Any, tuple[int, Wait | None]] | None = None
    _made: Call | None = None
    idle: dict[Call, None] | None = None
    waiting: dict[str, Input]
    _gain: list[Batch]
    at: dict[Any, Wait]

    def __init__(self, execution: Execution, call: Call) -> None:
        self.body = self
        self.execution = execution
        self.call = call
        self.id = call.promise_id

    def _open(self) -> None:
        """The first call: from now on the body has inputs, and they need room."""
        self.waiting = {}
        self.at = {}

    def remember(self, records: Iterable[Promise]) -> None:
        """Take over what an earlier life of this body recorded."""
        recorded = Recorded(self.id, records)
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

    # -- asking ------------------------------------------------------------------------

    def called(self, call: Call, branch: Branch) -> None:
        """A ctx call was made in this branch: it takes its id and its position (S1, S5)."""
        if self.waiting is _NOTHING:
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

    def headers_for(self, call: Call) -> dict[str, str] | None:
        """The log part of a new create's headers (S4), and the log is then carried.

        None while the body is a plain sequence: call, wait for it, next call. Where creates
        may overtake each other, the log counts as carried when one that has it is
        `acknowledged`; until then each repeats it, and names those before it (S8).
        """
        named = self._goes_out(call) if self.unordered else None
        if self._sequential:
            before = self.count - 1
            if call.position == before == self._creates and self.siblings is None and not named:
                self._creates += 1
                return None
            self._leave_sequence()
        header = log_header(call.position, self._gain_start, self._gain, named)
        if not self.unordered:
            self._gain = []
            self._gain_start = self.position
        return {LOG_HEADER: header}

    def _goes_out(self, call: Call) -> list[Asked]:
        """The asks that the create of this call has to name, as ranges."""
        if self._under_way is None:
            self._under_way = {}
        named = list(self._under_way.values())
        place, number = _place_of(call)
        asked = self._under_way.get(place)
        # Frozen values: `named` shows what was under way before this call.
        first = last = number
        waiting = 1
        if asked is not None:
            first, last = min(first, asked.first), max(last, asked.last)
            waiting += asked.waiting
        self._under_way[place] = Asked(place[0], first, last, call.position, waiting)
        call.carried = self.position
        return named

    def acknowledged(self, call: Call) -> None:
        """A create of an unordered body is durable: what it carried need not be repeated."""
        place, _ = _place_of(call)
        asked = self._under_way.get(place) if self._under_way else None
        if asked is None or call.carried < 0 or self._under_way is None:
            return
        if asked.waiting == 1:
            del self._under_way[place]
        else:
            self._under_way[place] = asked._replace(waiting=asked.waiting - 1)
        if not self._sequential and call.carried > self._gain_start:
            del self._gain[: call.carried - self._gain_start]
            self._gain_start = call.carried
        call.carried = -1

    def _leave_sequence(self) -> None:
        """From now on creates carry the log; what the last one left out is carried first."""
        self._sequential = False
        self._gain_start = self.position
        self._gain = []
        # Its create may be lost on the way, where creates overtake each other: said once more.
        if self.position and (self.unordered or self.position == self._creates):
            self._gain_start -= 1
            self._gain.append((str(self.position),))

    def _gained(self, names: Batch) -> None:
        """A new batch is about to be given: the next create carries it."""
        if self._sequential:
            is_next = self.count == self.position + 1 == self._creates
            if is_next and len(names) == 1 and names[0] == str(self.count):
                return
            self._leave_sequence()
        self._gain.append(names)

    # -- inputs ------------------------------------------------------------------------

    def arrived(self, call: Call) -> None:
        """The call's outcome is durable: it waits for its turn (unless it was cut)."""
        if call.state is not ASKED:
            raise InternalError(f"the outcome of {call.id!r} arrived in state {call.state}")
        call.state = ENDED
        if not call.closed and call.kind is not TIMEOUT:
            call.closed = True
            self.open_calls -= 1
        if call.failed and not call.waited and not call.cut:
            if self.unawaited_failures is None:
                self.unawaited_failures = {}
            self.unawaited_failures[call.suffix] = call
        if not call.cut:
            self.waiting[call.suffix] = call

    def closed(self, call: Call) -> None:
        """The body need not wait for this call to end (any more)."""
        if not call.closed and call.kind is not TIMEOUT:
            call.closed = True
            self.open_calls -= 1

    def wait_begun(self, wait: Wait, owner: Any) -> None:
        """A task of the body (`owner`, any hashable) suspends on a call."""
        self.at[owner] = wait
        self.activity += 1
        call = wait.call
        if call.waits is None:
            call.waits = [wait]
        else:
            call.waits.append(wait)
        if self.unawaited_failures and call.suffix in self.unawaited_failures:
            del self.unawaited_failures[call.suffix]

    def wait_over(self, wait: Wait, owner: Any) -> None:
        """The task is about to go on: with a result, an interruption, or because it dies."""
        del self.at[owner]
        if wait.call.waits:
            wait.call.waits.remove(wait)

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
    def is_replaying(self) -> bool:
        """Whether recorded batches are still to be given."""
        return self._log is not None and self.position < len(self._log)

    @property
    def has_input(self) -> bool:
        """Whether something waits to be given, or a kept cancel may now be let through."""
        return bool(self.waiting) or self._kept is not None

    def give_directly(self, call: Call) -> bool:
        """The call's outcome is durable, and the quiescent body is given it at once.

        The common case of `arrived` and `next_batch` in one; False where something else
        waits, or the call is not what its body waits for: then those two have to be asked.
        """
        if self.waiting or call.closed or not call.waits or call.waits[0].interrupted:
            return False
        if call.cancelled_by is not None:
            return False
        call.state = GIVEN
        call.closed = True
        self.open_calls -= 1
        self._gained((call.suffix,))
        self.position += 1
        return True

    @property
    def only_limits_wait(self) -> bool:
        """Whether every input that waits is a time limit (S11a) or its caller's cancel."""
        return bool(self.waiting) and all(map(_ends_something, self.waiting.values()))

    def next_batch(self) -> list[Input] | None:
        """What the quiescent body is given now, or None (S5). Moves the position."""
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
                if any(map(_ends_something, waiting.values())):
                    names = self._before_or_at_limits()
            batch = [waiting.pop(name) for name in names]
            self._gained(names)
        self.position += 1
        for given in batch:
            if isinstance(given, Call):
                given.state = GIVEN
            elif self._logged_interruptions:
                self._logged_interruptions.discard(given.member)
        return batch

    def _before_or_at_limits(self) -> Batch:
        """What is given next where a time limit was reached, behind the log of an earlier life.

        Nothing tells there what the body saw first, and all of it is known at once: first what
        was recorded before the limit was reached, then the limits, then the rest. A cancel from
        its caller, which may be due to a limit up there, comes after all that was recorded.
        """
        limits = {
            name: member.timeout_at_ms
            for name, member in self.waiting.items()
            if isinstance(member, Call) and member.kind is TIMEOUT
        }
        reached_ms = min(limits.values(), default=None)
        earlier = tuple(
            name
            for name, member in self.waiting.items()
            if isinstance(member, Call)
            and name not in limits
            and member.record is not None
            and member.record.settled_at_ms is not None
            and (reached_ms is None or member.record.settled_at_ms < reached_ms)
        )
        first = tuple(name for name, at_ms in limits.items() if at_ms == reached_ms)
        return earlier or first or tuple(self.waiting)

    # -- interruptions -----------------------------------------------------------------

    def interrupted(self, wait: Wait, owner: Any, cancelling: int) -> Interruption:
        """A cancel from inside the body arrived at this wait (S10 first, S11 on replay).

        Args:
            owner: The asyncio task that waits (any hashable).
            cancelling: Its count of cancel requests, by which a kept cancel is dropped.
        """
        if wait.interrupted:
            return Interruption.QUEUED
        if self.is_replaying:
            if self._logged_interruptions and wait.member in self._logged_interruptions:
                self._queue_interruption(wait)
                return Interruption.QUEUED
            self.keep(owner, cancelling)
            return Interruption.KEPT
        call = wait.call
        if wait.direct and call.kind is RUN and _outlived(call):
            # The cancel went to it in an earlier life, and it returned all the same (S10).
            self.keep(owner, cancelling, wait)
            return Interruption.KEPT
        if wait.direct and not call.is_ended and not call.cut:
            if call.kind is RUN:
                return Interruption.CANCEL_CHILD
            self.closed(call)
        self._queue_interruption(wait)
        return Interruption.QUEUED

    def cancel_from_caller(self) -> bool:
        """Its caller passes a cancel on to it: whether that waits for its turn (S5, S10).

        Of a body without other inputs, in this life and before, it is its turn at once.
        """
        self.cancels += 1
        cancel = CallersCancel(self.cancels)
        if self.waiting is _NOTHING:
            if self._log is None:
                self._gained((cancel.member,))
                self.position += 1
                return False
            self._open()
        self.waiting[cancel.member] = cancel
        return True

    def cut(self, wait: Wait) -> None:
        """The call this wait cancelled is settled as cut: the interruption takes its turn."""
        if not wait.interrupted:
            self._queue_interruption(wait)

    def is_being_cancelled(self, owner: Any) -> bool:
        """Whether a cancel is on its way to this task."""
        if self._kept is not None and owner in self._kept:
            return True
        wait = self.at.get(owner)
        if wait is None:
            return False
        return wait.interrupted or wait in (wait.call.cancelled_by or ())

    def keep(self, owner: Any, cancelling: int, past: Wait | None = None) -> None:
        """A cancel stays with its asyncio task, to be let through at a later wait.

        Args:
            past: The wait that is given its result all the same (S10): not at this one.
        """
        if self._kept is None:
            self._kept = {}
            self.is_plain = False
        self._kept[owner] = (cancelling, past)

    def kept_cancel(self, owner: Any, cancelling: int) -> bool:
        """Whether a cancel kept with this task is still wanted; it is taken out."""
        if not self._kept or owner not in self._kept:
            return False
        count, _ = self._kept.pop(owner)
        if not self._kept:
            self._kept = None
            self.is_plain = self._log is None
        return count <= cancelling

    def kept_owners(self) -> list[Any]:
        """The tasks whose kept cancel may now become a new interruption (the log is used up)."""
        if self.is_replaying or not self._kept:
            return []
        return [
            owner
            for owner, (_, past) in self._kept.items()
            if past is None or self.at.get(owner) is not past
        ]

    def _queue_interruption(self, wait: Wait) -> None:
        wait.interrupted = True
        self.waiting[wait.member] = wait

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


def _outlived(call: Call) -> bool:
    """Whether an earlier life recorded the call's outcome, and the body was not given it yet."""
    return (
        call.state is ENDED
        and not call.cut
        and call.record is not None
        and call.record.settled_at_ms is not None
    )


def _ends_something(member: Input) -> bool:
    return isinstance(member, CallersCancel) or (
        isinstance(member, Call) and member.kind is TIMEOUT
    )


def _place_of(call: Call) -> tuple[tuple[str, int], int]:
    """Branch and position of an ask, which a range of asks shares, and its number."""
    branch, dot, number = call.suffix.rpartition(".")
    return (branch + dot, call.position), int(number)


Body.waiting = _NOTHING
Body.at = _NOTHING
Body._gain = []
