"""Records of SDK release 0.6.7 as the legacy server would write them, and its errors' meaning.

Pure: attributes are read, nothing is called. The release's own classes are not needed: what
counts is what an object has.
"""

from __future__ import annotations

from typing import Any, Final

from ...protocol.wire_records import data_to_wire
from ..http.answers import TroubleError

_KNOWN: Final = frozenset({400, 403, 404, 409, 412, 413, 422})


def promise_to_rest(promise: Any) -> dict[str, Any]:
    """A `DurablePromise` as the server's JSON object.

    Raises:
        TroubleError: It holds what no promise can.
    """
    try:
        state, settled_at_ms = str(promise.state), promise.completed_on
        if settled_at_ms is None and state != "PENDING":
            settled_at_ms = promise.timeout  # that release leaves it out where the deadline came
        return {
            "id": promise.id,
            "state": state,
            "timeout": promise.timeout,
            "param": _value(promise.param),
            "value": _value(promise.value),
            "tags": promise.tags or {},
            "createdOn": promise.created_on,
            "completedOn": settled_at_ms,
        }
    except AttributeError as error:
        raise TroubleError(f"no promise of release 0.6.7: {error}") from error


def schedule_to_rest(schedule: Any) -> dict[str, Any]:
    """A `Schedule` as the server's JSON object.

    Raises:
        TroubleError: It lacks what a schedule has.
    """
    try:
        return {
            "id": schedule.id,
            "cron": schedule.cron,
            "promiseId": schedule.promise_id,
            "promiseTimeout": schedule.promise_timeout,
            "promiseParam": _value(schedule.promise_param),
            "promiseTags": schedule.promise_tags or {},
            "createdOn": schedule.created_on,
            "lastRunTime": schedule.last_runtime,
            "nextRunTime": schedule.next_runtime,
        }
    except AttributeError as error:
        raise TroubleError(f"no schedule of release 0.6.7: {error}") from error


def callback_to_rest(callback: Any) -> dict[str, Any] | None:
    """Whether a callback was made is all that is asked of it."""
    return None if callback is None else {}


def _value(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    rest: dict[str, Any] = {}
    if value.headers is not None:
        rest["headers"] = value.headers
    if value.data is not None:
        if not isinstance(value.data, str):
            raise TroubleError(f"data that is no text: {type(value.data).__name__}")
        rest["data"] = data_to_wire(value.data)
    return rest


def status_of(error: Exception) -> int | None:
    """The HTTP status of an error that is the store's answer; None for one that is trouble.

    That release writes the server's five digits behind a point: 100.40400 is 404 of the server.
    """
    code = getattr(error, "code", None)
    if isinstance(code, bool) or not isinstance(code, int | float):
        return None
    digits = int(f"{code:.5f}".partition(".")[2]) if isinstance(code, float) else code
    status = digits // 100 if digits >= 10_000 else digits
    return status if status in _KNOWN else None
