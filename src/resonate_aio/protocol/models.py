"""Pydantic models as JSON data and back, by field name.

Pydantic is never imported: a value of one of its classes is the sign that it is there. Both
ways go through its JSON form, in which its own settings for bytes, NaN and strictness mirror
each other.
"""

from __future__ import annotations

import sys
from typing import Any


def is_model(kind: type) -> bool:
    """Whether this is a pydantic model's class."""
    return hasattr(kind, "model_validate_json") and "pydantic" in sys.modules


def dump(model: Any) -> Any:
    """The model as JSON-able data; computed and excluded fields are left out."""
    return model.model_dump(mode="json", round_trip=True, by_alias=_has_aliases_only())


def validate(kind: Any, text: str) -> Any:
    """The model that `dump` made this JSON text of.

    Raises:
        ValueError: The data does not fit the model.
    """
    if _has_aliases_only():
        return kind.model_validate_json(text)
    return kind.model_validate_json(text, by_alias=False, by_name=True)


def _has_aliases_only() -> bool:
    """Before 2.11 a field that has an alias could not be validated by its name."""
    version = getattr(sys.modules.get("pydantic"), "VERSION", "2.11")
    return tuple(int(part) for part in version.split(".")[:2]) < (2, 11)
