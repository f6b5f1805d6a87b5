"""The options of a call, checked when they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypedDict

import msgspec

from ..encoders import Encoder
from ..execution.attempts import RetryPolicy
from ..protocol.addresses import is_address, normalise_target
from ..protocol.idempotency import Key, key_for

ExceptionClasses = type[BaseException] | Iterable[type[BaseException]]
"""One class of errors, or several."""

_RESERVED = ("resonate:", "resonate-aio:")
_LARGEST_VERSION = 2**31 - 1


class ClientOptions(TypedDict, total=False):
    """What `options` of a client and of a registered function take; None is as if absent."""

    check_arguments: bool | None
    encoder: Encoder | None
    idempotency_key: str | Callable[[str], str] | None
    non_retryable_exceptions: ExceptionClasses | None
    retry_policy: RetryPolicy | Callable[[Callable[..., Any]], RetryPolicy] | None
    tags: dict[str, str] | None
    target: str | None
    timeout: float | timedelta | None
    version: int | None


class ContextOptions(ClientOptions, total=False):
    """What `options` before or after ctx calls take; which of them is up to the kind of call."""

    durable: bool | None
    id: str | None


class CallOptions(msgspec.Struct, frozen=True, gc=False):
    """Options after (or before) a ctx call; absent ones are None.

    Attributes:
        timeout_s: Seconds from now; the parent's deadline caps it.
        id: Explicit promise id in place of the derived one.
        target: Where an rpc goes.
        check_arguments: Whether other arguments on replay are an error (S43).
        idempotency_key: The key of the create, or what makes one of the id (S52).
        encoder: Turns arguments and results into text and back (K9).
    """

    timeout_s: float | None = None
    id: str | None = None
    tags: dict[str, str] | None = None
    target: str | None = None
    version: int | None = None
    retry_policy: RetryPolicy | Callable[[Any], RetryPolicy] | None = None
    non_retryable_exceptions: tuple[type[BaseException], ...] = ()
    durable: bool = True
    check_arguments: bool = True
    idempotency_key: Key = None
    encoder: Any = None  # an Encoder; a struct cannot check a Protocol


_LONGEST_S = 1e11
"""A bit over 3,000 years: what is longer does not fit the stores' timestamps."""

NO_OPTIONS = CallOptions()
LOCAL_KEYS = frozenset(
    {
        "check_arguments",
        "durable",
        "encoder",
        "id",
        "idempotency_key",
        "non_retryable_exceptions",
        "retry_policy",
        "tags",
        "timeout",
    }
)
REMOTE_KEYS = frozenset(
    {"check_arguments", "encoder", "id", "idempotency_key", "tags", "target", "timeout", "version"}
)
PROMISE_KEYS = frozenset({"check_arguments", "id", "idempotency_key", "tags", "timeout"})
SLEEP_KEYS = frozenset({"id"})
CONTEXT_KEYS = LOCAL_KEYS | REMOTE_KEYS


