"""Pydantic models as JSON data and back, by field name.

Pydantic is never imported: a value of one of its classes is the sign that it is there. Both
ways go through its JSON form, in which its own settings for bytes, NaN and strictness mirror
each other. What a model dumps to is up to its user, so it is read back and compared before
it counts as written: `loss` says what would be another value.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import orjson

from .round_trip import Difference, difference

ON_SECRETS = (
    "secrets are not stored: let the function get it from a dependency, or pass "
    "get_secret_value() on purpose, where whoever reads the store may read it"
)


def is_model(kind: type) -> bool:
    """Whether this is a pydantic model's class."""
    return hasattr(kind, "model_validate_json") and "pydantic" in sys.modules


def is_secret(value: Any) -> bool:
    """Whether this is a SecretStr, or another value that hides what it holds."""
    return hasattr(type(value), "get_secret_value")


def dump(model: Any) -> Any:
    """The model as JSON-able data; computed and excluded fields are left out.

    Pydantic's warnings about values that do not fit a field are not wanted: `loss` finds them.
    """
    by_alias = _has_aliases_only()
    return model.model_dump(mode="json", round_trip=True, by_alias=by_alias, warnings=False)


def validate(kind: Any, data: Any) -> Any:
    """The model that `dump` made this data of.

    Raises:
        ValueError: The data does not fit the model.
    """
    try:
        text = orjson.dumps(data)
    except TypeError:  # integers beyond 64 bits
        text = msgspec.json.encode(data)
    if _has_aliases_only():
        return kind.model_validate_json(text)
    return kind.model_validate_json(text, by_alias=False, by_name=True)


def loss(model: Any, data: Any) -> tuple[str, list[str]] | None:
    """What would be another value after a round trip, and what to do; where, from the inside.

    Returns:
        None where the model that is read from this data is equal in value and type. Else a
        sentence that names the field (never its value) and the place of it.
    """
    kind = type(model)
    try:
        made = validate(kind, data)
    except Exception as error:  # noqa: BLE001  a user's validators
        return _unreadable(model, error)
    found = difference(made, model)
    return None if found is None else (_reason(kind, found), found.place)


def _reason(kind: type, found: Difference) -> str:
    owner = found.owner or kind
    what = f"{owner.__name__}.{found.field}" if found.field else owner.__name__
    if is_secret(found.value):
        return f"{what} is a {type(found.value).__name__}, and {ON_SECRETS}"
    fields = getattr(owner, "model_fields", {})
    if getattr(fields.get(found.field), "exclude", None):
        return (
            f"{what} is excluded from what {owner.__name__} dumps to, so its value would be lost: "
            "leave it at its default, or do not exclude it"
        )
    if found.field in getattr(owner, "__private_attributes__", {}):
        return (
            f"{what} is a private attribute, so its value would be lost: make it a field, or "
            "derive it from the fields in model_post_init"
        )
    return (
        f"{what} would come back as {_other(found)}: name its class in the annotation, let "
        "serializers and validators undo each other, or pass model_dump(mode='json')"
    )


def _other(found: Difference) -> str:
    made, live = type(found.made).__name__, type(found.value).__name__
    return f"another {live}" if made == live else f"{made}, not {live}"


def _unreadable(model: Any, error: Exception) -> tuple[str, list[str]]:
    """The model refuses what it dumps to: which field, and why; not the value (see `loss`)."""
    kind = type(model)
    place, said = _first_error(error)
    owner, value = model, model
    field = ""
    for step in place:
        owner, field, value = _into(owner, field, value, step)
    what = f"{type(owner).__name__}.{field}" if field else kind.__name__
    shown = [f"[{step!r}]" for step in reversed(place)]
    if is_secret(value):
        return f"{what} is a {type(value).__name__}, and {ON_SECRETS}", shown
    return (
        f"{kind.__name__} cannot be read from what it dumps to ({what}: {said}): let serializers "
        "and validators undo each other, or pass model_dump(mode='json')"
    ), shown


def _into(owner: Any, field: str, value: Any, step: Any) -> tuple[Any, str, Any]:
    """One step of a place in a model: the model it leads into, its field, and what is there."""
    if isinstance(step, str) and step in getattr(type(value), "model_fields", {}):
        return value, step, getattr(value, step, None)
    try:
        return owner, field, value[step]
    except (TypeError, LookupError):
        return owner, field, value


def _first_error(error: Exception) -> tuple[tuple[Any, ...], str]:
    """Where a validation failed and what it said, without what it was given."""
    errors = getattr(error, "errors", None)
    try:
        (first, *_) = errors(include_url=False, include_input=False)  # type: ignore[misc]
        return tuple(first["loc"]), str(first["msg"])
    except Exception:  # noqa: BLE001  a validator raised something else
        return (), type(error).__name__


def _has_aliases_only() -> bool:
    """Before 2.11 a field that has an alias could not be validated by its name."""
    version = getattr(sys.modules.get("pydantic"), "VERSION", "2.11")
    return tuple(int(part) for part in version.split(".")[:2]) < (2, 11)
