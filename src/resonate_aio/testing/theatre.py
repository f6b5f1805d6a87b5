"""Lives of one program, one after the other, on one store that survives them.

A life is one `SimLoop`, one client and one call of the program. It ends in order, or in a
crash at a chosen point: before or after a store operation, or between two handles of the
event loop. A crash drops every object of the life inertly (S32): its loop never runs again,
its frames stay referenced, and only what the store had recorded is kept. This file knows
nothing of what a run ought to give.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import tempfile
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import msgspec

from ..client.resonate import Resonate
from ..protocol.records import PromiseState
from ..protocol.requests import PromiseSearch
from ..runtime.settings import Settings
from ..stores.base import Store
from ..stores.in_process import InProcessStore
from ..stores.memory import MemoryStore
from ..stores.sqlite import SqliteStore
from ..stores.sqlite import store as sqlite_store
from .crashing_store import CrashingStore
from .forgotten import Forgotten
from .loop import Killed, SimClock, SimLoop

Main = Callable[[Resonate], Awaitable[Any]]
Records = dict[str, tuple[str, str | None]]
"""State and encoded value of every settled promise, by id."""

LIVES = 60
_START_MS = 1_700_000_000_000
_VICTIM_THREAD_S = 30.0


class FaultError(AssertionError):
    """A life did not go as it must; whoever planned it says which one it was."""


class Life(msgspec.Struct, frozen=True):
    """How one life went.

    Attributes:
        result: What the program returned; None if the life was cut short.
        records: What was settled at its orderly end.
        crashed: Whether it was; `at` then says where.
        operations: How many store operations it made.
        handles: How many handles its loop ran.
        took_s: Its virtual seconds.
    """

    result: Any
    records: Records
    crashed: bool
    at: str
    operations: int
    handles: int
    took_s: float


class Outcome(msgspec.Struct, frozen=True):
    """What one run left.

    Attributes:
        result: What the program returned in its last life.
        records: The settled records at the end.
        operations: How many store operations its first life made.
        lives: All of them; every one but the last was cut short.
    """

    result: Any
    records: Records
    operations: int
    lives: tuple[Life, ...]

    @property
    def crashes(self) -> int:
        """How many crashes really fell."""
        return len(self.lives) - 1


class Stage(Protocol):
    """A kind of store that can be crashed."""

    def open(self, loop: SimLoop, clock: SimClock) -> Store:
        """The store of the next life."""
        ...

    def crash(self) -> None:
        """End the life now: keep what is recorded, nothing else."""
        ...

    def close(self) -> None:
        """Remove what is left."""
        ...


class MemoryStage:
    """Memory: everything applied is recorded."""

    def __init__(self) -> None:
        self._store: MemoryStore | None = None

    def open(self, loop: SimLoop, clock: SimClock) -> Store:
        """The store of the next life."""
        self._store = (
            MemoryStore(clock=clock) if self._store is None else self._store.crash_copy(clock=clock)
        )
        return self._store

    def crash(self) -> None:
        """End the life now."""
        assert self._store is not None
        self._store = self._store.crash_copy()

    def close(self) -> None:
        """Nothing is left."""


class SqliteStage:
    """A SQLite file: what was not committed is lost."""

    def __init__(self) -> None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  no disk to wait for
        self._folder = tempfile.TemporaryDirectory(prefix="resonate-aio-crash-", dir=memory)
        self._path = os.path.join(self._folder.name, "app.db")
        self._store: SqliteStore | None = None

    def open(self, loop: SimLoop, clock: SimClock) -> Store:
        """The store of the next life."""
        store = self._store = SqliteStore(self._path, synchronous="NORMAL", clock=clock)
        loop.add_busy_check(lambda: store.is_busy)
        return store

    def crash(self) -> None:
        """End the life now."""
        store = self._store
        assert store is not None
        shared = sqlite_store._shared.get(sqlite_store._real(self._path))
        store.crash()
        if shared is not None:  # it was opening or closing: only the file's entry knows
            sqlite_store._kill(shared)

    def close(self) -> None:
        """Remove the file."""
        self._folder.cleanup()


async def settled_in(store: Store) -> Records:
    """Every settled record of an open store."""
    found: Records = {}
    cursor: str | None = None
    while True:
        reply = await store.call(PromiseSearch(limit=1000, cursor=cursor))
        for promise in reply.promises:
            if promise.state is not PromiseState.PENDING:
                found[promise.id] = (str(promise.state), promise.value.data)
        cursor = reply.cursor
        if cursor is None:
            return found


class Theatre:
    """Runs lives of one program, one after the other, on one stage.

    Args:
        main: The whole program: called in every life with a fresh client.
        stage: Where it is recorded.
        settings: The worker's settings, for every life.
        crashed: Called after each crash, when nothing of the life can move any more.
        found: Called with the settled records when the next life has opened the store.
        limit_s: Virtual seconds that one life may take.
        refuses_forgotten: Whether it is a deadlock that everybody waits for promises that
            nobody settles, instead of a wait for their time limits.

    Attributes:
        places: Where the crashes fell so far, in words.
    """

    def __init__(
        self,
        main: Main,
        stage: Stage,
        *,
        settings: Settings | None = None,
        crashed: Callable[[], None] = lambda: None,
        found: Callable[[Records], None] = lambda _: None,
        limit_s: float | None = None,
        refuses_forgotten: bool = False,
    ) -> None:
        self._main = main
        self._stage = stage
        self._settings = settings
        self._crashed = crashed
        self._found = found
        self._limit_s = limit_s
        self._refuses_forgotten = refuses_forgotten
        self._clock_s = 0.0
        self._limit: asyncio.Timeout | None = None
        self.places: list[str] = []

    def life(self, point: int | None, main: Main | None = None) -> Life:
        """One life.

        Args:
            point: None to let it end in order; 2 n to crash before its store operation n
                (from 0), 2 n + 1 to crash after it; -n to crash when its loop has run n
                handles.
            main: Another program than the theatre's, for this life.

        Raises:
            FaultError: It left tasks behind, its loop caught an error, or it took too long.
            BaseException: What the program raised.
        """
        began_s = self._clock_s
        loop = SimLoop(start_s=began_s)
        clock = SimClock(loop, _START_MS)

        def crash() -> None:
            self._stage.crash()
            loop.keep(resonate)
            loop.kill()

        inner = self._stage.open(loop, clock)
        store = CrashingStore(inner, point if point is not None and point >= 0 else None, crash)
        resonate = Resonate(store=store, pid="crash", clock=clock, settings=self._settings)
        if point is not None and point < 0:
            loop.kill_after(-point)
        if self._refuses_forgotten:
            default_s = (self._settings or Settings()).default_timeout_s
            forgotten = Forgotten(partial(_machine_room, inner), default_s)
            loop.set_stuck_check(lambda timers: forgotten.why(self._of_the_life(timers)))
        at = ""
        result, records = None, None
        try:
            whole = self._whole(inner, resonate, main or self._main)
            result, records = loop.run_until_complete(whole)
        except Killed:
            if loop.is_dead and not store.is_dead:
                store.kill()
                self._stage.crash()
                loop.keep(resonate)
            _wait_for_threads(loop)
            _forget_tasks(loop)
            at = _place(store, point, loop.steps)
            self.places.append(at)
            self._crashed()
        except BaseException:
            loop.kill()  # what is left behind stays quiet: the error is what matters
            self._stage.crash()  # and leaves no thread
            raise
        else:
            self._check(loop)
            loop.close()
        finally:
            self._clock_s = loop.time()
            # A killed loop is kept for ever: what it refers to would be, too.
            loop.set_stuck_check(None)
            self._limit = None
        took_s = loop.time() - began_s
        return Life(result, records or {}, bool(at), at, store.operations, loop.steps, took_s)

    async def _whole(self, store: Store, resonate: Resonate, main: Main) -> tuple[Any, Records]:
        await store.open()
        self._found(await settled_in(store))
        try:
            async with asyncio.timeout(self._limit_s) as limit:
                self._limit = limit
                result = await _awaitable(main, resonate)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise FaultError(f"it did not end within {self._limit_s:g} virtual seconds") from error
        finally:
            await resonate.stop()
        records = await settled_in(store)
        await store.close()
        return result, records

    def _of_the_life(self, timers: list[asyncio.TimerHandle]) -> list[asyncio.TimerHandle]:
        """Without the theatre's own: nothing comes when a life takes too long but its end."""
        own = self._limit
        owners = (
            (timer, getattr(cast(Any, timer)._callback, "__self__", None)) for timer in timers
        )
        return [timer for timer, owner in owners if owner is None or owner is not own]

    @staticmethod
    def _check(loop: SimLoop) -> None:
        left = [task.get_name() for task in asyncio.all_tasks(loop) if not task.done()]
        if left:
            raise FaultError(f"stop() left tasks behind: {', '.join(sorted(left))}")
        if loop.exceptions:
            raise FaultError(f"the event loop caught: {loop.exceptions[0]}")

    def play(self, crashes: Sequence[int]) -> Outcome:
        """Lives with these crash points, then lives without until one ends in order."""
        lives: list[Life] = []
        while len(lives) < LIVES:
            number = len(lives)
            life = self.life(crashes[number] if number < len(crashes) else None)
            lives.append(life)
            if not life.crashed:
                return Outcome(life.result, life.records, lives[0].operations, tuple(lives))
        raise FaultError(f"no orderly end after {LIVES} lives")