def seconds(value: Any, what: str) -> float:
    """A duration in seconds from int, float or timedelta.

    Raises:
        TypeError: It is none of these.
        ValueError: It is negative or not finite.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} takes seconds (int, float) or a timedelta, got {value!r}")
    if not 0 <= value <= _LONGEST_S:
        raise ValueError(
            f"{what} must be zero or more and at most {_LONGEST_S:.0f} s, got {value!r}"
        )
    return float(value)


def change(options: CallOptions, given: Mapping[str, Any], allowed: frozenset[str]) -> CallOptions:
    """The options with these changes, each checked.

    Raises:
        TypeError: An unknown key, or a value of the wrong type.
        ValueError: A value that cannot be meant.
    """
    unknown = sorted(given.keys() - allowed)
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)}; allowed here: {', '.join(sorted(allowed))}"
        )
    changes = {key: value for key, value in given.items() if value is not None}
    if "timeout" in changes:
        changes["timeout_s"] = seconds(changes.pop("timeout"), "timeout")
    if "id" in changes:
        changes["id"] = promise_id(changes["id"])
    if "tags" in changes:
        changes["tags"] = user_tags(changes["tags"])
    if "non_retryable_exceptions" in changes:
        changes["non_retryable_exceptions"] = exception_classes(changes["non_retryable_exceptions"])
    for key, checked in _CHECKS.items():
        if key in changes:
            changes[key] = checked(changes[key])
    return msgspec.structs.replace(options, **changes)


def with_key(options: CallOptions, id: str) -> CallOptions:
    """The options with the idempotency key of this id in place of what makes it.

    Raises:
        TypeError, ValueError: It is not a key.
    """
    key = text(key_for(options.idempotency_key, id), "an idempotency key")
    return msgspec.structs.replace(options, idempotency_key=key)


def _version(version: Any) -> int:
    if isinstance(version, bool) or not isinstance(version, int):
        raise TypeError(f"version is an int, got {version!r}")
    if not 0 <= version <= _LARGEST_VERSION:
        raise ValueError(f"version is 0 (the newest) to {_LARGEST_VERSION}, got {version}")
    return version


def _target(given: Any) -> str:
    target = text(given, "target")
    if not is_address(normalise_target(target)):
        raise ValueError(f"target is a group name or an address, got {target!r}")
    return target


def _policy(policy: Any) -> Any:
    if not (hasattr(policy, "next") or callable(policy)) or isinstance(policy, type):
        raise TypeError(f"retry_policy is a policy, such as Exponential(), got {policy!r}")
    return policy


def _key(key: Any) -> Key:
    return key if callable(key) and not isinstance(key, str) else text(key, "idempotency_key")


def _encoder(encoder: Any) -> Any:
    if isinstance(encoder, type) or not all(
        callable(getattr(encoder, verb, None)) for verb in ("encode", "decode")
    ):
        raise TypeError(f"encoder has the methods encode and decode, got {encoder!r}")
    return encoder


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"durable and check_arguments are True or False, got {value!r}")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "check_arguments": _bool,
    "durable": _bool,
    "encoder": _encoder,
    "idempotency_key": _key,
    "retry_policy": _policy,
    "target": _target,
    "version": _version,
}
"""What each option is taken as: the value, checked."""


def text(value: Any, what: str) -> str:
    """A piece of text a user chose that is stored as it is.

    Returns:
        Its characters in a plain `str`, whatever class of strings it was: `PromiseId`, an
        Enum's, a template engine's. Stores and encoders take no other.

    Raises:
        TypeError: It is not a string.
        ValueError: It is empty, or holds NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is a string, got {value!r}")
    plain: str = str.__str__(value)
    if not plain or "\0" in plain:
        raise ValueError(f"{what} is not empty and holds no NUL character, got {value!r}")
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is valid Unicode, got {value!r}") from None
    return plain


def promise_id(id: Any) -> str:
    """A promise id a user chose, checked.

    Raises:
        TypeError: It is not a string.
        ValueError: It is empty, or holds NUL or a lone surrogate.
    """
    return text(id, "a promise id")


class PromiseId(str):
    """The id of a promise as a program gets it: `promise.id`, or `await promise.id()` (X28)."""

    __slots__ = ()

    async def __call__(self) -> str:
        """The id, as later releases of the SDK spell it."""
        return str(self)


def user_tags(tags: Any) -> dict[str, str]:
    """Tags a user chose, checked.

    Raises:
        TypeError: They are not a dict of strings.
        ValueError: One begins with a reserved prefix, or holds NUL or a lone surrogate.
    """
    checked = string_map(tags, "tags")
    reserved = sorted(key for key in checked if key.startswith(_RESERVED))
    if reserved:
        raise ValueError(
            f"tags beginning with {' or '.join(map(repr, _RESERVED))} are reserved: "
            f"{', '.join(reserved)}"
        )
    return checked


def string_map(given: Any, what: str) -> dict[str, str]:
    """Tags or headers: a dict of strings, copied.

    Raises:
        TypeError: They are not a dict of strings.
        ValueError: A key is empty, or something holds NUL or a lone surrogate.
    """
    if not isinstance(given, dict) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in given.items()
    ):
        raise TypeError(f"{what} are a dict of strings, got {given!r}")
    checked = {}
    for key, value in given.items():
        name = text(key, f"a key of the {what}")
        checked[name] = text(value, f"the value of {name!r} in the {what}") if value else ""
    return checked


def exception_classes(value: Any) -> tuple[type[BaseException], ...]:
    """What `non_retryable_exceptions` names: one class of errors or several.

    Raises:
        TypeError: Something else.
    """
    try:
        classes = (value,) if isinstance(value, type) else tuple(value)
    except TypeError:
        classes = (value,)
    if not all(isinstance(item, type) and issubclass(item, BaseException) for item in classes):
        raise TypeError(f"non_retryable_exceptions takes exception classes, got {value!r}")
    return classes
