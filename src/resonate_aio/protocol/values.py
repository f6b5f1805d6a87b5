"""Values as JSON text, and back by annotation (DESIGN §3, S24, S29).

What a program sees on its first run is what its stored text decodes to, so that first run
and replay cannot differ. `encode` refuses what JSON would silently change (NaN, infinity,
non-string keys of mixed kinds); `Shape` rebuilds the types an annotation names.
Nothing here imports, calls or looks up anything that the data names.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import inspect
import json
import math
import re
import sys
import types
import typing
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any

import msgspec
import orjson

from ..errors import ValueCodecError

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS
_CANONICAL = _OPTIONS | orjson.OPT_SORT_KEYS
PLAIN_TYPES = frozenset({int, str, bool, type(None)})
_NATIVE = frozenset({int, float, str, bool, type(None), dict, list, Any, object, None})
_BIG = 1 << 63
_BIG_DIGITS = 19
_BIG_INTEGER = re.compile(rf"\d{{{_BIG_DIGITS},}}")
_SHOWN_CHARACTERS = 200


def encode(value: Any) -> str:
    """Encode a value as JSON text.

    Raises:
        ValueCodecError: The value, or something inside it, has no faithful JSON form.
    """
    try:
        # `.decode()` at once: what dumps returns keeps a whole block alive (speed.md trap 1).
        text = orjson.dumps(value, _default, _OPTIONS).decode()
    except (TypeError, ValueError, RecursionError) as error:
        text = _encode_slowly(value, error)
    if "null" in text:
        _refuse_non_finite(value)
    return text


def are_plain(values: tuple[Any, ...]) -> bool:
    """Whether every value is plain."""
    for value in values:  # noqa: SIM110  a generator costs more than all else here
        if type(value) not in PLAIN_TYPES:
            return False
    return True


def canonical(text: str) -> bytes:
    """The JSON text with its keys sorted: what a fingerprint is taken over (S43)."""
    if "{" not in text:
        return text.encode()
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError):
        return json.dumps(json.loads(text), sort_keys=True).encode()


def decode(text: str | None) -> Any:
    """Decode JSON text into plain data; no text is None.

    Raises:
        ValueCodecError: The text is not JSON, or nested too deep.
    """
    if text is None or text == "":
        return None
    try:
        # orjson reads integers beyond 64 bits as floats; the standard library keeps them.
        if len(text) < _BIG_DIGITS or _BIG_INTEGER.search(text) is None:
            return orjson.loads(text)
        return json.loads(text)
    except (ValueError, RecursionError):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueCodecError(f"stored data is not JSON ({error}): {shown(text)}") from None


def shown(text: str) -> str:
    """The text cut to a length fit for a message, control characters escaped."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return cut.encode("unicode_escape").decode() if not cut.isprintable() else cut


class Shape:
    """How to rebuild the values of one annotation from plain JSON data.

    Args:
        annotation: A resolved type, or `inspect.Parameter.empty` for none.
    """

    __slots__ = ("_annotation", "_convert")

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._convert = None if _is_native(annotation) else _converter(annotation)

    @property
    def is_plain_data(self) -> bool:
        """Whether decoded JSON is already what the annotation asks for."""
        return self._convert is None

    def rebuild(self, data: Any) -> Any:
        """Rebuild one value.

        Raises:
            ValueCodecError: The data does not fit the annotation.
        """
        if self._convert is None:
            return data
        try:
            return self._convert(data)
        except (msgspec.ValidationError, ValueError, TypeError, ArithmeticError) as error:
            raise ValueCodecError(
                f"stored value does not fit {_name(self._annotation)}: {error}"
            ) from error


def shape_of_value(value: Any) -> Shape:
    """The shape of a live value without annotation: its own class, where that helps (S29)."""
    kind = type(value)
    return PLAIN_SHAPE if kind in _NATIVE or _is_native(kind) else Shape(kind)


