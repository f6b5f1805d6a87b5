"""Look-ups: what memory lacks is read from the file, and stays for as long as it is looked at.

All look-ups of one pass of the loop go to the writer's thread together. This file decides
nothing: what follows from a row is for those who asked.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial

from ...errors import ResonateStoreError, UnreadableRecordError
from .commits import Commits, Then
from .jobs import Lookup, Lookups
from .rows import Stored

_log = logging.getLogger("resonate_aio.stores")


class Looking(Commits):
    """A machine in memory that can read the rest of its records from the file."""

    __slots__ = ()

    def _look(self, lookup: Lookup, then: Then) -> None:
        """Ask the file; `then` goes on from a loop callback. One hand-over per loop pass."""
        if not self._lookups:
            loop = self._check_open()
            self._connected()
            loop.call_soon(self._begin_lookups)
        self._lookups.append((lookup, then))

    def _begin_lookups(self) -> None:
        asked, self._lookups = self._lookups, []
        if self._writer is None or not asked:
            return
        job = Lookups([lookup for lookup, _ in asked], partial(self._looked_up, deque(asked)))
        self._lookups_out.add(job)
        self._writer.submit(job)

    def _looked_up(
        self, asked: deque[tuple[Lookup, Then]], job: Lookups, error: Exception | None
    ) -> None:
        while asked:  # taken out one by one, as this is called again where a signal handler raised
            lookup, then = asked.popleft()
            lookup.error = error or lookup.error
            loaded = [stored for stored in lookup.found if self._load_one(stored)]
            try:
                then(lookup)
            except Exception:  # noqa: BLE001  the other look-ups must not suffer
                _log.exception("what followed a look-up failed")
            for stored in loaded:
                self._release(stored.promise.id)
        self._lookups_out.discard(job)

    def _load_one(self, stored: Stored) -> bool:
        """Take a settled row into memory; what is pending is there, or was settled since."""
        promise = stored.promise
        if promise.settled_at_ms is None or promise.id in self._machine.promises:
            return False
        self._machine.load(*stored)
        return True

    def _trouble(self, error: Exception | None) -> ResonateStoreError:
        """What those who asked are told; what cannot be read is named in the log."""
        if isinstance(error, UnreadableRecordError):
            self.report([error])
            return error
        return ResonateStoreError(f"the store failed: {error}")
