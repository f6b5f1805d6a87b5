"""Errors as data, and back without importing or constructing anything foreign (S51).

A failure is stored as `{"__type": "error", "name", "message", "module", "args",
"attributes", "cause"}` (`"__type"`, `"name"` and `"message"` as the official clients write
them). On reading, the class is looked up in the namespace of a module that this process
has already loaded; the instance is made without calling the class. Everything else
becomes `ApplicationError`.
"""

from __future__ import annotations

import builtins
import sys
from typing import Any

from ..errors import (
    ApplicationError,
    ResonateCanceledError,
    ResonateTimedoutError,
    ValueCodecError,
)
from .records import Promise, PromiseState, Value
from .values import decode, encode

_FORBIDDEN = (StopIteration, StopAsyncIteration)
_CAUSES = 5
_MEMBERS = 64


def failure_value(error: BaseException) -> Value:
    """The value a promise is rejected with because a function raised this error."""
    return Value(data=encode(describe(error)))


def describe(error: BaseException, depth: int = _CAUSES) -> dict[str, Any]:
    """The error as JSON-able data: what cannot be encoded is left out or shown as text."""
    kind = type(error)
    data: dict[str, Any] = {
        "__type": "error",
        "name": kind.__qualname__,
        "message": _text(error),
        "module": kind.__module__,
    }
    if isinstance(error, ApplicationError):
        data["name"], data["message"], data["module"] = error.name, error.message, None
        data["attributes"] = _jsonable(error.attributes)
        return data
    arguments = [_jsonable(item) for item in error.args]
    if arguments and not isinstance(error, BaseExceptionGroup):
        data["args"] = arguments
    attributes = {
        name: _jsonable(item)
        for name, item in vars(error).items()
        if not name.startswith("_") and name != "add_note"
    }
    if attributes:
        data["attributes"] = attributes
    if depth > 0:
        if isinstance(error, BaseExceptionGroup):
            data["members"] = [describe(item, depth - 1) for item in error.exceptions[:_MEMBERS]]
            data["message"] = error.message
        cause = error.__cause__
        if cause is not None:
            data["cause"] = describe(cause, depth - 1)
    return data


def rebuild(data: Any, depth: int = _CAUSES) -> Exception:
    """The error that stored data describes; never imports, never calls what the data names."""
    if not isinstance(data, dict):
        return ApplicationError("Exception", data if isinstance(data, str) else encode(data))
    name, message = _string(data.get("name"), "Exception"), _string(data.get("message"), "")
    members = data.get("members")
    error: Exception
    if isinstance(members, list) and members and depth > 0:
        inner = [rebuild(item, depth - 1) for item in members[:_MEMBERS]]
        error = ExceptionGroup(message, inner)
    else:
        error = _rebuild_one(data, name, message)
    cause = data.get("cause")
    if isinstance(cause, dict) and depth > 0:
        error.__cause__ = rebuild(cause, depth - 1)
    return error


def outcome_error(promise: Promise) -> Exception:
    """The error that waiters of a rejected promise get."""
    if promise.state is PromiseState.CANCELED:
        return ResonateCanceledError(promise.id)
    if promise.state is PromiseState.TIMEDOUT:
        return ResonateTimedoutError(promise.id, promise.timeout_at_ms)
    try:
        return rebuild(decode(promise.value.data))
    except ValueCodecError as error:
        return ApplicationError("Exception", f"unreadable error of {promise.id!r}: {error}")


def _rebuild_one(data: dict[str, Any], name: str, message: str) -> Exception:
    kind = _loaded_class(data.get("module"), name)
    attributes = data.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    if kind is None:
        return ApplicationError(name, message, attributes)
    arguments = data.get("args")
    arguments = tuple(arguments) if isinstance(arguments, list) else ()
    try:
        # `kind` has no `__new__` of its own: this is a builtin's, which runs no foreign code.
        error = kind.__new__(kind, *arguments)
    except (TypeError, ValueError):
        return ApplicationError(name, message, attributes)
    error.args = arguments
    error.__dict__.update({key: item for key, item in attributes.items() if isinstance(key, str)})
    return error


def _loaded_class(module: Any, name: str) -> type[Exception] | None:
    """An exception class this process already has, found without running any code of it."""
    if not isinstance(module, str):
        return None
    namespace: Any = sys.modules.get(module)
    if namespace is None or type(namespace) is not type(builtins):
        return None
    found: Any = vars(namespace)
    for part in name.split("."):
        if isinstance(found, type):
            found = type.__getattribute__(found, "__dict__")
        try:
            found = found.get(part)
        except AttributeError:
            return None
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    if issubclass(found, (*_FORBIDDEN, BaseExceptionGroup)):
        return None
    own_new = any(
        "__new__" in vars(base) for base in found.__mro__ if base.__module__ != "builtins"
    )
    return None if own_new else found


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  a user's __str__; the failure itself must be recorded
        return f"<{type(error).__name__} whose text cannot be made>"


def _jsonable(value: Any) -> Any:
    try:
        return decode(encode(value))
    except ValueCodecError:
        try:
            return repr(value)[:200].encode("utf-8", "replace").decode()
        except Exception:  # noqa: BLE001  as above: a user's __repr__
            return f"<{type(value).__name__}>"


def _string(value: Any, default: str) -> str:
    return value if isinstance(value, str) else default
