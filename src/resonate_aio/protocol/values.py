"""Values as JSON text, and back by annotation (DESIGN §3, S24, S29).

What a program sees on its first run is what its stored text decodes to, so that first run
and replay cannot differ. `encode` refuses, by name and place, what JSON would silently
change; `Shape` rebuilds the types an annotation names. Nothing here imports, calls or looks
up anything that the data names.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
from collections import defaultdict
from typing import Any

import orjson

from ..errors import ValueCodecError
from . import models
from .agreement import Rivals, agree, is_unsure, rivals
from .plain import WRITER_OPTIONS, Refused, convert, plain
from .round_trip import difference
from .shapes import NATIVE, PLAIN_TYPES, converter, is_native, name_of

__all__ = [
    "PLAIN_SHAPE",
    "PLAIN_TYPES",
    "Shape",
    "are_plain",
    "canonical",
    "decode",
    "dump_models",
    "encode",
    "shape_of_value",
    "shown",
]

_BIG_DIGITS = 19
_BIG_INTEGER = re.compile(rf"[0-9]{{{_BIG_DIGITS},}}")
_SHOWN_CHARACTERS = 200


def encode(value: Any) -> str:
    """Encode a value as JSON text.

    Raises:
        ValueCodecError: The value, or something inside it, has no faithful JSON form.
    """
    try:
        # `.decode()` at once: what dumps returns keeps a whole block alive (speed.md trap 1).
        text = orjson.dumps(value, convert, WRITER_OPTIONS).decode()
    except (TypeError, ValueError, RecursionError) as error:
        return _encode_in_full(value, error)
    # JSON writers turn NaN and infinity into null; that would be another value on replay.
    if "null" in text and not _holds_plain_only(value):
        _in_full(value)
    return text


def dump_models(value: Any) -> Any:
    """Plain data that shows a value with models in it, whatever they lose; None of any other."""
    found: list[Any] = []

    def dump(item: Any) -> Any:
        if not models.is_model(type(item)):
            return convert(item)
        found.append(item)
        return models.dump(item)

    try:
        text = orjson.dumps(value, dump, WRITER_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None  # as in `_encode_in_full`
        return None
    return orjson.loads(text) if found else None


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
    data = decode(text)
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers beyond 64 bits
        return json.dumps(data, sort_keys=True).encode()


def decode(text: str | None) -> Any:
    """Decode JSON text into plain data; no text is None.

    Raises:
        ValueCodecError: The text is not JSON, nested too deep, or holds numbers of thousands
            of digits.
    """
    if text is None or text == "":
        return None
    try:
        # orjson reads integers beyond 64 bits as floats; the standard library keeps them.
        if len(text) < _BIG_DIGITS or _BIG_INTEGER.search(text) is None:
            return orjson.loads(text)
        return _decode_big(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueCodecError(f"stored data is not JSON ({error}): {shown(str(text))}") from None


def _decode_big(text: str) -> Any:
    """As strict as orjson, which refuses what the standard library lets through."""
    data = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    if "\\u" in text:
        json.dumps(data, ensure_ascii=False).encode()  # raises for half a surrogate pair
    return data


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def shown(text: str) -> str:
    """The text cut to a length fit for a message, control characters escaped."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return cut if cut.isprintable() else repr(cut)[1:-1]


class Shape:
    """How to rebuild the values of one annotation from plain JSON data.

    Args:
        annotation: A resolved type, or `inspect.Parameter.empty` for none.

    Attributes:
        is_plain_data: Whether decoded JSON is already what the annotation asks for.
    """

    __slots__ = ("_annotation", "_convert", "_is_guess", "_rivals", "is_plain_data")

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._convert, is_guess = converter(annotation)
        self._is_guess = is_guess or (self._convert is not None and is_unsure(annotation))
        self._rivals: Rivals | None = None
        self.is_plain_data = self._convert is None

    def rebuild(self, data: Any) -> Any:
        """Rebuild one value.

        Raises:
            ValueCodecError: The data does not fit the annotation.
        """
        if self._convert is None:
            return data
        try:
            return self._convert(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's class may do anything in here
            raise ValueCodecError(
                f"stored value does not fit {name_of(self._annotation)}: {said(error)}"
            ) from error

    def seen(self, value: Any, data: Any) -> Any:
        """What a program sees of a live value that was stored as this data (law 3).

        Raises:
            ValueCodecError: Nothing, or nothing of its type, can be rebuilt from the data.
        """
        made = self.rebuild(data)
        if self._is_guess and not self._agrees(made, value):
            kind = type(value)
            what = f"that it is of type {kind.__name__}"
            if type(made) is kind:
                what = f"of which types the parts of the {kind.__name__} are"
            raise ValueCodecError(
                f"{name_of(self._annotation)} cannot tell, from {shown(repr(data))}, {what}: name "
                "one type, or put the members of the union into classes that differ in their fields"
            )
        return made

    def fit(self, value: Any, data: Any) -> Any:
        """The same where the live value is at hand on a replay, too: it says what it is (S29).

        Raises:
            ValueCodecError: As `seen`.
        """
        if self._convert is None:
            return shape_of_value(value).rebuild(data)
        made = self.rebuild(data)
        if self._is_guess and not self._agrees(made, value):
            made = shape_of_value(value).rebuild(data)
            return made if difference(made, value) is None else self.seen(value, data)
        return made

    def _agrees(self, made: Any, value: Any) -> bool:
        if self._rivals is None:  # not before: the names in it may not have been known
            self._rivals = rivals(self._annotation)
        return agree(made, value, self._rivals)


def shape_of_value(value: Any) -> Shape:
    """The shape of a live value without annotation: its own class, where that helps (S29)."""
    kind = type(value)
    return PLAIN_SHAPE if kind in NATIVE else _shape_of_class(kind)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=512)
def _shape_of_class(kind: type) -> Shape:
    # What a defaultdict makes of a missing key is no data.
    return PLAIN_SHAPE if is_native(kind) or issubclass(kind, defaultdict) else Shape(kind)


def said(error: BaseException) -> str:
    """What an error says, or its class where it cannot say that."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  a user's __str__
        text = ""
    if isinstance(error, ValueCodecError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _encode_in_full(value: Any, error: Exception) -> str:
    """What the fast writer refuses: integers beyond 64 bits, keys that are no strings, errors."""
    if isinstance(error.__cause__, KeyboardInterrupt):
        raise error.__cause__  # it came while a user's class was asked for its data
    data = _in_full(value)
    return json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def _in_full(value: Any) -> Any:
    """The value as plain data, each part of it looked at."""
    try:
        return plain(value)
    except KeyboardInterrupt:
        raise
    except RecursionError:
        reason = "it is nested too deep for what is left of the stack"
    except Refused as refused:
        reason = str(refused)
    except BaseException as error:  # noqa: BLE001  a user's class may do anything in here
        reason = f"its class raised {said(error)}"
    raise ValueCodecError(f"{type(value).__name__} value cannot be stored as JSON: {reason}")


def _holds_plain_only(value: Any) -> bool:
    if type(value) is tuple or type(value) is list:
        return are_plain(value)  # type: ignore[arg-type]  # a list does as well
    return type(value) in PLAIN_TYPES


PLAIN_SHAPE = Shape(inspect.Parameter.empty)
