"""Processes that die at a request: programs of the corpus on real servers, through kill -9.

`python -m tests.remote.mortals BACKEND FOLDER POINTS PROGRAM...` puts each program through
crashes between any two of its requests: the process sends itself SIGKILL before request n, or
after its answer. For each run there is a server of its own and a first life, forked from this
process, that dies; then a second one that must end as if nothing had happened. A line of JSON
tells of each run.

A fork costs milliseconds where a start of Python costs half a second, and this process has one
thread and no event loop, so that its forks are sound.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections import Counter, deque
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
from tests.contract.backends import Backend, start
from tests.programs import PROGRAMS, World

from resonate_aio import Resonate
from resonate_aio.stores.http.answers import Answer
from resonate_aio.stores.http.session import HttpSession
from resonate_aio.testing.theatre import Records, settled_in

LIFE_S: Final = 45.0
"""More than any life needs, also on a machine that does other things."""

RACING: Final = frozenset({"first_completed_promises", "task_group_that_fails"})
"""What they record depends on who is first, and here time is real: no run is like another."""

_AT_ONCE: Final = 10
_LOOK_S: Final = 0.005
_STARTS: Final = 3
_WAKE: Final = ".wake-"
"""A promise that takes a parked execution up (S64): only where somebody was idle for a ttl."""


class Fate:
    """When a life ends: at which of its requests.

    Attributes:
        point: 2 n: before request n (from 0); 2 n + 1: after its answer; None: never.
        requests: How many were sent while they counted.
        counts: Whether they count now.
    """

    def __init__(self, point: int | None) -> None:
        self.point = point
        self.requests = 0
        self.counts = False

    def reached(self, point: int) -> None:
        """Die if this is the point."""
        if self.counts and point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalSession(HttpSession):
    """A session whose requests may be the last of this process."""

    def __init__(self, url: str, fate: Fate) -> None:
        super().__init__(url)
        self._fate = fate

    async def _send(self, *request: Any) -> Answer:
        number = self._fate.requests
        self._fate.requests += self._fate.counts
        self._fate.reached(2 * number)
        answer = await super()._send(*request)
        self._fate.reached(2 * number + 1)
        return answer


class Effects(Counter[str]):
    """How often each step was started, over all lives: kept in a file that outlives them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            for line in path.read_text().splitlines():
                super().__setitem__(line, self[line] + 1)

    def __setitem__(self, id: str, count: int) -> None:
        super().__setitem__(id, count)
        with self._path.open("a") as file:
            file.write(f"{id}\n")


class QuickWorld(World):
    """Steps take a moment of real time."""

    def duration(self, key: str) -> float:
        """Under a fiftieth of a second."""
        return super().duration(key) / 50


class Life(msgspec.Struct, frozen=True):
    """What a life that ended in order left behind.

    Attributes:
        result: What the program returned.
        is_expected: Whether that is what it must return.
        found: The settled records when it began.
        left: Those when it ended.
        requests: How many requests the program took.
        took_s: How long it took.
    """

    result: Any
    is_expected: bool
    found: Records
    left: Records
    requests: int
    took_s: float


async def live(backend: Backend, name: str, effects: Path, point: int | None) -> Life:
    """One life of a program."""
    fate = Fate(point)
    store = backend.make(lambda url: MortalSession(url, fate))
    await store.open()
    found = await settled_in(store)
    resonate = Resonate(store=store, pid=f"life{os.getpid()}")
    fate.counts = True
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(LIFE_S):
            result = await PROGRAMS[name].main(resonate, QuickWorld(effects=Effects(effects)))
    finally:
        await resonate.stop()
        fate.counts = False
    took_s = time.monotonic() - began_s
    left = await settled_in(store)
    await store.close()
    is_expected = result == PROGRAMS[name].expected
    return Life(result, is_expected, found, left, fate.requests, took_s)


