"""Classes with named fields: dataclasses, Structs, named tuples and typed dicts.

Which they are, and how one is rebuilt field by field where msgspec cannot do it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from ..errors import ValueCodecError

Converter = Callable[[Any], Any]


def is_record(kind: Any) -> bool:
    """Whether this is a dataclass, a Struct, a NamedTuple or a TypedDict."""
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind)
        or issubclass(kind, msgspec.Struct)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        or typing.is_typeddict(kind)
    )


def field_names(kind: Any) -> tuple[str, ...]:
    """The fields of a dataclass or Struct; none of any other class."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return getattr(kind, "__struct_fields__", ()) if issubclass(kind, msgspec.Struct) else ()


def record(kind: Any, variables: dict[Any, Any], part: Callable[[Any], Converter]) -> Converter:
    """What rebuilds a class whose fields msgspec cannot all describe: field by field.

    Args:
        variables: What the type variables of a generic class stand for.
        part: What rebuilds the values of a field's annotation.
    """
    parts: dict[str, Converter] = {}

    def convert(data: Any) -> Any:
        if not parts:
            parts.update(_parts_of(kind, variables, part))  # not before: it may hold itself
        return _filled(kind, parts, _stored_fields(kind, list(parts), data))

    return convert


def _parts_of(
    kind: Any, variables: dict[Any, Any], part: Callable[[Any], Converter]
) -> dict[str, Converter]:
    try:
        hints = typing.get_type_hints(kind)
    except Exception as error:  # a user's annotations
        raise ValueCodecError(f"the annotations of {kind.__name__}: {error}") from error
    if any(isinstance(hint, dataclasses.InitVar) for hint in hints.values()):
        raise ValueCodecError(f"{kind.__name__} cannot be rebuilt: an InitVar is not kept")
    names = field_names(kind) or getattr(kind, "_fields", None) or hints
    return {name: part(_substituted(hints.get(name, Any), variables)) for name in names}


def _substituted(annotation: Any, variables: dict[Any, Any]) -> Any:
    """The annotation with the type variables of its generic class filled in."""
    if isinstance(annotation, typing.TypeVar):
        return variables.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or not variables:
        return annotation
    return annotation[tuple(variables.get(name, name) for name in parameters)]


def _stored_fields(kind: Any, names: list[str], data: Any) -> dict[str, Any]:
    """The stored fields by their names in Python."""
    in_order = issubclass(kind, tuple)
    if issubclass(kind, msgspec.Struct):
        config = kind.__struct_config__
        in_order = config.array_like
        if in_order and isinstance(data, list) and config.tag is not None:
            data = data[1:]
        encoded = dict(zip(names, kind.__struct_encode_fields__, strict=True))
    else:
        encoded = {name: name for name in names}
    if in_order:
        if not isinstance(data, list) or len(data) > len(names):
            raise ValueCodecError(f"expected an array of {len(names)} for {kind.__name__}")
        return dict(zip(names, data, strict=False))
    if not isinstance(data, dict):
        raise ValueCodecError(f"expected an object for {kind.__name__}")
    return {name: data[key] for name, key in encoded.items() if key in data}


def _filled(kind: Any, parts: dict[str, Converter], stored: dict[str, Any]) -> Any:
    values = {name: parts[name](item) for name, item in stored.items()}
    if typing.is_typeddict(kind):
        if missing := kind.__required_keys__ - values.keys():
            raise ValueCodecError(f"{kind.__name__} lacks {sorted(missing)}")
        return values
    return _dataclass(kind, values) if dataclasses.is_dataclass(kind) else kind(**values)


def _dataclass(kind: Any, values: dict[str, Any]) -> Any:
    # As msgspec does it: what was stored counts, not what an `__init__` would make of it.
    made = kind.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(made, field.name, _value_of(kind, field, values))
    if hasattr(kind, "__post_init__"):
        made.__post_init__()
    return made


def _value_of(kind: Any, field: dataclasses.Field[Any], values: dict[str, Any]) -> Any:
    if field.name in values:
        return values[field.name]
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise ValueCodecError(f"{kind.__name__} lacks {field.name!r}")
