"""How the values of an annotation are rebuilt from plain JSON data (DESIGN §3, S29).

msgspec does it where it can. What it refuses to describe (unions whose members look alike
in JSON, enums of any values, classes that hold such) is put together here, part by part.
Only what annotations name is ever called; the data names nothing.
"""

from __future__ import annotations

import base64
import collections
import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import PurePath
from typing import Any

import msgspec

from ..errors import ValueCodecError
from . import models
from .field_shapes import is_record, record
from .plain import Refused, plain, sort_key

Converter = Callable[[Any], Any]

PLAIN_TYPES: frozenset[Any] = frozenset({int, str, bool, type(None)})
NATIVE: frozenset[Any] = PLAIN_TYPES | {float, dict, list, Any, object, None}
_EMPTY = inspect.Parameter.empty
UNIONS = (typing.Union, types.UnionType)
_QUALIFIERS = (typing.Annotated, typing.Final, typing.ClassVar, typing.Required, typing.NotRequired)
ABSTRACT: dict[Any, type] = {
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}
_MANY = (list, set, frozenset, collections.deque)


def is_native(annotation: Any) -> bool:
    """Whether plain JSON data is already what the annotation describes."""
    annotation = resolved(annotation)
    if annotation is _EMPTY or isinstance(annotation, str | typing.TypeVar | typing.ForwardRef):
        return True
    try:
        if annotation in NATIVE:
            return True
    except TypeError:
        return False
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (list, collections.abc.Sequence, collections.abc.Iterable):
        return all(map(is_native, arguments))
    if origin in (dict, collections.abc.Mapping):
        return len(arguments) == 2 and arguments[0] in (str, Any) and is_native(arguments[1])
    if origin in UNIONS:
        return all(map(is_native, arguments))
    if origin is typing.Literal:
        return all(type(item) in PLAIN_TYPES for item in arguments)
    # A protocol says what a value can do, not what it is.
    return not isinstance(origin or annotation, type) or _is_protocol(origin or annotation)


def converter(annotation: Any) -> tuple[Converter | None, bool]:
    """What rebuilds the values of an annotation: None where plain data is meant.

    The second answer is whether several types were tried on the data: what came out has to
    be compared with the value that went in.
    """
    if is_native(annotation):
        return None, False
    annotation = resolved(annotation)
    try:
        msgspec.json.Decoder(annotation, dec_hook=_foreign)
    except Exception:  # noqa: BLE001  annotations are the user's code: its names may not resolve
        return _by_parts(annotation), True

    def convert(data: Any) -> Any:
        return msgspec.convert(data, annotation, strict=True, str_keys=True, dec_hook=_foreign)

    return convert, False


def name_of(annotation: Any) -> str:
    """The annotation as its user would write it."""
    if typing.get_args(annotation):
        return str(annotation)
    return getattr(annotation, "__name__", None) or str(annotation)


# ---------------------------------------------------------------------------- part by part


def resolved(annotation: Any) -> Any:
    """What an alias, a new type, a bound variable or a qualifier stands for."""
    while True:
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) in _QUALIFIERS:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.TypeVar) and annotation.__bound__ is not None:
            annotation = annotation.__bound__
        elif isinstance(annotation, typing.TypeVar) and annotation.__constraints__:
            return typing.Union[annotation.__constraints__]  # noqa: UP007  made of a tuple
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def _part(annotation: Any) -> Converter:
    """The same, always something to call: plain data has to be of the type that is named."""
    convert, _ = converter(annotation)
    if convert is not None:
        return convert
    plain_type = resolved(annotation)
    try:
        msgspec.json.Decoder(plain_type)
    except (TypeError, ValueError):
        return _as_it_is
    return functools.partial(msgspec.convert, type=plain_type, strict=True, str_keys=True)


def _as_it_is(data: Any) -> Any:
    return data


def _by_parts(annotation: Any) -> Converter:
    kind = typing.get_origin(annotation) or annotation
    arguments = typing.get_args(annotation)
    if kind in UNIONS:
        return _either(annotation, arguments)
    if kind is typing.Literal:
        return _one_of(annotation, arguments)
    kind = ABSTRACT.get(kind, kind)
    if issubclass(kind, Enum):
        return _one_of(annotation, kind)
    if is_record(kind):
        if not arguments:
            return _record_of_class(kind)
        return record(kind, dict(zip(kind.__parameters__, arguments, strict=True)), _part)
    return _of_several(kind, arguments) or _of_one(kind) or functools.partial(_unknown, annotation)


@functools.lru_cache(maxsize=512)
def _record_of_class(kind: type) -> Converter:
    return record(kind, {}, _part)


def _of_several(kind: type, arguments: tuple[Any, ...]) -> Converter | None:
    if issubclass(kind, tuple):
        return _tuple(kind, arguments)
    if issubclass(kind, collections.defaultdict):
        return functools.partial(_refuse, "a defaultdict cannot be rebuilt: its factory is no data")
    if issubclass(kind, dict):
        return _dict(kind, arguments or (Any, Any))
    return _many(kind, arguments) if issubclass(kind, _MANY) else None