class Run:
    """One program, one server, one crash or none.

    Attributes:
        fault: What is wrong with it, once it has ended; empty if nothing is.
        last: The life that ended in order.
        crashes: How many crashes fell.
    """

    def __init__(self, backend: str, name: str, point: int | None, folder: Path) -> None:
        folder.mkdir()
        self.name = name
        self.point = point
        self.fault = ""
        self.last: Life | None = None
        self.crashes = 0
        self._folder = folder
        self._effects = folder / "effects"
        self._started: Counter[str] = Counter()
        self._backend = _started(backend, folder)
        self._pid = self._fork(point)

    def has_ended(self) -> bool:
        """Look after the life that goes on; whether it was the last one."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return False
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL and not self.crashes and self.point is not None:
            self.crashes = 1
            self._started = Counter(Effects(self._effects))
            self._pid = self._fork(None)
            return False
        self._backend.kill()
        if code == 0:
            self.last = msgspec.json.decode((self._folder / "life").read_bytes(), type=Life)
        else:
            words = (self._folder / "words").read_text()[-3000:]
            self.fault = f"life {self.crashes + 1} ended with {code}: {words}"
        return True

    def judge(self, base: Life) -> None:
        """Compare with the run that was left alone."""
        last = self.last
        if last is None:
            return
        if not last.is_expected:
            self.fault = f"it returned {last.result!r}"
        again = Effects(self._effects)
        for id, record in last.found.items():
            if last.left.get(id) != record:
                self.fault = f"{id!r} was {record}, and is {last.left.get(id)} after the crash"
            if self.crashes and again[id] > self._started[id]:
                self.fault = f"step {id!r} was recorded at the crash and started again"
        if not PROGRAMS[self.name].values_vary and self.name not in RACING:
            left = {id: record for id, record in last.left.items() if _WAKE not in id}
            expected = {id: record for id, record in base.left.items() if _WAKE not in id}
            odd = {id for id in {**left, **expected} if left.get(id) != expected.get(id)}
            if odd:
                shown = {id: (expected.get(id), left.get(id)) for id in sorted(odd)[:5]}
                self.fault = f"it recorded something else: {shown}"

    def give_up(self) -> None:
        """End what still runs."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._backend.kill()

    def line(self) -> str:
        """The run as JSON."""
        told = {"name": self.name, "point": self.point, "crashes": self.crashes}
        took_s = 0.0 if self.last is None else round(self.last.took_s, 3)
        return json.dumps({**told, "took_s": took_s, "fault": self.fault})

    def _fork(self, point: int | None) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            words = os.open(self._folder / "words", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(words, 1)
            os.dup2(words, 2)
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
            life = asyncio.run(live(self._backend, self.name, self._effects, point))
            (self._folder / "life").write_bytes(msgspec.json.encode(life))
            code = 0
        except BaseException:  # noqa: BLE001  it is told by the exit code, and in words
            traceback.print_exc()
        finally:
            os._exit(code)


def _started(backend: str, folder: Path) -> Backend:
    """A server of its own; once more where somebody else took the port it was to have."""
    for left in reversed(range(_STARTS)):
        try:
            return start(backend, folder)
        except (RuntimeError, AssertionError):
            if not left:
                raise
    raise AssertionError


def points_of(name: str, requests: int, how_many: int) -> list[int]:
    """Where the crashes fall: everywhere, or at so many points."""
    every = range(2 * requests)
    if how_many == 0 or how_many >= len(every):
        return list(every)
    return sorted(Random(name).sample(every, how_many))


def main(backend: str, folder: Path, how_many: int, names: list[str]) -> None:
    """Run everything; one line for each run."""
    waiting: deque[tuple[str, int | None]] = deque((name, None) for name in names)
    base: dict[str, Life] = {}
    going: list[Run] = []
    try:
        while waiting or going:
            while waiting and len(going) < _AT_ONCE:
                name, point = waiting.popleft()
                label = "base" if point is None else point
                going.append(Run(backend, name, point, folder / f"{name}.{label}"))
            for run in [run for run in going if run.has_ended()]:
                going.remove(run)
                if run.point is None and run.last is not None:
                    base[run.name] = run.last
                    points = points_of(run.name, run.last.requests, how_many)
                    waiting.extend((run.name, point) for point in points)
                if run.name in base:
                    run.judge(base[run.name])
                print(run.line(), flush=True)  # noqa: T201  this is its report
            time.sleep(_LOOK_S)
    finally:
        for run in going:
            run.give_up()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
