"""Every error of the library, in one hierarchy.

    ResonateError
    ├── UsageError                    what the user did
    │   ├── ContextMisuseError        a ctx call from where none may be made (S23)
    │   ├── NonDeterminismError       the program differs from what it recorded (law 5)
    │   ├── FunctionNotFoundError     no such registered function or version
    │   └── ValueCodecError           a value that cannot be stored or rebuilt (S24)
    ├── OutcomeError                  what the durable call ended as
    │   ├── ApplicationError          the function raised; its class is not known here
    │   ├── ResonateCanceledError     its promise was cancelled
    │   └── ResonateTimedoutError     its promise passed its deadline
    ├── ResonateStoreError            what the store or server did
    │   ├── StoreOwnedError           another process owns the file (S44)
    │   ├── StoreSchemaError          not our file, or one of a newer version
    │   └── UnreadableRecordError     one record of it was changed so that it means nothing
    ├── ResonateShutdownError         the client stopped while somebody waited
    └── InternalError                 our bug: an impossible pair of state and event

A message names the id, what was expected, what was found and what to do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any


class ResonateError(Exception):
    """Base of every error of this library.

    Args:
        mesg: What happened, to which id, and what to do.
        code: The protocol's status code, or 0 where there is none (seed 001's signature).
        details: Anything else worth keeping; JSON-able where it came from a store.
    """

    # An error that was rebuilt has the attributes that are stored, and they may be anything
    # (S51): each class has its defaults, so that every error can be shown.
    mesg: str = ""
    code: float = 0
    details: Any = None

    def __init__(self, mesg: str = "", code: float = 0, details: Any = None) -> None:
        super().__init__(mesg)
        self.mesg = mesg
        self.code = code
        self.details = details

    def __str__(self) -> str:
        return str(self.mesg)  # it may have been stored as something else

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.__dict__, self.args))


def _rebuild(
    kind: type[ResonateError], state: dict[str, Any], args: tuple[Any, ...]
) -> ResonateError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(ResonateError):
    """The library was asked for something it cannot do; the message says what to write."""


class ContextMisuseError(UsageError):
    """A ctx call was made from where none may be made (S23)."""


class NonDeterminismError(UsageError):
    """A replayed program asked for something else than it recorded (law 5, S43).

    The execution stops; its promise stays pending, so that the old code can finish it.
    """


class FunctionNotFoundError(UsageError):
    """No function is registered under that name and version in this process.

    Attributes:
        name: The name that was asked for.
        version: The version; 0 for the newest.
    """

    name: str = ""
    version: int = 0

    def __init__(self, mesg: str = "", name: str = "", version: int = 0) -> None:
        super().__init__(mesg)
        self.name = name
        self.version = version


class ValueCodecError(UsageError):
    """A value cannot be stored as JSON, or cannot be rebuilt from what was stored (S24)."""


class OutcomeError(ResonateError):
    """What a durable call ended as, where that is not the error it raised."""


class ApplicationError(OutcomeError):
    """The durable function raised, and the class of its error is not loaded here (S51).

    Attributes:
        name: Type name of the error that was raised.
        message: Its text.
        attributes: Its JSON-able attributes.
    """

    name: str = "Exception"
    message: str = ""
    attributes: dict[str, Any] = MappingProxyType({})  # type: ignore[assignment]  # shared

    def __init__(
        self, name: str = "Exception", message: str = "", attributes: dict[str, Any] | None = None
    ) -> None:
        self.name = name
        self.message = message
        self.attributes = attributes or {}
        super().__init__(f"{name}: {message}" if message else name)


class ResonateCanceledError(OutcomeError):
    """The promise was cancelled.

    Attributes:
        id: The promise's id.
    """

    id: str = ""

    def __init__(self, id: str = "") -> None:
        self.id = id
        super().__init__(f"promise {id!r} was canceled", 0)


class ResonateTimedoutError(OutcomeError):
    """The promise passed its deadline before it was settled.

    Attributes:
        id: The promise's id.
        timeout_at_ms: The deadline, milliseconds since the epoch.
    """

    id: str = ""
    timeout_at_ms: int = 0

    def __init__(self, id: str = "", timeout_at_ms: int = 0) -> None:
        self.id = id
        self.timeout_at_ms = timeout_at_ms
        super().__init__(
            f"promise {id!r} timed out at {_moment(timeout_at_ms)}: give it longer with "
            "timeout=seconds where it is asked for, under another id",
            0,
        )


def _moment(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms since the epoch"


class ResonateStoreError(ResonateError):
    """The store refused a request or could not be used; `code` is its status."""


class StoreOwnedError(ResonateStoreError):
    """Another process owns the store's file; the message names its pid (S44)."""


class StoreSchemaError(ResonateStoreError):
    """The file is not a store of ours, or was written by a newer version; it is untouched."""


class UnreadableRecordError(ResonateStoreError):
    """What is stored under an id means nothing any more: somebody else wrote into its row.

    The row is left as it is, and set aside; every other one goes on (law 14).

    Attributes:
        kind: What it is a record of: `promise` or `schedule`.
        id: Its id.
        fault: What is wrong with it, in words.
    """

    kind: str = "promise"
    id: str = ""
    fault: str = ""

    def __init__(self, kind: str = "promise", id: str = "", fault: str = "") -> None:
        self.kind = kind
        self.id = id
        self.fault = fault
        super().__init__(
            f"{kind} {id!r} is set aside, its row cannot be read: {fault}. It was left as it is: "
            "stop every process that uses the store, then put the row right or delete it",
            500,
        )


class ResonateShutdownError(ResonateError):
    """The client stopped while the result was awaited; the work itself goes on at restart."""


class InternalError(ResonateError):
    """A state and an event that cannot meet did: a bug of this library, please report it."""