def refuse_what_is_no_program(main: Any, door: str) -> None:
    """Before anything runs: whether this can be called at all.

    Raises:
        TypeError: It cannot; the message says what to write.
    """
    if callable(main):
        return
    wanted = f"{door} takes an async function, `async def program(resonate): ...`"
    if inspect.iscoroutine(main):
        main.close()  # nobody will await it, and that needs no warning of its own
        name = main.__name__
        raise TypeError(
            f"{wanted}, got what calling {name}() gave: leave the call out, {door}({name})"
        )
    raise TypeError(f"{wanted}, got {main!r}")


def _awaitable(main: Main, resonate: Resonate) -> Awaitable[Any]:
    """What calling the program gives: only then is it known whether it can be awaited."""
    called: Any = main(resonate)
    if not inspect.isawaitable(called):
        name = getattr(main, "__name__", type(main).__name__)
        raise TypeError(
            "the program is an async function, `async def program(resonate): ...`, but calling "
            f"{name}(resonate) gave {called!r}, which cannot be awaited"
        )
    return called


def _machine_room(store: Store) -> InProcessStore | None:
    """What holds the promises of a store of this process; None while it is not open."""
    if isinstance(store, SqliteStore):
        return store._core
    return store if isinstance(store, InProcessStore) else None


def _wait_for_threads(loop: SimLoop) -> None:
    """A thread cannot be killed: let those of a dead life end before the next one begins."""
    for thread in threading.enumerate():
        if getattr(thread, "loop", None) is loop:
            thread.join(_VICTIM_THREAD_S)


def _forget_tasks(loop: SimLoop) -> None:
    """Take the tasks of a dead life, ended ones too, out of what `asyncio.all_tasks` walks."""
    known: Any = getattr(asyncio.tasks, "_scheduled_tasks", None)
    if known is None:  # before 3.12
        known = getattr(asyncio.tasks, "_all_tasks", ())
    for task in list(known):
        if task.get_loop() is loop:
            asyncio._unregister_task(task)


def _place(store: CrashingStore, point: int | None, handles: int) -> str:
    if point is None or point < 0:
        return f"after {handles} handles of the event loop"
    verb, subject = store.last
    side = "after" if point % 2 else "before"
    return f"{side} store operation {point // 2} ({verb} {_briefly(subject)})"


def _briefly(subject: object) -> str:
    """What an operation was about: the id it named, and what was asked if it was a request."""
    if not isinstance(subject, msgspec.Struct):
        return repr(subject)
    about = getattr(subject, "action", subject)
    id = getattr(about, "id", None) or getattr(about, "awaited", None)
    asked = type(subject).__name__
    return asked if id is None else f"{asked} {id!r}"
