"""One execution: a top-level call and everything it runs locally under one lease.

Holds what was recorded in earlier lives and decides, for each call that a body asks for,
whether it is new, recorded, cut or still to be driven (laws 2, 5; S10, S43).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Final

from ..protocol.records import Promise, PromiseState, is_pending
from .body import Body
from .call import Call
from .fingerprint import check, check_place
from .ids import body_of
from .log import (
    CUT_HEADER,
    EXPLICIT_HEADER,
    LOGS_HEADER,
    OUTLIVED_HEADER,
    VOLATILE_HEADER,
    is_cut_of,
    logs_of,
)
from .volatile import AFTER_CANCEL, Ending


class Decision(Enum):
    """What a shell does with a call that was just asked."""

    CREATE = auto()  # nothing is recorded: create its promise, then act by its kind
    LOGGED = auto()  # a log record stands for it (S4): see to that, then act by its own promise
    DRIVE = auto()  # recorded, still pending, and run here: drive it (again)
    WATCH = auto()  # recorded, still pending, and settled by others or by its deadline
    LOAD = auto()  # as DRIVE, but others ran it: what they recorded has to be known first
    OVERDUE = auto()  # recorded, still pending, but past its deadline: it is not driven again
    RECORDED = auto()  # its outcome is recorded: it arrives at once
    NOTHING = auto()  # it was cut: it stays pending until the program cancels it again


class Life(Enum):
    """Whether the frames of an execution may still record."""

    ALIVE = auto()
    DROPPED = auto()  # stop, lost lease, an error of ours: the work goes on elsewhere or later
    CANCELED = auto()  # its promise was settled from outside (S13)


ALIVE: Final = Life.ALIVE
CREATE: Final = Decision.CREATE
DRIVE: Final = Decision.DRIVE
WATCH: Final = Decision.WATCH


_NO_RECORDS: Final[dict[str, Promise]] = {}
_NO_BODIES: Final[dict[str, list[Promise]]] = {}


class Execution:
    """The durable state of one held task, as this process knows it.

    Attributes:
        id: The root promise's id.
        remembers: Whether bodies that begin may find records of an earlier life.
        version: The task's version: the fence of every write.
        joint: What stands between its id and its calls' suffixes (S61).
        life: Whether its frames may still record.
        bodies: Every live body, held strongly (S30); ordered by start.
        settled_outside: Ids of calls that others settled before their functions began here.
    """

    __slots__ = (
        "_by_body",
        "_carried",
        "_logs",
        "_records",
        "bodies",
        "error",
        "id",
        "joint",
        "life",
        "remembers",
        "root",
        "settled_outside",
        "version",
    )

    def __init__(self, id: str, version: int, root: Call) -> None:
        self.id = id
        self.version = version
        self.root = root
        self.life = ALIVE
        self.joint = "."
        self.bodies: dict[Body, Body] = {}
        self.settled_outside: set[str] | None = None
        self.error: BaseException | None = None
        self._records: dict[str, Promise] = _NO_RECORDS
        self._by_body: dict[str, list[Promise]] = _NO_BODIES
        self._carried: list[tuple[str, str]] = []
        self._logs: dict[str, list[str]] = {}
        self.remembers = False

    def remember(self, records: Iterable[Promise]) -> None:
        """Take over what earlier lives recorded (S9)."""
        records = list(records)
        named = [id for promise in records if (id := _names(promise)) is not None]
        self._records, self._by_body, self._carried = {}, {}, []
        self._take_over(records, [(self.id, self.joint), *((id, ".") for id in named)])

    def remember_below(self, explicit_id: str, records: Iterable[Promise]) -> None:
        """Take over what others recorded of a call under an explicit id, which goes on here.

        Args:
            records: All there is for this execution; this takes what belongs to the call.
        """
        records = list(records)
        trees = [explicit_id]
        found: dict[str, Promise] = {}
        for tree in trees:  # which grows
            for promise in records:
                if promise.id not in found and body_of(promise.id, tree) is not None:
                    found[promise.id] = promise
                    if (named := _names(promise)) is not None:
                        trees.append(named)
        found.update((promise.id, promise) for promise in records if promise.id in trees[1:])
        self._records, self._by_body = dict(self._records), dict(self._by_body)
        self._take_over(found.values(), [(tree, ".") for tree in trees])

    def _take_over(self, records: Iterable[Promise], roots: list[tuple[str, str]]) -> None:
        self.remembers = True
        by_body: dict[str, list[Promise]] = {}
        for promise in records:
            self._records[promise.id] = promise
            self._carried += _logs_in(promise)
            for root, joint in roots:
                body = body_of(promise.id, root, joint)
                if body is not None:
                    by_body.setdefault(body, []).append(promise)
                    break
        self._by_body.update(by_body)

    def begin(self, body: Body) -> None:
        """A body starts: it takes over what was recorded of it.

        Raises:
            NonDeterminismError: What was recorded cannot be read.
        """
        if self._carried:
            for id, header in self._carried:
                for logged, log in logs_of(id, header).items():
                    self._logs.setdefault(logged, []).append(log)
            self._carried = []
        recorded = self._by_body.pop(body.id, None)
        if recorded is not None:
            body.remember(recorded, self._logs.pop(body.id, ()))

    def end(self, body: Body) -> None:
        """A body is over."""
        self.bodies.pop(body, None)

    def next_is_recorded(self, body: Body) -> bool:
        """Whether the body's next call in its main task is recorded (S40: no retry delay)."""
        return f"{body.id}{body.joint}{body.count + 1}" in self._records

    def recall(self, call: Call, where: Callable[[], str], now_ms: int) -> Decision:
        """Decide what an asked call needs, from what is recorded under its id.

        Raises:
            NonDeterminismError: Another kind, function, version, arguments, explicit id or
                durability are recorded.
        """
        if not self._records:
            return CREATE
        record = self._records.pop(call.id, None)
        if record is None:
            return CREATE
        return self.adopt(call, record, where, now_ms)

    def recall_explicit(self, call: Call, now_ms: int) -> Decision:
        """The same for the promise of an explicit id, after its log record was dealt with."""
        record = self._records.pop(call.promise_id, None)
        return CREATE if record is None else self.by_state(call, record, now_ms)

    def recall_volatile(self, call: Call, now_ms: int) -> Decision:
        """The same for a call that has no promise: the log of its body tells how it ended."""
        assert call.body is not None  # a root is durable
        ending = call.ending = call.body.ending_of(call)
        call.outlived = ending in AFTER_CANCEL
        if ending is Ending.CUT:
            call.cut = True
            return Decision.NOTHING
        if ending is Ending.RETURNED or call.outlived:
            call.timeout_at_ms = call.body.call.timeout_at_ms  # it kept its own
        is_over = ending is Ending.TIMED_OUT or call.timeout_at_ms <= now_ms
        return Decision.OVERDUE if is_over else DRIVE

    def adopt(self, call: Call, record: Promise, where: Callable[[], str], now_ms: int) -> Decision:
        """The store holds this record under the call's id: check it and go by its state."""
        check(record, call.fingerprint, call.data, where, arguments_count=call.arguments_count)
        explicit_id = call.promise_id if call.promise_id != call.id else None
        check_place(record, explicit_id, where, durable=call.durable)
        headers = record.param.headers or {}
        if EXPLICIT_HEADER in headers or VOLATILE_HEADER in headers:
            call.record = record
            call.timeout_at_ms = record.timeout_at_ms
            return Decision.LOGGED
        return self.by_state(call, record, now_ms)

    def by_state(self, call: Call, record: Promise, now_ms: int) -> Decision:
        """Go by the state of the record that stands for the call."""
        call.record = record
        call.timeout_at_ms = record.timeout_at_ms
        if is_pending(record):
            if not call.runs_here:
                return WATCH
            return Decision.OVERDUE if record.timeout_at_ms <= now_ms else DRIVE
        if is_cut(record, call):
            call.cut = True
            return Decision.NOTHING
        call.outlived = outlived_cancel(record, call)
        return Decision.RECORDED


