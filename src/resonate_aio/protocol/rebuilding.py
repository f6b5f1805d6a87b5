"""Errors from stored data, without running anything that the data names (S51).

A class is looked up in the namespaces of modules and classes that this process has already
loaded, by plain dictionary access: no import, no attribute look-up, no call. Its instance
comes from the `__new__` of a builtin exception; `__init__` is not called. What this cannot
make (or must not: errors that steer asyncio) becomes an `ApplicationError`.
"""

from __future__ import annotations

import base64
import sys
from types import MemberDescriptorType, ModuleType
from typing import Any, Final

from ..errors import ApplicationError, ResonateError, ValueCodecError
from .values import encode

_FORBIDDEN: Final = (StopIteration, StopAsyncIteration, BaseExceptionGroup)
_CAUSES: Final = 5
_MEMBERS: Final = 64
_HEAP_TYPE: Final = 1 << 9  # a class that Python code (or a modern extension) made

BUILTIN_FIELDS: Final[dict[type[Exception], dict[str, type]]] = {
    OSError: {"errno": int, "strerror": str, "filename": str, "filename2": str},
    ImportError: {"name": str, "path": str},
    NameError: {"name": str},
    AttributeError: {"name": str},
    SyntaxError: {
        "msg": str,
        "filename": str,
        "lineno": int,
        "offset": int,
        "text": str,
        "end_lineno": int,
        "end_offset": int,
    },
}
"""What builtin errors keep in C: neither in `args` nor in `__dict__`."""

# The classes' own view of themselves, whatever a metaclass or a property would say.
_mro: Final = type.__dict__["__mro__"].__get__
_namespace: Final = type.__dict__["__dict__"].__get__
_flags: Final = type.__dict__["__flags__"].__get__
_base: Final = _namespace(BaseException)
_set_args: Final = _base["args"].__set__
_set_cause: Final = _base["__cause__"].__set__
_attributes_of: Final = _base["__dict__"].__get__


def rebuild(data: Any, depth: int = _CAUSES) -> Exception:
    """The error that stored data describes; never imports, never calls what the data names."""
    if not isinstance(data, dict):
        return ApplicationError("Exception", _as_text(data))
    known = data.get("message", data.get("__error__"))  # the latter as SDK 0.6.7 writes it
    if known is None and "__type" not in data:
        return ApplicationError("Exception", _as_text(data), data)  # somebody's own rejection
    name, message = _string(data.get("name"), "Exception"), _string(known, "")
    members = data.get("members") or data.get("errors")
    error: Exception
    if isinstance(members, list) and members and depth > 0:
        inner = [rebuild(item, depth - 1) for item in members[:_MEMBERS]]
        error = ExceptionGroup(message, inner)
    else:
        error = _one(data, name, message)
    notes = data.get("notes")
    if isinstance(notes, list) and notes:
        _attributes_of(error)["__notes__"] = [note for note in notes if isinstance(note, str)]
    cause = data.get("cause")
    if isinstance(cause, dict) and depth > 0:
        _set_cause(error, rebuild(cause, depth - 1))
    return error


def _one(data: dict[str, Any], name: str, message: str) -> Exception:
    module = data.get("module")
    kind = _loaded_class(module, name) if isinstance(module, str) else None
    arguments, attributes = data.get("args"), data.get("attributes")
    arguments = tuple(arguments) if isinstance(arguments, list) else ()
    attributes = attributes if isinstance(attributes, dict) else {}
    if kind is not None and message and not arguments and _shows_arguments(kind):
        arguments = (message,)  # as it would say it; not written by this library
    error = None if kind in (None, ApplicationError) else _instance(kind, arguments)
    if kind is None or error is None:
        return ApplicationError(name, message, attributes)
    if issubclass(kind, ResonateError):
        attributes = {"mesg": message, **attributes}
    _fill(kind, error, attributes)
    _fill_builtin(kind, error, data.get("fields"))
    return error


def _loaded_class(module: str, name: str) -> type[Exception] | None:
    """An exception class this process already has, found without running any code of it."""
    loaded = sys.modules.get(module)
    if type(loaded) is not ModuleType:
        return None
    namespace: Any = ModuleType.__getattribute__(loaded, "__dict__")
    found: Any = None
    for part in name.split("."):
        found = namespace.get(part)
        if not issubclass(type(found), type):
            return None
        namespace = _namespace(found)
    if not issubclass(found, Exception) or issubclass(found, _FORBIDDEN):
        return None
    return found  # type: ignore[no-any-return]


def _shows_arguments(kind: type[Exception]) -> bool:
    """Whether the text of its errors is made of their arguments alone, and not by a class."""
    shows = next(base for base in _mro(kind) if "__str__" in _namespace(base))
    return shows is BaseException


def _instance(kind: type[Exception], arguments: tuple[Any, ...]) -> Exception | None:
    """An instance on which no code of its class has run, or None."""
    for base in _mro(kind):
        make = _namespace(base).get("__new__")
        if make is None:
            continue
        if _flags(base) & _HEAP_TYPE:
            return None  # a `__new__` of its own
        error: Exception = make(kind)
        _set_args(error, arguments)
        if issubclass(kind, UnicodeError) and not _fill_unicode(kind, error, arguments):
            return None
        return error
    return None


def slots_of(kind: type[BaseException]) -> dict[str, Any]:
    """The `__slots__` that an exception's own classes have."""
    return {
        name: slot
        for base in _mro(kind)
        if _flags(base) & _HEAP_TYPE
        for name, slot in _namespace(base).items()
        if type(slot) is MemberDescriptorType
    }


def _fill(kind: type[Exception], error: Exception, attributes: dict[str, Any]) -> None:
    slots, held = slots_of(kind), _attributes_of(error)
    for name, item in attributes.items():
        if name in slots:
            slots[name].__set__(error, item)
        elif not name.startswith("_") and name not in _base:
            held[name] = item


def _fill_builtin(kind: type[Exception], error: Exception, fields: Any) -> None:
    if not isinstance(fields, dict):
        return
    for base, names in BUILTIN_FIELDS.items():
        if issubclass(kind, base):
            for name, expected in names.items():
                if type(fields.get(name)) is expected:
                    _namespace(base)[name].__set__(error, fields[name])


def _fill_unicode(kind: type[Exception], error: Exception, arguments: tuple[Any, ...]) -> bool:
    """The errors of codecs keep everything in C, and check what they are given."""
    for base in (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError):
        if not issubclass(kind, base):
            continue
        try:
            if base is UnicodeDecodeError:
                encoding, data, *rest = arguments
                arguments = (encoding, base64.b64decode(data, validate=True), *rest)
            make: Any = base.__init__
            make(error, *arguments)
        except (TypeError, ValueError):
            return False
        _set_args(error, arguments)
    return True


def _as_text(data: Any) -> str:
    if data is None:
        return "the promise was rejected without a value"
    if isinstance(data, str):
        return data
    try:
        return encode(data)
    except ValueCodecError:  # an encoder of the user's gave it
        return f"<{type(data).__name__}>"


def _string(value: Any, default: str) -> str:
    return value if isinstance(value, str) else default