def _of_one(kind: type) -> Converter | None:
    if issubclass(kind, PurePath):
        return _made_of(kind, str)
    if models.is_model(kind):
        return functools.partial(models.validate, kind)
    for base in (str, int, float):
        if issubclass(kind, base):
            return _made_of(kind, base)
    if issubclass(kind, bytes):
        return lambda data: _exactly(kind, base64.b64decode(data, validate=True))
    return None


def _foreign(annotation: Any, data: Any) -> Any:
    """What msgspec calls for the classes it does not know."""
    if isinstance(annotation, type) and (_is_protocol(annotation) or isinstance(data, annotation)):
        return data
    return (
        _of_class(annotation)(data) if isinstance(annotation, type) else _by_parts(annotation)(data)
    )


@functools.lru_cache(maxsize=512)
def _of_class(kind: type) -> Converter:
    # Only classes: unions that differ in the order of their members would share an entry.
    return _by_parts(kind)


def _unknown(annotation: Any, _: Any) -> Any:
    raise ValueCodecError(
        f"cannot rebuild {name_of(annotation)} from stored data: use a dataclass, a msgspec "
        "Struct, a pydantic model or plain JSON types"
    )


def _either(annotation: Any, members: Iterable[Any]) -> Converter:
    """A union: the first member that the data is the exact form of, else the first it fits."""
    converters = [_part(member) for member in members]

    def convert(data: Any) -> Any:
        fitting = []
        for attempt in converters:
            try:
                made = attempt(data)
                if _is_same(plain(made), data):
                    return made
            except Exception:  # noqa: BLE001, S112  a user's class; it is not this member then
                continue
            fitting.append(made)
        if not fitting:
            raise ValueCodecError(f"no member of {name_of(annotation)} fits the stored data")
        return fitting[0]

    return convert


def _is_same(image: Any, data: Any) -> bool:
    """Whether two pieces of JSON data are one: `1`, `1.0` and `true` are not."""
    if type(image) is not type(data):
        return False
    if type(image) is dict:
        return image.keys() == data.keys() and all(
            _is_same(item, data[key]) for key, item in image.items()
        )
    if type(image) is list:
        return len(image) == len(data) and all(map(_is_same, image, data))
    return bool(image == data)


def _one_of(annotation: Any, members: Iterable[Any]) -> Converter:
    """An enum of any values, or a literal that names members of one."""
    try:
        known = {sort_key(plain(member)): member for member in members}
    except Refused as refused:
        reason = f"{name_of(annotation)} cannot be rebuilt from stored data: {refused}"
        return functools.partial(_refuse, reason)

    def convert(data: Any) -> Any:
        try:
            return known[sort_key(data)]
        except (KeyError, TypeError):
            raise ValueCodecError(f"{data!r:.200} is none of {name_of(annotation)}") from None

    return convert


def _refuse(reason: str, _: Any) -> Any:
    raise ValueCodecError(reason)


def _tuple(kind: type, arguments: tuple[Any, ...]) -> Converter:
    if not arguments or arguments[-1] is Ellipsis:
        return _many(kind, arguments[:1])
    parts = [_part(argument) for argument in arguments]

    def convert(data: Any) -> Any:
        if not isinstance(data, list) or len(data) != len(parts):
            raise ValueCodecError(f"expected an array of {len(parts)}")
        return tuple(part(item) for part, item in zip(parts, data, strict=True))

    return convert


def _many(kind: type, arguments: tuple[Any, ...]) -> Converter:
    part = _part(arguments[0]) if arguments else _as_it_is

    def convert(data: Any) -> Any:
        if not isinstance(data, list):
            raise ValueCodecError("expected an array")
        return _exactly(kind, [part(item) for item in data])

    return convert


def _dict(kind: type, arguments: tuple[Any, ...]) -> Converter:
    # Keys are strings in JSON: msgspec knows which types can be read back from one.
    keys, part = functools.partial(_keys, arguments[0]), _part(arguments[-1])

    def convert(data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueCodecError("expected an object")
        items = zip(keys(data), data.values(), strict=True)
        return _exactly(kind, {key: part(item) for key, item in items})

    return convert


def _keys(annotation: Any, data: dict[str, Any]) -> list[Any]:
    named = dict.fromkeys(data)
    return list(msgspec.convert(named, dict[annotation, None], str_keys=True, dec_hook=_foreign))


def _made_of(kind: type, base: type) -> Converter:
    def convert(data: Any) -> Any:
        if type(data) is not base and not (base is float and type(data) is int):
            raise ValueCodecError(f"expected {base.__name__}, got {type(data).__name__}")
        return _exactly(kind, data)

    return convert


def _exactly(kind: Any, data: Any) -> Any:
    """An instance of a class that its plain value makes."""
    if type(data) is kind:
        return data
    made = kind(data)
    if not isinstance(made, kind):
        _unknown(kind, data)
    return made


def _is_protocol(kind: Any) -> bool:
    return bool(getattr(kind, "_is_protocol", False))
