"""Own data encoders: what turns values into the text that is stored, and back (K9).

Without one, values are JSON and are rebuilt by annotation; see the docs on values. With
`.options(encoder=...)` the arguments and results of a call go through the encoder instead,
so that they can be encrypted, kept elsewhere (a claim check) or written in a form of their
own. `encode` and `decode` may be `async def`.

A worker that takes over after a crash has only the store to go by: it finds the encoder of an
execution by its name among those it was given by `options(encoder=...)`. Nothing that is
stored is ever imported, unpickled or called.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable
from typing import Any, Protocol

from .protocol.values import decode, encode

__all__ = ["Base64Encoder", "CombinedEncoder", "Encoder", "JsonEncoder"]


class Encoder(Protocol):
    """What turns a value into text and back.

    `decode(encode(value))` has to be equal to `value`, for the first run of a program sees
    what a replay would see (law 3). What decodes to plain JSON data is rebuilt by the
    function's annotations, as it would be without an encoder.

    A `TypeError` or `ValueError` of `encode` is the failure of the step whose value it
    refuses; any other error is trouble, and tried again later (law 8).

    It is known by its `name`, if it has such an attribute, else by the name of its class.
    """

    def encode(self, value: Any, /) -> str | Awaitable[str | None] | None:
        """The text to store for a value."""
        ...

    def decode(self, data: str | None, /) -> Any:
        """The value of a stored text, or an awaitable of it."""
        ...


class JsonEncoder:
    """The library's own encoding: JSON, for every value it can store without an encoder.

    For use inside an encoder of your own, or of a `CombinedEncoder`.
    """

    def encode(self, value: Any, /) -> str:
        """The value as JSON text.

        Raises:
            ValueCodecError: It has no faithful JSON form.
        """
        return encode(value)

    def decode(self, data: str | None, /) -> Any:
        """The plain data of a JSON text; None of no text."""
        return decode(data)


class Base64Encoder:
    """Text as Base64 of its UTF-8 form; no text stays no text."""

    def encode(self, value: str | None, /) -> str | None:
        """The text, encoded."""
        return None if value is None else base64.b64encode(value.encode()).decode("ascii")

    def decode(self, data: str | None, /) -> str | None:
        """The text again.

        Raises:
            ValueError: It is not Base64 of UTF-8 text.
        """
        return None if data is None else base64.b64decode(data, validate=True).decode()


class CombinedEncoder:
    """Two encoders in a row: `CombinedEncoder(JsonEncoder(), Base64Encoder())`.

    Args:
        left: Turns values into text, first on the way in.
        right: Turns that text into the text to store.
        name: What the pair is known by; made of the names of both where absent.

    Both have to be ordinary ones: `encode` and `decode` that are not `async def`.
    """

    def __init__(self, left: Encoder, right: Encoder, *, name: str | None = None) -> None:
        self._left = left
        self._right = right
        self.name = name if name is not None else f"{name_of(left)}+{name_of(right)}"

    def encode(self, value: Any, /) -> str | None:
        """The value through both."""
        text: Any = self._right.encode(self._left.encode(value))
        return text  # type: ignore[no-any-return]

    def decode(self, data: str | None, /) -> Any:
        """The value again."""
        text: Any = self._right.decode(data)
        return self._left.decode(text)


def name_of(encoder: Encoder) -> str:
    """What an encoder is known by."""
    name = getattr(encoder, "name", None)
    return str.__str__(name) if isinstance(name, str) and name else type(encoder).__qualname__
