"""Live values as plain JSON data (S24).

`convert` is what the JSON writer calls for the values it does not know; `plain` does the
whole of it in Python: slower, but it names the place of what it refuses, and knows what the
writer refuses or would silently change (keys that are no strings, integers beyond 64 bits,
NaN). Nothing here reads stored data.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec
import orjson

from . import models

WRITER_OPTIONS = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS  # the writer would leave out fields that begin with "_"
    | orjson.OPT_PASSTHROUGH_DATETIME  # and round an offset from UTC to minutes
)
_DEEPEST = 254  # as the writer has it
_TOO_LARGE = 10**4_000  # Python itself reads and writes 4,300 digits, unless it is told less
_TOO_LARGE_BITS = _TOO_LARGE.bit_length()
_MINUTE = timedelta(minutes=1)
_NOTHING = timedelta(0)
_SHOWN_PARTS = 12


class Refused(Exception):  # noqa: N818  it never leaves the room: a ValueCodecError does
    """A value, or something inside it, has no faithful JSON form.

    Attributes:
        reason: What is wrong with it.
        place: Where it is, from the inside out: keys, indexes and field names.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place: list[str] = []

    def __str__(self) -> str:
        where = "".join(reversed(self.place[-_SHOWN_PARTS:]))
        if len(self.place) > _SHOWN_PARTS:
            where += "…"
        return f"{self.reason} (at {where})" if where else self.reason


def convert(value: Any) -> Any:
    """One step towards plain data, for a value that the JSON writer does not know.

    Raises:
        Refused: There is none.
    """
    kind = type(value)
    known = _BY_CLASS.get(kind)
    if known is not None:
        return known(value)
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass(value, kind)
    for base, conversion in _BY_BASE:
        if isinstance(value, base):
            return conversion(value)
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if models.is_model(kind):
        return _model(value)
    raise Refused(f"{_a(kind.__name__)} has no JSON form{_advice(value)}")


def plain(value: Any, depth: int = 0) -> Any:
    """The value as data of the JSON types alone, integers of any size among them.

    Raises:
        Refused: Something in it has no faithful JSON form.
    """
    if depth > _DEEPEST:
        raise Refused(f"it is nested more than {_DEEPEST} levels deep, or contains itself")
    kind = type(value)
    if value is None or kind is bool:
        return value
    conversion = _IN_FULL.get(kind)
    if conversion is not None:
        return conversion(value, depth)
    if isinstance(value, Enum):
        return plain(value.value, depth + 1)
    if kind is UUID:
        return str(value)
    return plain(convert(value), depth + 1)


def sort_key(value: Any) -> bytes:
    """What the members of a set are ordered by: their own JSON text."""
    return orjson.dumps(value, convert, _SORTED)


_SORTED = WRITER_OPTIONS | orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


# --------------------------------------------------------------- one step, for the JSON writer


def _dataclass(value: Any, kind: Any) -> dict[str, Any]:
    names = kind.__dataclass_fields__
    held: dict[str, Any] | None = getattr(value, "__dict__", None)
    if held is not None and held.keys() == names.keys():
        return held
    fields = (field.name for field in dataclasses.fields(kind))
    return _without_unset((name, getattr(value, name)) for name in fields)


def _struct(value: msgspec.Struct) -> dict[str, Any] | list[Any]:
    kind = type(value)
    config = kind.__struct_config__
    values = [getattr(value, name) for name in kind.__struct_fields__]
    if config.array_like:
        return values if config.tag is None else [config.tag, *values]
    data = _without_unset(zip(kind.__struct_encode_fields__, values, strict=True))
    if config.tag is None:
        return data
    return {str(config.tag_field): config.tag, **data}


def _without_unset(items: Any) -> dict[str, Any]:
    return {name: value for name, value in items if value is not msgspec.UNSET}


def _model(value: Any) -> Any:
    data = models.dump(value)
    lost = models.loss(value, data)
    if lost is None:
        return data
    plain(data)  # raises, with the place, for what has no JSON form whoever reads it
    refused = Refused(lost[0])
    refused.place += lost[1]
    raise refused


def _deque(value: deque[Any]) -> list[Any]:
    if value.maxlen is not None:
        raise Refused("a deque's maxlen is not stored: pass list(...) of it")
    return list(value)


