"""The options of one ctx call, checked when they are given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from ..execution.attempts import RetryPolicy

_RESERVED = "resonate:"


class CallOptions(msgspec.Struct, frozen=True, gc=False):
    """Options after (or before) a ctx call; absent ones are None.

    Attributes:
        timeout_s: Seconds from now; the parent's deadline caps it.
        id: Explicit promise id in place of the derived one.
        target: Where an rpc goes.
        check_arguments: Whether other arguments on replay are an error (S43).
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
    idempotency_key: str | Callable[[str], str] | None = None
    encoder: Any = None


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


def change(options: CallOptions, given: dict[str, Any], allowed: frozenset[str]) -> CallOptions:
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
    if "target" in changes and (not isinstance(changes["target"], str) or not changes["target"]):
        raise TypeError(f"target is a group name or an address, got {changes['target']!r}")
    if "version" in changes:
        _check_version(changes["version"])
    if "retry_policy" in changes:
        policy = changes["retry_policy"]
        if not (hasattr(policy, "next") or callable(policy)) or isinstance(policy, type):
            raise TypeError(f"retry_policy is a policy, such as Exponential(), got {policy!r}")
    if "non_retryable_exceptions" in changes:
        changes["non_retryable_exceptions"] = _classes(changes["non_retryable_exceptions"])
    return msgspec.structs.replace(options, **changes)


def _check_version(version: Any) -> None:
    if isinstance(version, bool) or not isinstance(version, int):
        raise TypeError(f"version is an int, got {version!r}")
    if version < 0:
        raise ValueError(f"version is 0 (the newest) or more, got {version}")


def promise_id(id: Any) -> str:
    """A promise id a user chose, checked.

    Raises:
        TypeError: It is not a string.
        ValueError: It is empty, or holds NUL or a lone surrogate.
    """
    if not isinstance(id, str):
        raise TypeError(f"a promise id is a string, got {id!r}")
    if not id or "\0" in id:
        raise ValueError(f"a promise id is not empty and holds no NUL character, got {id!r}")
    try:
        id.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a promise id is valid Unicode, got {id!r}") from None
    return id


def user_tags(tags: Any) -> dict[str, str]:
    """Tags a user chose, checked.

    Raises:
        TypeError: They are not a dict of strings.
        ValueError: One begins with the reserved `resonate:`.
    """
    if not isinstance(tags, dict) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in tags.items()
    ):
        raise TypeError(f"tags are a dict of strings, got {tags!r}")
    reserved = sorted(key for key in tags if key.startswith(_RESERVED))
    if reserved:
        raise ValueError(f"tags beginning with {_RESERVED!r} are reserved: {', '.join(reserved)}")
    return dict(tags)


def _classes(value: Any) -> tuple[type[BaseException], ...]:
    try:
        classes = (value,) if isinstance(value, type) else tuple(value)
    except TypeError:
        classes = (value,)
    if not all(isinstance(item, type) and issubclass(item, BaseException) for item in classes):
        raise TypeError(f"non_retryable_exceptions takes exception classes, got {value!r}")
    return classes