def is_cut(record: Promise, call: Call) -> bool:
    """Whether the promise was settled because an interruption ended the call (S10).

    An id that others call too may have been cut by one of them: the call is told that it was
    canceled, because nothing in its own body would ever end its wait.
    """
    if record.state is not PromiseState.CANCELED:
        return False
    return is_cut_of(call.id, (record.value.headers or {}).get(CUT_HEADER))


def outlived_cancel(record: Promise, call: Call) -> bool:
    """Whether a cancel from its own body reached the call, and it returned a value (S10)."""
    headers = record.value.headers
    return headers is not None and is_cut_of(call.id, headers.get(OUTLIVED_HEADER))


def _names(record: Promise) -> str | None:
    """The explicit id that a log record names."""
    return (record.param.headers or {}).get(EXPLICIT_HEADER)


def _logs_in(record: Promise) -> list[tuple[str, str]]:
    """What a record carries of logs that are not its own body's, or came with its settlement."""
    headers = [record.param.headers]
    value = record.value.headers
    # As we settle what was cut, left, or outlived its cancel: none else.
    if value and (record.state is PromiseState.CANCELED or OUTLIVED_HEADER in value):
        headers.append(value)
    return [(record.id, given[LOGS_HEADER]) for given in headers if given and LOGS_HEADER in given]
