"""Idempotency keys, as readings of a stored record (S52).

A store never compares keys: whoever creates or settles a promise does, with the record that
came back. The key of a create travels in a tag and is the promise's id where there is none;
the key of a settle travels in a header of the value. Of two racing creators the stored
record decides. This file knows no store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..errors import ResonateStoreError
from .records import Promise

CREATE_KEY: Final = "resonate-aio:ikey"
"""Tag of a promise: the key it was created with, where that is not its id."""

SETTLE_KEY: Final = "resonate-aio:ikey"
"""Header of a promise's value: the key it was settled with."""

Key = str | Callable[[str], str] | None


def key_for(given: Key, id: str) -> str:
    """The key of a create: as given, or what a given function makes of the id, or the id.

    Raises:
        TypeError: The function gave something else than a string.
    """
    key = given(id) if callable(given) and not isinstance(given, str) else given
    if key is None:
        return id
    if not isinstance(key, str):
        raise TypeError(f"the idempotency key of {id!r} is a string, got {key!r}")
    return str.__str__(key)  # a plain one, whatever class of strings it is


def tagged(tags: dict[str, str], key: str, id: str) -> dict[str, str]:
    """The tags of a create with this key."""
    return tags if key == id else {**tags, CREATE_KEY: key}


def refuse_other_creator(promise: Promise, key: str) -> None:
    """Compare the key of a create with the one of the record that came back.

    Raises:
        ResonateStoreError: It was created with another key (code 409).
    """
    recorded = promise.tags.get(CREATE_KEY, promise.id)
    if recorded != key:
        raise ResonateStoreError(
            f"promise {promise.id!r} exists already and was created with the idempotency key "
            f"{recorded!r}, not {key!r}: use that key to join it, or another id",
            409,
        )


def refuse_other_settler(promise: Promise, key: str) -> None:
    """Compare the key of a settle with the one of the record that came back.

    Raises:
        ResonateStoreError: It was settled with another key, or with none (code 403).
    """
    recorded = (promise.value.headers or {}).get(SETTLE_KEY)
    if recorded != key:
        by = "without a key" if recorded is None else f"with the key {recorded!r}"
        raise ResonateStoreError(
            f"promise {promise.id!r} is {promise.state} already, settled {by}, not with the "
            f"idempotency key {key!r}: its outcome stays",
            403,
        )
