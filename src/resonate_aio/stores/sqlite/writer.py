"""The thread that owns the connection: jobs go in, one at a time, in order.

A job that fails for an outside reason (file locked, disk full, I/O error) is tried again
with growing, jittered pauses, and nothing overtakes it (S21). What never passes, such as a
damaged page, is told at once to whoever submitted the job, and the others go on. The loop
hears of a job's end by a bell. This file knows no records.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Protocol

from ...errors import ResonateStoreError
from .bell import Bell
from .damage import damage, is_passing, never_passes
from .presence import Presence

_log = logging.getLogger("resonate_aio.stores")

_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 2.0


class Job(Protocol):
    """One piece of work for the connection."""

    def step(self, connection: sqlite3.Connection) -> bool:
        """Do some of it; False asks for another step after the jobs that wait.

        Raises:
            sqlite3.Error: It is rolled back, and this step is tried again if that may help.
        """
        ...

    def finished(self, error: Exception | None) -> None:
        """Called from the loop: it is done, or it was given up for this error.

        Called again where a signal handler raised in it: what it did then is done.
        """
        ...


class Writer:
    """A thread with a connection and a queue of jobs.

    Args:
        name: The file, for messages.
        connect: Makes the connection; runs on the thread.
        loop: Where `finished` is called.
        presence: Looks whether what jobs did is where it will be found; on the thread, too.
    """

    __slots__ = (
        "_bell",
        "_connect",
        "_done",
        "_give_up_at",
        "_is_aborted",
        "_jobs",
        "_name",
        "_over",
        "_presence",
        "_stopped",
        "_submitted",
        "_thread",
        "_wake",
    )

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        loop: asyncio.AbstractEventLoop,
        presence: Presence,
    ) -> None:
        self._name = name
        self._presence = presence
        self._connect = connect
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._over: deque[tuple[Job | None, Exception | None]] = deque()
        self._bell = Bell(name, loop, self._hear)
        self._wake = threading.Event()
        self._give_up_at: float | None = None
        self._is_aborted = False
        self._stopped: Callable[[], None] = _nothing
        self._submitted = 0
        self._done = 0
        self._thread = threading.Thread(
            target=self._run, name=f"resonate-aio writer of {name}", daemon=True
        )

    @property
    def is_busy(self) -> bool:
        """Whether jobs were submitted whose end the loop has not heard of."""
        return self._done < self._submitted

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop: a job that fails is given up after a time."""
        return self._give_up_at is not None

    def start(self, opened: Job) -> None:
        """Start the thread; `opened` is its first job, or hears why there is no connection."""
        self.submit(opened)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue one job."""
        self._submitted += 1
        self._jobs.put(job)

    def stop(self, patience_s: float, stopped: Callable[[], None]) -> None:
        """Let the thread end after the queued jobs; a failing one is given up after a time.

        Args:
            patience_s: How long to go on trying.
            stopped: Called from the loop once the connection is closed.
        """
        self._stopped = stopped
        self._submitted += 1
        self._give_up_at = time.monotonic() + patience_s
        self._wake.set()
        self._jobs.put(None)

    def abort(self) -> None:
        """End the thread after the step at hand and drop every other job; blocks for that."""
        self._is_aborted = True
        self.stop(0.0, _nothing)
        self.join()

    def join(self) -> None:
        """Wait for the thread's end; at once when `stopped` was called. Nobody is told after it."""
        if self._thread.ident is not None:  # else the system had no thread to give
            self._thread.join()
        self._bell.close()

    def _hear(self) -> None:
        """Tell of the jobs that are over, in their order.

        A signal handler may raise anywhere in it: then it is called again, and tells once more
        of a job whose `finished` it did not see the end of.
        """
        over = self._over
        while over:
            job, error = over[0]
            try:
                if job is None:
                    self._stopped()
                elif not self._is_aborted:
                    job.finished(error)
            except Exception:  # noqa: BLE001  the jobs after it must not suffer
                _log.exception("%s: what followed a job failed", self._name)
            self._done += 1
            over.popleft()

    # -- on the thread

    def _run(self) -> None:
        try:
            connection = self._connect()
            self._presence.opened()
        except Exception as error:  # noqa: BLE001  whoever opens the store gets it
            self._serve(None, error)
            return
        try:
            self._serve(connection, None)
            if not self._is_aborted and self._presence.fault is None:
                self._look_once_more(connection)
        finally:
            try:
                connection.close()
            except sqlite3.Error as error:
                _log.warning("%s did not close cleanly: %s", self._name, error)
            self._report(None, None)

    def _look_once_more(self, connection: sqlite3.Connection) -> None:
        try:
            self._presence.look(connection)
        except ResonateStoreError as error:
            _log.error("%s: %s", self._name, error)

    def _serve(self, connection: sqlite3.Connection | None, error: Exception | None) -> None:
        changes = 0
        while (job := self._jobs.get()) is not None and not self._is_aborted:
            if connection is None:
                self._report(job, error)
                return
            try:
                self._presence.refuse()
                is_complete = self._persist(connection, job)
                if connection.total_changes != changes:
                    changes = connection.total_changes
                    self._presence.check(connection)
            except Exception as fault:  # noqa: BLE001  the job's owner decides
                self._report(job, fault)
                del job
                continue
            if is_complete:
                self._report(job, None)
            else:
                self._jobs.put(job)
            del job  # waiting for the next one must not keep all that the last one held

    def _persist(self, connection: sqlite3.Connection, job: Job) -> bool:
        """Run one step of the job for as long as it takes.

        Raises:
            ResonateStoreError: It cannot be done, however often it is tried.
            sqlite3.Error: The time it had while the thread is stopping is over.
        """
        attempt = 0
        while True:
            try:
                return job.step(connection)
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.rollback()
                if never_passes(error):
                    raise ResonateStoreError(damage(self._name, error)) from error
                attempt += 1
                pause_s = min(_FIRST_PAUSE_S * 2 ** min(attempt, 16), _LONGEST_PAUSE_S)
                pause_s *= random.uniform(0.5, 1.0)  # noqa: S311  not a secret
                level = logging.WARNING if is_passing(error) else logging.ERROR
                _log.log(
                    level,
                    "%s: %s; attempt %d, the next in %.2f s",
                    self._name,
                    error,
                    attempt,
                    pause_s,
                )
                if not self._pause(pause_s):
                    raise

    def _pause(self, pause_s: float) -> bool:
        """Wait; False when the job is to be given up."""
        if self._give_up_at is None:
            self._wake.wait(pause_s)
        if self._give_up_at is not None:
            left_s = self._give_up_at - time.monotonic()
            if left_s <= 0:
                return False
            if self._wake.is_set():
                time.sleep(min(pause_s, left_s))
        return True

    def _report(self, job: Job | None, error: Exception | None) -> None:
        self._over.append((job, error))
        self._bell.ring()


def _nothing() -> None:
    pass
