"""What a user says of what is stored: tags, headers, values, instants, types; checked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NewType, get_origin

from ..errors import ValueCodecError
from ..protocol.addresses import is_address, normalise_target
from ..protocol.failures import failure_value
from ..protocol.records import EMPTY, Value
from ..protocol.validation import MAX_INSTANT_MS, MAX_SPAN_MS
from ..protocol.values import Shape, decode, encode, shown
from ..runtime.options import seconds, string_map, text, user_tags

_TARGET = "resonate:target"
_LEGACY_TARGET = "resonate:invoke"
_OURS = "resonate-aio:"


def low_level_tags(tags: dict[str, str] | None) -> dict[str, str]:
    """Tags for a promise made by hand: of the reserved ones, those that mean something there.

    Raises:
        TypeError, ValueError: They are not tags, or others are reserved.
    """
    if tags is None:
        return {}
    given = string_map(tags, "tags")
    reserved: dict[str, str] = {}
    target = given.pop(_LEGACY_TARGET, None)
    target = given.pop(_TARGET, target)
    if target is not None:
        text(target, "the tag resonate:target")
        reserved[_TARGET] = normalise_target(target)
        if not is_address(reserved[_TARGET]):
            raise ValueError(f"the tag resonate:target is an address, got {target!r}")
    timer = given.pop("resonate:timer", None)
    if timer is not None:
        if timer != "true":
            raise ValueError(f"the tag resonate:timer is 'true' or absent, got {timer!r}")
        reserved["resonate:timer"] = timer
    delay = given.pop("resonate:delay", None)
    if delay is not None:
        if not (delay.isascii() and delay.isdigit() and len(delay) < 20):
            raise ValueError(f"the tag resonate:delay is milliseconds since the epoch: {delay!r}")
        reserved["resonate:delay"] = delay
    return {**user_tags(given), **reserved}


_FIRST_INSTANT_MS = 10**11
"""Spring of 1973: what is less was meant as seconds, since the epoch or from now."""


def check_deadline(value: Any, what: str, now_ms: int) -> int:
    """A deadline: milliseconds since the epoch, or a timedelta from now.

    Raises:
        TypeError, ValueError: It is neither, or can only be seconds.
    """
    if isinstance(value, timedelta):
        return check_instant(now_ms + int(seconds(value, what) * 1000), what)
    at_ms = check_instant(value, what)
    if at_ms < _FIRST_INSTANT_MS <= now_ms:
        meant = (
            f"{what}={at_ms * 1000}"  # the clock's seconds
            if at_ms > now_ms // 2000
            else f"{what}=timedelta(seconds={at_ms}), or int(time.time() * 1000) + {at_ms * 1000}"
        )
        raise ValueError(
            f"{what} is a deadline in milliseconds since the epoch, and {at_ms} can only be "
            f"seconds: write {meant}"
        )
    return at_ms


def failure_of(headers: dict[str, str] | None, error: BaseException) -> Value:
    """What a promise is to carry that is rejected with an error: its waiters get it (S51).

    Raises:
        TypeError: It is no `Exception`: waiters are never given a cancel or an exit.
    """
    if not isinstance(error, Exception):
        raise TypeError(f"value is an Exception or data, got {type(error).__name__}")
    return Value(value_of(headers, None, None).headers, failure_value(error).data)


def value_of(headers: dict[str, str] | None, data: str | None, value: Any) -> Value:
    """What a promise is to carry.

    Raises:
        TypeError, ValueError: Both data and value, data that is no JSON text, or no headers.
        ValueCodecError: The value cannot be stored.
    """
    if value is not None:
        if data is not None:
            raise TypeError("give either data= (JSON text) or value= (encoded for you), not both")
        data = encode(value)
    elif data is not None:
        data = _json(data)
    if headers is not None:
        headers = string_map(headers, "headers")
        reserved = sorted(key for key in headers if key.startswith(_OURS))
        if reserved:
            raise ValueError(f"headers beginning with {_OURS!r} are reserved: {reserved[0]}")
    if data is None and headers is None:
        return EMPTY
    return Value(headers, data)


def check_instant(value: Any, what: str) -> int:
    """Milliseconds since the epoch.

    Raises:
        TypeError, ValueError: It is not an instant.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is an int, milliseconds since the epoch, got {value!r}")
    if value < 0:
        raise ValueError(f"{what} must not be negative, got {value}")
    if value > MAX_INSTANT_MS:
        raise ValueError(f"{what} is at most {MAX_INSTANT_MS}, got {value}")
    return value


def check_span(value: Any, what: str) -> int:
    """A span in milliseconds, or a timedelta.

    Raises:
        TypeError, ValueError: It is not a span.
    """
    if isinstance(value, timedelta):
        value = value // timedelta(milliseconds=1)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is an int (milliseconds) or a timedelta, got {value!r}")
    if not 0 <= value <= MAX_SPAN_MS:
        raise ValueError(f"{what} is 0 to {MAX_SPAN_MS} ms, got {value}")
    return value


def _json(data: Any) -> str:
    """What waiters could not decode is refused before it is stored for ever."""
    if not isinstance(data, str):
        raise TypeError(f"data is JSON text, got {type(data).__name__}: use value= for values")
    plain: str = str.__str__(data)
    try:
        plain.encode()
        decode(plain)
    except (ValueCodecError, UnicodeEncodeError):
        raise ValueError(
            f"data is JSON text, and {shown(data)!r} is not: write value={shown(data)!r} to have a "
            "value encoded for you"
        ) from None
    return plain


def shape_of(returns: Any) -> Shape:
    """How to rebuild a result of the type that `returns=` names.

    Raises:
        TypeError: It is no type.
    """
    if (
        isinstance(returns, type | NewType)
        or returns is Any
        or get_origin(returns) is not None
        or type(returns).__name__ == "TypeAliasType"  # `type Name = ...`, from 3.12 on
    ):
        return Shape(returns)
    raise TypeError(f"returns is a type such as dict[str, int], got {returns!r}")
