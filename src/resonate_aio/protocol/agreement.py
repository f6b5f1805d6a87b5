"""Whether what a guess rebuilt stands for the live value (S24): where several types were tried.

A union is read as one member of several that the data fits. The live value says which one was
meant; where it is of another, the value is refused. Elsewhere the annotation decides.
"""

from __future__ import annotations

import collections
import collections.abc
import functools
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

import msgspec

from .field_shapes import field_names, is_record
from .shapes import ABSTRACT, UNIONS, is_native, resolved

Rivals = tuple[frozenset[type], ...]
_ARRAYS = (list, tuple, collections.deque)
_BY_VALUE = (int, float, bool)  # JSON itself tells these apart


def rivals(annotation: Any) -> Rivals:
    """The classes among which each union in an annotation lets one choose."""
    try:
        unions = [members for origin, members in _parts(annotation) if origin in UNIONS]
    except Exception:  # noqa: BLE001  a user's annotations; what rebuilds the class says so
        return ()
    return tuple(frozenset(_classes(members)) for members in unions)


def is_unsure(annotation: Any) -> bool:
    """Whether a union in it is read by trying, or takes plain data for another of its members.

    As a key, a union reads `"1"` as text; one with `Any` reads everything as it is; and inside
    of a deque, or another class that msgspec does not know, each may be one of classes alike.
    """
    for ask in (_is_unsure, _is_unsure.__wrapped__):  # not all annotations have a hash
        try:
            return ask(annotation)
        except Exception:  # noqa: BLE001, S112  or a name in it does not resolve yet
            continue
    return True


@functools.lru_cache(maxsize=512)
def _is_unsure(annotation: Any) -> bool:
    # Functions inside of functions have their annotations looked at each time.
    return any(
        (origin in UNIONS and not _is_sure(arguments))
        or (len(arguments) == 2 and _is_union(arguments[0]) and _is_mapping(origin))
        for origin, arguments in _parts(annotation)
    )


def _is_sure(members: tuple[Any, ...]) -> bool:
    """Whether JSON tells the members of a union apart."""
    if all(map(is_native, members)):
        return True
    if any(resolved(member) in (Any, object) for member in members):
        return False
    try:
        msgspec.json.Decoder(typing.Union[members])  # noqa: UP007  made of a tuple
    except Exception:  # noqa: BLE001  annotations are the user's code: its names may not resolve
        return False
    return True


def agree(made: Any, value: Any, rivals: Rivals) -> bool:
    """Whether what was rebuilt stands for the live value: of its type, and so inside it.

    Args:
        made: What was rebuilt from the data.
        value: What the data was written of.
        rivals: As `rivals` gives them for the annotation.
    """
    if isinstance(made, Enum) is not isinstance(value, Enum) or _is_rival(made, value, rivals):
        return False
    if isinstance(made, dict):
        return (
            isinstance(value, collections.abc.Mapping)
            and made.keys() == value.keys()
            and all(agree(item, value[key], rivals) for key, item in made.items())
        )
    if isinstance(made, set | frozenset):
        return isinstance(value, set | frozenset) and _kinds(made) == _kinds(value)
    if isinstance(made, int | float) and isinstance(value, int | float):
        return made == value and isinstance(made, bool) is isinstance(value, bool)
    if isinstance(made, _ARRAYS):
        return (
            isinstance(value, _ARRAYS)
            and len(made) == len(value)
            and all(agree(*pair, rivals) for pair in zip(made, value, strict=True))
        )
    if not isinstance(value, type(made)):
        return False
    names = field_names(type(made))
    return all(agree(getattr(made, name), getattr(value, name), rivals) for name in names)


def _is_rival(made: Any, value: Any, rivals: Rivals) -> bool:
    """Whether the live value is of another member of a union than what was rebuilt."""
    kind, live = type(made), type(value)
    if kind is live or live in _BY_VALUE:
        return False
    for kinds in rivals:
        if kind in kinds:
            nearest = next((base for base in live.__mro__ if base in kinds), kind)
            if nearest is not kind:
                return True
    return False


def _parts(annotation: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Everything in an annotation, the fields of classes included: origin and arguments."""
    seen: set[Any] = set()
    left = [annotation]
    while left:
        part = resolved(left.pop())
        origin, arguments = typing.get_origin(part) or part, typing.get_args(part)
        if origin is typing.Literal:
            continue
        yield origin, arguments
        left += arguments
        if is_record(origin) and origin not in seen:
            seen.add(origin)
            left += _hints(origin)


def _classes(members: Iterable[Any]) -> Iterator[type]:
    for member in members:
        part = resolved(member)
        origin = typing.get_origin(part) or part
        if origin in UNIONS:  # by way of an alias or a type variable
            yield from _classes(typing.get_args(part))
        elif isinstance(origin, type):
            yield ABSTRACT.get(origin, origin)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(resolved(annotation)) in UNIONS


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, collections.abc.Mapping)


def _hints(kind: Any) -> list[Any]:
    return list(typing.get_type_hints(kind).values())


def _kinds(values: Iterable[Any]) -> set[tuple[type, Any]]:
    return {(type(value), value) for value in values}