def _moment(value: datetime | time) -> str:
    if value.tzinfo is not None and (value.utcoffset() or _NOTHING) % _MINUTE:
        raise Refused(f"{value!r} is not a whole number of minutes from UTC")
    return value.isoformat()


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode()


def _sorted(value: Any) -> list[Any]:
    try:
        return sorted(value, key=sort_key)
    except TypeError:
        return list(value)  # `plain` says what is wrong with it, or can do it


_TO_BUILTINS: Callable[[Any], Any] = msgspec.to_builtins

_BY_CLASS: dict[type, Callable[[Any], Any]] = {
    datetime: _moment,
    date: date.isoformat,
    time: _moment,
    timedelta: _TO_BUILTINS,
    bytes: _base64,
    bytearray: _base64,
    memoryview: _base64,
    set: _sorted,
    frozenset: _sorted,
    Decimal: str,
    deque: _deque,
}

# Subclasses; those of the plain types become their plain value.
_BY_BASE: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (msgspec.Struct, _struct),
    (datetime, _moment),
    (date, date.isoformat),
    (time, _moment),
    (timedelta, _TO_BUILTINS),
    ((bytes, bytearray), _base64),
    ((set, frozenset), _sorted),
    (Decimal, Decimal.__str__),
    (PurePath, str),
    (UUID, UUID.__str__),
    (dict, dict),
    (deque, _deque),
    ((list, tuple), list),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)


# ------------------------------------------------------------------------- the whole of it


def _dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, item in value.items():
        name = key if type(key) is str else _key(key)
        if name in made:
            raise Refused(f"two keys of a dict are both {name!r} in JSON, one of them is {key!r}")
        try:
            made[_text(name)] = plain(item, depth + 1)
        except Refused as refused:
            refused.place.append(f"[{name!r}]")
            raise
    return made


def _key(key: Any) -> str:
    """The name that JSON has for a key which is no string."""
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, int) and not isinstance(key, bool):
        return str(_integer(int(key)))
    if isinstance(key, float):
        return orjson.dumps(_finite(float(key))).decode()
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, bool):
        return orjson.dumps(key).decode()
    if isinstance(key, datetime | date | time | UUID):
        return str(plain(key))
    raise Refused(f"a dict has a key of type {type(key).__name__}: JSON keys are strings")


def _list(value: Any, depth: int) -> list[Any]:
    made = []
    for index, item in enumerate(value):
        try:
            made.append(plain(item, depth + 1))
        except Refused as refused:
            refused.place.append(f"[{index}]")
            raise
    return made


def _set(value: Any, depth: int) -> list[Any]:
    return sorted((plain(item, depth + 1) for item in value), key=_plain_key)


def _plain_key(value: Any) -> bytes:
    try:
        return sort_key(value)
    except TypeError:
        return repr(value).encode()  # integers beyond 64 bits


def _text(value: str, _: int = 0) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused(f"{value[:50]!a} holds half of a surrogate pair") from None
    return value


def _integer(value: int, _: int = 0) -> int:
    if value.bit_length() >= _TOO_LARGE_BITS and abs(value) >= _TOO_LARGE:
        raise Refused("an integer has more than 4,000 digits")
    return value


def _finite(value: float, _: int = 0) -> float:
    if not math.isfinite(value):
        raise Refused(f"JSON has no {value!r}: use None or a string")
    return value


_IN_FULL: dict[type, Callable[[Any, int], Any]] = {
    str: _text,
    int: _integer,
    float: _finite,
    dict: _dict,
    list: _list,
    tuple: _list,
    set: _set,
    frozenset: _set,
}


def _a(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _advice(value: Any) -> str:
    if models.is_secret(value):
        return f", and {models.ON_SECRETS}"
    if hasattr(value, "cr_frame") or hasattr(value, "__await__"):
        return ": is an `await` missing?"
    if hasattr(value, "__next__"):
        return ": make a list of it"
    if isinstance(value, BaseException):
        return ": raise it, or keep what it says"
    if isinstance(value, type) or callable(value):
        return ": keep its name"
    return ": use plain data, a dataclass, a msgspec Struct or a pydantic model"
