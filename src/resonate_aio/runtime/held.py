"""An execution that this process holds: the machine's part, and what its holder knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from ..execution.call import Call
from ..execution.execution import ALIVE, Execution
from ..protocol.dialects import SEPARATORS, Dialect, dialect_of
from ..protocol.records import Promise, Task
from .awaitables import RootCall
from .bodies import LiveBody
from .functions import Callee

Ended = Callable[[str, Promise | None, TracebackType | None], None]
"""Called as ended(id, settled record, where its function raised), or ended(id, None, None): it
does not end here any more."""


class Held(Execution):
    """An execution with what its holder knows of it.

    Attributes:
        body: The root's body, while it lives.
        ended: Whom to tell of its end.
        stopping: Done when the last of its dropped frames has ended.
        tick_ms: The tick of the schedule that started it; None if none did.
        knows: How often explicit ids had changed hands when it was loaded (see `Sharing`).
        shared: Its calls of explicit ids whose functions run here.
        watched: The calls whose promises are watched, and who hears of each.
    """

    __slots__ = ("body", "callee", "ended", "knows", "shared", "stopping", "tick_ms", "watched")

    def __init__(self, task: Task, promise: Promise, root: RootCall, callee: Callee) -> None:
        super().__init__(task.id, task.version, root)
        self.joint = SEPARATORS[dialect_of(promise) or Dialect.DOT]
        self.callee = callee
        # Created as at its tick, whenever that was caught up with (R7).
        self.tick_ms = promise.created_at_ms if "resonate:schedule" in promise.tags else None
        self.ended: Ended | None = None
        self.body: LiveBody | None = None
        self.stopping: asyncio.Future[None] | None = None
        self.knows = 0
        self.shared: dict[Call, None] | None = None
        self.watched: dict[Call, Callable[[Promise], None]] = {}

    @property
    def is_under_way(self) -> bool:
        """Whether its function has not ended; when it has, our own fulfil is on its way."""
        return self.life is ALIVE and (self.body is None or not self.body.is_over)

    def not_here_any_more(self) -> None:
        """It does not end here: who waits for it has to hear of it elsewhere."""
        if self.ended is not None:
            self.ended(self.id, None, None)
