"""What a durable function may know of its own call, and of the process it runs in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .info import LOGGER, Info, ReplaySilent

if TYPE_CHECKING:
    from ..runtime.bodies import LiveBody
    from .core import ClientCore


class Surroundings:
    """The part of a ctx that makes no calls."""

    __slots__ = ("_body", "_core")

    def __init__(self, core: ClientCore, body: LiveBody) -> None:
        self._core = core
        self._body = body

    def __repr__(self) -> str:
        return f"<Context of {self._body.id!r}>"

    @property
    def id(self) -> str:
        """The id of the promise this function computes."""
        return self._body.id

    @property
    def info(self) -> Info:
        """Attempt, tags, deadline and version of this call."""
        return Info(self._body)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that is silent while recorded calls are replayed."""
        return ReplaySilent(LOGGER, {"id": self._body.id, "_body": self._body})

    @property
    def dependencies(self) -> Mapping[str, Any]:
        """All dependencies, as a read-only mapping."""
        return self._core.dependencies
