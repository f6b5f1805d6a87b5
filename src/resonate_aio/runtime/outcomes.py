"""Outcomes as values to store, and stored records as outcomes (law 3, S24, S51)."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

from ..errors import ApplicationError, ValueCodecError
from ..execution.call import Call
from ..execution.log import (
    CUT_BY_ITS_BODY,
    CUT_HEADER,
    LOGS_HEADER,
    OUTLIVED_HEADER,
    cut_header,
    logs_header,
)
from ..protocol.failures import failure_value, outcome_error, shown_error
from ..protocol.records import EMPTY, Promise, PromiseState, Value
from ..protocol.values import PLAIN_TYPES, Shape, decode, encode

CUT = Value(headers={CUT_HEADER: CUT_BY_ITS_BODY})
ENCODER_HEADER = "resonate-aio:encoder"
"""Header of a settled value: the name of the encoder that wrote it (K9)."""
_NOT_ERRORS = "ended by"
_OURS = __package__
_RESOLVED = PromiseState.RESOLVED
_SAID: set[str] = set()
_MOST_SAID = 1_000

logger = logging.getLogger("resonate_aio.runtime")


def settlement(
    value: Any, error: BaseException | None, shape: Shape, name: str, id: str
) -> tuple[PromiseState, Value, Any]:
    """State and value to record, and what the body gets: the decoded stored value (law 3).

    A result that cannot be stored, or not be rebuilt as annotated, is the step's failure.
    """
    if error is None:
        try:
            text = encode(value)
            if type(value) not in PLAIN_TYPES or not shape.is_plain_data:
                value = shape.seen(value, decode(text))
            return _RESOLVED, Value(None, text), value
        except ValueCodecError as refused:
            is_promise = hasattr(type(value), "created")
            why = "it is a promise: await it once more" if is_promise else refused
            error = ValueCodecError(f"the result of {name!r} ({id!r}) cannot be recorded: {why}")
    if not isinstance(error, Exception):
        error = ApplicationError(
            type(error).__name__, f"{name!r} ({id!r}) {_NOT_ERRORS} {shown_error(error)}"
        )
    _warn_if_local(type(error), name, id)
    return PromiseState.REJECTED, failure_value(error), None


def _warn_if_local(kind: type[Exception], name: str, id: str) -> None:
    """A class that no module holds cannot be found when the error is rebuilt (S51)."""
    key = f"{kind.__module__}.{kind.__qualname__}"
    if "<locals>" not in key or key in _SAID or len(_SAID) >= _MOST_SAID:
        return
    _SAID.add(key)
    logger.warning(
        "%r (%r) raised %s, a class defined inside a function: it cannot be found again, so those "
        "who wait get an ApplicationError of that name and `except %s` does not catch it. Define "
        "it at the top level of a module",
        name,
        id,
        kind.__qualname__,
        kind.__name__,
        extra={"id": id},
    )


def user_frames(error: BaseException | None) -> TracebackType | None:
    """Where the error was raised, from the first frame that is not ours."""
    trace = error.__traceback__ if error is not None else None
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith(_OURS):
        trace = trace.tb_next
    return trace


def is_encoded(record: Promise) -> bool:
    """Whether an encoder of the user's wrote the outcome."""
    headers = record.value.headers
    return headers is not None and ENCODER_HEADER in headers


def outcome_of(record: Promise, shape: Shape) -> tuple[Any, bool]:
    """What waiters of a settled promise get: (value, False) or (error, True)."""
    if record.state is PromiseState.RESOLVED:
        try:
            return shape.rebuild(decode(record.value.data)), False
        except ValueCodecError as error:
            return ValueCodecError(f"the value of promise {record.id!r}: {error}"), True
    return outcome_error(record), True


def volatile(call: Call, state: PromiseState, value: Value) -> Promise:
    """The outcome of a call with durable=False: it looks settled, but only here."""
    return Promise(call.id, state, call.timeout_at_ms, 0, EMPTY, value, {}, 0)


def cut_by(call: Call) -> Value:
    """What a call that an interruption ended is settled with (S10).

    Where the id is an explicit one, which others may have called too, it names the call, and
    those that had given it up before: nothing else tells them so after a crash.
    """
    if call.body is None or call.promise_id == call.id:
        return CUT
    return Value({CUT_HEADER: cut_header(one.id for one in (call, *(call.joiners or ())))})


def outlived(call: Call, value: Value) -> Value:
    """What a call is settled with that returned a value when it was cancelled (S10).

    An explicit id names the call: others may have called it, too.
    """
    by = CUT_BY_ITS_BODY if call.promise_id == call.id else cut_header((call.id,))
    return Value({**(value.headers or {}), OUTLIVED_HEADER: by}, value.data)


def with_logs(value: Value, logs: dict[str, str]) -> Value:
    """The value, and what led to it (S4)."""
    return Value({**(value.headers or {}), LOGS_HEADER: logs_header(logs)}, value.data)
