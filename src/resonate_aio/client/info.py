"""What a durable function may know of its own call, and its logger (X24)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..protocol.idempotency import key_for
from ..runtime.options import CallOptions

if TYPE_CHECKING:
    from ..runtime.bodies import LiveBody

LOGGER = logging.getLogger("resonate_aio.function")


class ReplaySilent(logging.LoggerAdapter[logging.Logger]):
    """A logger that says nothing while recorded calls are replayed."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        """Whether a message of this level is wanted now."""
        extra: Any = self.extra
        body: LiveBody = extra["_body"]
        # What was recorded lies ahead, or calls that were: this was said in an earlier life.
        return not (body.is_replaying or body.is_owed) and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """The message with the call's id beside it."""
        extra: Any = self.extra
        kwargs["extra"] = {"id": extra["id"], **kwargs.get("extra", {})}
        return msg, kwargs


class Info:
    """What a function may know of its own call."""

    __slots__ = ("_body",)

    def __init__(self, body: LiveBody) -> None:
        self._body = body

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1, in this process (S40)."""
        return self._body.attempt

    @property
    def tags(self) -> dict[str, str]:
        """The tags given to the call."""
        options: CallOptions = self._body.call.options_
        return dict(options.tags or {})

    @property
    def timeout(self) -> float:
        """The deadline, in seconds since the epoch."""
        return self._body.call.timeout_at_ms / 1000

    @property
    def scheduled_at(self) -> float | None:
        """The tick of the schedule that started this execution, in seconds since the epoch.

        The time it stands for, also where it was caught up with later. None for what no schedule
        started, and on servers that do not say which schedule made a promise (S66).
        """
        held: Any = self._body.execution
        return None if held.tick_ms is None else held.tick_ms / 1000

    @property
    def version(self) -> int:
        """The version of the function that runs."""
        callee = self._body.call.callee
        return callee.version if callee is not None else 1

    @property
    def idempotency_key(self) -> str:
        """The idempotency key of the call: its id unless one was given."""
        return key_for(self._body.call.options_.idempotency_key, self._body.id)
