"""Reading decoded JSON strictly: one function per kind of field, faults named by their path.

JSON has no integers, so `true`, `1.0` and numbers beyond 64 bits are told apart from them
here. A field that is absent and one that is null are the same thing (current-protocol §13.8);
fields nobody asks for are ignored. This file knows no record and no request.
"""

from __future__ import annotations

from typing import Any, Final

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_SHOWN: Final = 80


class FieldError(ValueError):
    """A field of a JSON object is missing or of another kind; the text names it."""


def mapping(value: Any, where: str) -> dict[str, Any]:
    """A JSON object."""
    if isinstance(value, dict):
        return value
    raise _wrong(where, "an object", value)


def items(data: dict[str, Any], name: str, where: str) -> list[Any]:
    """A required array."""
    value = data.get(name)
    if isinstance(value, list):
        return value
    raise _wrong(f"{where}.{name}", "an array", value)


def text(data: dict[str, Any], name: str, where: str) -> str:
    """A required string."""
    value = data.get(name)
    if isinstance(value, str):
        return value
    raise _wrong(f"{where}.{name}", "a string", value)


def optional_text(data: dict[str, Any], name: str, where: str) -> str | None:
    """A string or nothing."""
    return None if data.get(name) is None else text(data, name, where)


def integer(data: dict[str, Any], name: str, where: str) -> int:
    """A required integer of 64 bits."""
    value = data.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and _LEAST <= value <= _MOST:
        return value
    raise _wrong(f"{where}.{name}", "an integer of 64 bits", value)


def optional_integer(data: dict[str, Any], name: str, where: str) -> int | None:
    """An integer of 64 bits or nothing."""
    return None if data.get(name) is None else integer(data, name, where)


def strings(data: dict[str, Any], name: str, where: str) -> dict[str, str] | None:
    """An object whose members are all strings, or nothing."""
    value = data.get(name)
    if value is None:
        return None
    for key, member in mapping(value, f"{where}.{name}").items():
        if not isinstance(member, str):
            raise _wrong(f"{where}.{name}[{shown(key)}]", "a string", member)
    return value  # type: ignore[no-any-return]  # checked member by member


def shown(value: Any) -> str:
    """A foreign value cut to a length fit for a message, control characters escaped."""
    told = ascii(value) if not isinstance(value, str) else repr(value)
    return told if len(told) <= _SHOWN else told[:_SHOWN] + "…"


def _wrong(where: str, wanted: str, found: Any) -> FieldError:
    if found is None:
        return FieldError(f"{where} must be {wanted}, is missing")
    kind = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}.get(
        type(found), "an object" if isinstance(found, dict) else "an array"
    )
    told = f" ({shown(found)})" if isinstance(found, str | int | float) else ""
    return FieldError(f"{where} must be {wanted}, is {kind}{told}")
