"""Where a value that was rebuilt differs from the live one it was written of (S24, law 3).

The classes whose form in JSON is decided by code of the user's (serializers, validators,
excluded fields) are compared after the round trip: nothing else knows what they lose. What is
found is named by its class and field, never by its value: it may be a secret.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from .field_shapes import field_names

_NUMBERS = (int, float, Decimal)
_SCALARS: tuple[type, ...] = (str, bytes, *_NUMBERS, date, time, timedelta, UUID, PurePath)
_ATOMS: frozenset[type] = frozenset({bool, type(None), datetime, *_SCALARS})
_BY_NAME = ("__pydantic_extra__", "__pydantic_private__")
_MISSING = object()
Part = tuple[str, Any, Any]


class Difference:
    """The innermost place where two values differ.

    Attributes:
        made: What was rebuilt, or a placeholder where nothing was.
        value: The live value there.
        owner: The innermost class with named fields that it is in, if any.
        field: The field of that class.
        place: Where it is, from the inside out: keys, indexes and field names.
    """

    __slots__ = ("field", "made", "owner", "place", "value")

    def __init__(self, made: Any, value: Any) -> None:
        self.made = made
        self.value = value
        self.owner: type | None = None
        self.field = ""
        self.place: list[str] = []


def difference(made: Any, value: Any) -> Difference | None:
    """Where the two differ in value or type; None where they do not.

    Numbers of another type are the same where they are equal (`1` for a float), and so is a
    scalar of a subclass (docs/values.md). What knows no equality is compared by its attributes.
    """
    return _Comparison().of(made, value)


class _Comparison:
    """One comparison; what holds itself is looked at once."""

    def __init__(self) -> None:
        self._pairs: set[tuple[int, int]] = set()

    def of(self, made: Any, value: Any) -> Difference | None:
        kind = type(value)
        if type(made) is not kind:
            return None if _stands_for(made, value) else Difference(made, value)
        if kind in _ATOMS:
            return None if _are_equal(made, value) else Difference(made, value)
        pair = (id(made), id(value))
        if pair in self._pairs:
            return None
        self._pairs.add(pair)
        names = _names_of(kind)  # type: ignore[arg-type]  # a class can be hashed
        if names is not None:
            return self._of_fields(kind, _attributes(names, made, value))
        if isinstance(value, dict):
            return self._of_dicts(made, value)
        if isinstance(value, list | tuple | deque):
            return self._of_lists(made, value)
        if isinstance(value, set | frozenset):
            return None if _kinds(made) == _kinds(value) else Difference(made, value)
        if _are_equal(made, value):
            return None
        if _knows_no_equality(kind):
            return self._of_fields(kind, _attributes(_state(made) | _state(value), made, value))
        return Difference(made, value)

    def _of_fields(self, kind: type, parts: list[Part]) -> Difference | None:
        for name, made, value in parts:
            found = self.of(made, value)
            if found is not None:
                if found.owner is None:
                    found.owner, found.field = kind, name
                return _at(name, found)
        return None

    def _of_dicts(self, made: dict[Any, Any], value: dict[Any, Any]) -> Difference | None:
        if _kinds(made) != _kinds(value):
            return Difference(made, value)
        for key, item in value.items():
            found = self.of(made[key], item)
            if found is not None:
                return _at(key, found)
        return None

    def _of_lists(self, made: Any, value: Any) -> Difference | None:
        if len(made) != len(value) or _bound(made) != _bound(value):
            return Difference(made, value)
        for index, (ours, theirs) in enumerate(zip(made, value, strict=True)):
            # Most lists are long, and of such data.
            if type(ours) is type(theirs) and type(theirs) in _ATOMS and ours == theirs:
                continue
            found = self.of(ours, theirs)
            if found is not None:
                return _at(index, found)
        return None


def _at(place: Any, found: Difference) -> Difference:
    found.place.append(f"[{place!r}]")
    return found


def _stands_for(made: Any, value: Any) -> bool:
    """Whether a scalar of another type is the same: a number, or one of a subclass."""
    if isinstance(made, bool | Enum) or isinstance(value, bool | Enum):
        return False
    if isinstance(made, _NUMBERS) and isinstance(value, _NUMBERS):
        return _are_equal(made, value)
    return isinstance(value, type(made)) and isinstance(made, _SCALARS) and _are_equal(made, value)


def _knows_no_equality(kind: Any) -> bool:
    return kind.__eq__ is object.__eq__


def _are_equal(made: Any, value: Any) -> bool:
    try:
        answer = made == value
        if answer is False and isinstance(value, datetime | time):
            return bool(
                made.isoformat() == value.isoformat()
            )  # across time zones `==` minds the fold
        return bool(answer if isinstance(answer, bool) else answer.all())  # arrays
    except Exception:  # noqa: BLE001  a user's class; it cannot say that it is the same
        return False


@functools.lru_cache(maxsize=512)
def _names_of(kind: type) -> tuple[str, ...] | None:
    """The fields that a class names; None where it names none."""
    if hasattr(kind, "model_validate_json"):
        fields = tuple(kind.model_fields)  # type: ignore[attr-defined]
        return (*fields, *_BY_NAME)
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(field.name for field in kind.__attrs_attrs__)
    return field_names(kind) or None


def _attributes(names: Iterable[str], made: Any, value: Any) -> list[Part]:
    """The fields that have to be looked at: not those of scalars that are equal."""
    parts: list[Part] = []
    for name in names:
        ours: Any = getattr(made, name, _MISSING)
        theirs: Any = getattr(value, name, _MISSING)
        if type(ours) is type(theirs) and type(theirs) in _ATOMS and ours == theirs:
            continue
        if name in _BY_NAME:
            parts += _held(ours or {}, theirs or {})
        else:
            parts.append((name, ours, theirs))
    return parts


def _held(made: dict[str, Any], value: dict[str, Any]) -> Iterator[Part]:
    for name in {**value, **made}:
        yield name, made.get(name, _MISSING), value.get(name, _MISSING)


def _state(value: Any) -> dict[str, None]:
    """The names of the attributes that a value holds."""
    slots = (vars(base).get("__slots__", ()) for base in type(value).__mro__)
    named = (name for some in slots for name in ([some] if isinstance(some, str) else some))
    return dict.fromkeys((*getattr(value, "__dict__", ()), *named))


def _bound(value: Any) -> int | None:
    return value.maxlen if isinstance(value, deque) else None


def _kinds(values: Iterable[Any]) -> set[tuple[type, Any]]:
    return {(type(value), value) for value in values}
