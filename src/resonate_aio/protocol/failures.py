"""Errors as data (S51): what is stored of an error, and who gets it back.

A failure is stored as `{"__type": "error", "name", "message", "module", "args",
"attributes", "fields", "notes", "members", "cause"}`, what is empty left out (`"__type"`,
`"name"` and `"message"` as the official clients write them). `rebuild` makes an error of it.
"""

from __future__ import annotations

from typing import Any

from ..errors import (
    ApplicationError,
    ResonateCanceledError,
    ResonateTimedoutError,
    ValueCodecError,
)
from .rebuilding import BUILTIN_FIELDS, rebuild, slots_of
from .records import Promise, PromiseState, Value
from .values import decode, dump_models, encode

__all__ = ["describe", "failure_value", "outcome_error", "rebuild", "shown_error"]

_CAUSES = 5
_MEMBERS = 64
_MOST_ERRORS = 256
_SHOWN_CHARACTERS = 200


def failure_value(error: BaseException) -> Value:
    """The value a promise is rejected with because a function raised this error."""
    try:
        return Value(data=encode(describe(error)))
    except Exception:  # noqa: BLE001  a user's class: the failure itself must be recorded
        name, message = type(error).__qualname__, _text(error)
        return Value(data=encode({"__type": "error", "name": name, "message": message}))


def describe(error: BaseException) -> dict[str, Any]:
    """The error as JSON-able data: what cannot be encoded is left out or shown as text."""
    return _Description().of(error, _CAUSES)


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


def shown_error(error: BaseException) -> str:
    """The error for a log line or a message, whatever its class does when it is asked."""
    try:
        return _clean(repr(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  a user's __repr__
        return f"<{type(error).__name__} that cannot be shown>"


class _Description:
    """One error with its causes and members; bounded, for errors may hold one another."""

    def __init__(self) -> None:
        self._left = _MOST_ERRORS

    def of(self, error: BaseException, depth: int) -> dict[str, Any]:
        self._left -= 1
        kind = type(error)
        data: dict[str, Any] = {
            "__type": "error",
            "name": kind.__qualname__,
            "message": _text(error),
            "module": kind.__module__,
        }
        if kind is ApplicationError:
            _as_it_was(error, data)
        else:
            _put(data, "args", [_jsonable(item) for item in _arguments(error)])
            _put(data, "attributes", _attributes(error))
            _put(data, "fields", _builtin_fields(error))
        _put(data, "notes", [_clean(note) for note in _notes(error)])
        if isinstance(error, BaseExceptionGroup):
            data["message"] = _clean(str(error.message))
            _put(data, "members", self._several(error.exceptions[:_MEMBERS], depth))
        cause = error.__cause__
        if cause is not None:
            _put(data, "cause", next(iter(self._several((cause,), depth)), None))
        return data

    def _several(self, errors: tuple[BaseException, ...], depth: int) -> list[dict[str, Any]]:
        if depth == 0:
            return []
        return [self.of(error, depth - 1) for error in errors if self._left > 0]


def _put(data: dict[str, Any], key: str, item: Any) -> None:
    if item:
        data[key] = item


def _as_it_was(error: Any, data: dict[str, Any]) -> None:
    """An error whose class is not known here goes on as what it is elsewhere."""
    data["name"], data["message"] = _clean(str(error.name)), _clean(str(error.message))
    data["module"] = None
    _put(data, "attributes", _jsonable(error.attributes))


def _arguments(error: BaseException) -> tuple[Any, ...]:
    if isinstance(error, BaseExceptionGroup):
        return ()  # its members are kept as such
    return BaseException.args.__get__(error)  # type: ignore[attr-defined, no-any-return]


def _attributes(error: BaseException) -> dict[str, Any]:
    found = dict(vars(error))
    for name, slot in slots_of(type(error)).items():
        try:
            found[name] = slot.__get__(error)
        except AttributeError:
            continue  # never set
    return {
        name: _jsonable(item)
        for name, item in found.items()
        if isinstance(name, str) and not name.startswith("_")
    }


def _builtin_fields(error: BaseException) -> dict[str, Any]:
    """What builtin errors keep neither in `args` nor in `__dict__`."""
    return {
        name: _jsonable(item)
        for base, names in BUILTIN_FIELDS.items()
        if isinstance(error, base)
        for name in names
        if (item := getattr(error, name, None)) is not None
    }


def _notes(error: BaseException) -> list[str]:
    notes = vars(error).get("__notes__")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def _text(error: BaseException) -> str:
    try:
        return _clean(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  a user's __str__; the failure itself must be recorded
        return f"<{type(error).__name__} whose text cannot be made>"


def _clean(text: str) -> str:
    """The text without halves of surrogate pairs (file names that are no UTF-8 have them)."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _jsonable(value: Any) -> Any:
    try:
        return decode(encode(value))
    except ValueCodecError:
        if type(value) is str:
            return _clean(value)
        # The `repr` of a model shows what it leaves out when it is written.
        dumped = dump_models(value)
        return _shown(value) if dumped is None else dumped


def _shown(value: Any) -> str:
    try:
        return _clean(repr(value)[:_SHOWN_CHARACTERS])
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  a user's __repr__
        return f"<{type(value).__name__}>"