def _default(value: Any) -> Any:
    """What orjson does not know: sets, bytes, decimals, paths, structs, models, subclasses."""
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)
    kind = type(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump = getattr(kind, "model_dump", None)
    if dump is not None:
        return dump(value, mode="json")
    raise TypeError(f"{kind.__name__} has no JSON form")


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode()


def _sorted(value: Any) -> list[Any]:
    return sorted(value, key=_sort_key)


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _enum_value(value: Enum) -> Any:
    return value.value


_CONVERSIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, _enum_value),
    ((bytes, bytearray, memoryview), _base64),
    ((set, frozenset), _sorted),
    ((Decimal, PurePath), str),
    (timedelta, msgspec.to_builtins),
    (tuple, list),
    (msgspec.Struct, _fields),
    # Subclasses of the plain types: their plain value.
    (dict, dict),
    (list, list),
    (str, str.__str__),
    (bool, bool),
    (int, int),
    (float, float),
)


def _sort_key(value: Any) -> bytes:
    return orjson.dumps(value, _default, _CANONICAL)


def _encode_slowly(value: Any, error: Exception) -> str:
    """Integers beyond 64 bits are JSON all the same; everything else is refused by name."""
    if isinstance(error, RecursionError) or "recursion" in str(error).lower():
        raise ValueCodecError("value is nested too deep to be stored as JSON") from error
    try:
        plain = msgspec.to_builtins(value, enc_hook=_default, str_keys=True)
        if not _has_big_integer(plain):
            raise ValueError(error)
        text = json.dumps(plain, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.ValidationError):
        reason = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ValueCodecError(
            f"{type(value).__name__} value cannot be stored as JSON: {reason}"
        ) from error
    return text


def _has_big_integer(data: Any) -> bool:
    if isinstance(data, int):
        return not -_BIG <= data < 2 * _BIG
    if isinstance(data, dict):
        return any(map(_has_big_integer, data.values()))
    return isinstance(data, list | tuple) and any(map(_has_big_integer, data))


def _refuse_non_finite(value: Any) -> None:
    """JSON writers turn NaN and infinity into null; that would be another value on replay."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueCodecError(f"{value!r} cannot be stored as JSON; use None or a string")
    elif isinstance(value, dict):
        for item in value.values():
            _refuse_non_finite(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _refuse_non_finite(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _refuse_non_finite(getattr(value, field.name))
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _refuse_non_finite(getattr(value, name))


def _is_native(annotation: Any) -> bool:
    """Whether plain JSON data is already what the annotation describes."""
    if annotation is inspect.Parameter.empty or isinstance(annotation, str | typing.TypeVar):
        return True
    try:
        if annotation in _NATIVE:
            return True
    except TypeError:
        return False
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (list, collections.abc.Sequence, collections.abc.Iterable):
        return all(map(_is_native, arguments))
    if origin in (dict, collections.abc.Mapping):
        return len(arguments) == 2 and arguments[0] in (str, Any) and _is_native(arguments[1])
    if origin in (typing.Union, types.UnionType):
        return all(map(_is_native, arguments))
    if origin is typing.Annotated:
        return _is_native(arguments[0])
    return origin is typing.Literal and all(type(item) in PLAIN_TYPES for item in arguments)


def _converter(annotation: Any) -> Callable[[Any], Any] | None:
    try:
        msgspec.json.Decoder(annotation, dec_hook=_rebuild_foreign)
    except (TypeError, ValueError):
        return None if not isinstance(annotation, type) else _by_class(annotation)

    def convert(data: Any) -> Any:
        return msgspec.convert(
            data, annotation, strict=True, str_keys=True, dec_hook=_rebuild_foreign
        )

    return convert


def _by_class(annotation: type) -> Callable[[Any], Any]:
    def convert(data: Any) -> Any:
        return _rebuild_foreign(annotation, data)

    return convert


def _rebuild_foreign(annotation: type, data: Any) -> Any:
    """Classes msgspec does not know: paths, big integers, pydantic models (by their validator)."""
    if isinstance(annotation, type):
        if isinstance(data, annotation):
            return data
        if issubclass(annotation, PurePath):
            return annotation(data)
        validate = getattr(annotation, "model_validate", None)
        if validate is not None and "pydantic" in sys.modules:
            return validate(data)
    raise ValueCodecError(
        f"cannot rebuild {_name(annotation)} from stored data: use a dataclass, a msgspec "
        "Struct, a pydantic model or plain JSON types"
    )


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)


PLAIN_SHAPE = Shape(inspect.Parameter.empty)
