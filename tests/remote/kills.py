"""A chain of services on one server, and kill -9 of each of them, at every hop and at random.

`python -m tests.remote.kills SERVER FOLDER KILLS` starts a server, a gateway and three workers;
foo on `a` calls bar on `b`, which calls baz on `c`. For each process there is a chain in which it
is killed at each hop; after that whichever chance picks is killed, the server too, until there
were so many kills. A line of JSON tells what became of it.

Processes are forked, for that costs milliseconds; this one has one thread and no event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.peers.current_server import CurrentServer
from tests.peers.server_traits import asked

from resonate_aio import Context, Resonate

HOPS: Final = ("", ".1", ".2", ".2.1", ".2.2", ".2.2.1", ".2.3", ".3")
"""What is started in a chain, in this order: functions and steps, by what follows the id."""

WORKERS: Final = ("a", "b", "c")
SERVER: Final = "server"
GATEWAY: Final = "gateway"
ANSWER: Final = 3
_LEASE_S: Final = 1.0
_WAIT_S: Final = 60.0
_LOOK_S: Final = 0.01


class Paper:
    """Files that outlive processes: what was ordered, started and answered, line by line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, file: str, *words: object) -> None:
        """One more line; whole, whoever is killed."""
        line = " ".join(map(str, words)) + "\n"
        descriptor = os.open(self.folder / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, line.encode())
        os.close(descriptor)

    def lines(self, file: str) -> list[list[str]]:
        """What was noted."""
        path = self.folder / file
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


# -- the processes


async def worker(group: str, url: str, paper: Paper) -> None:
    """One service, until it is killed."""
    resonate = Resonate(url=url, group=group, ttl=_LEASE_S)

    async def step(ctx: Context) -> None:
        paper.note("started", ctx.id)
        await asyncio.sleep(0.05)

    async def calls(ctx: Context, function: str, target: str) -> int:
        paper.note("started", ctx.id)
        await ctx.run(step)
        answer = int(await ctx.rpc(function).options(target=target))
        await ctx.run(step)
        return answer + 1

    async def foo(ctx: Context) -> int:
        return await calls(ctx, "bar", "b")

    async def bar(ctx: Context) -> int:
        return await calls(ctx, "baz", "c")

    async def baz(ctx: Context) -> int:
        paper.note("started", ctx.id)
        await ctx.run(step)
        return 1

    for function in (foo, bar, baz):
        resonate.register(function)
    async with resonate:
        await asyncio.Event().wait()


async def gateway(url: str, paper: Paper) -> None:
    """Begins every chain that is ordered, and notes its answer, until it is killed."""
    waiting: set[asyncio.Task[None]] = set()
    seen = {id for id, _ in paper.lines("answered")}
    async with Resonate(url=url, group=GATEWAY, ttl=_LEASE_S) as resonate:

        async def ask(id: str) -> None:
            answer = await resonate.options(target="a").begin_rpc(id, "foo")
            paper.note("answered", id, answer)

        while True:
            for (id,) in paper.lines("ordered"):
                if id not in seen:
                    seen.add(id)
                    task = asyncio.create_task(ask(id))
                    waiting.add(task)
            await asyncio.sleep(_LOOK_S)


# -- who kills them


class Chain:
    """The processes, and what they must have done."""

    def __init__(self, which: str, folder: Path) -> None:
        self.paper = Paper(folder)
        self.server = CurrentServer(which, folder)
        self.server.start()
        self.pids = {name: self._fork(name) for name in (*WORKERS, GATEWAY)}
        self.kills: Counter[str] = Counter()
        self.faults: list[str] = []
        self._settled: dict[str, Any] = {}
        self._looked_at_line = 0

    def _fork(self, name: str) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            words = os.open(
                self.paper.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
            )
            os.dup2(words, 1)
            os.dup2(words, 2)
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
            url = self.server.url
            work = gateway(url, self.paper) if name == GATEWAY else worker(name, url, self.paper)
            asyncio.run(work)
        except BaseException:  # noqa: BLE001  nobody above this
            traceback.print_exc()
        finally:
            os._exit(1)

    def kill(self, name: str) -> None:
        """End one of them as a power cut would, and start it again."""
        self.look()
        if name == SERVER:
            self.server.kill()
            self.server.start()
        else:
            os.kill(self.pids[name], signal.SIGKILL)
            os.waitpid(self.pids[name], 0)
            self.pids[name] = self._fork(name)
        self.kills[name] += 1

    def look(self) -> None:
        """What was recorded must still be there, and must not have been started again."""
        started = [line[0] for line in self.paper.lines("started")]
        again = {id for id in started[self._looked_at_line :] if id in self._settled}
        self.faults += [f"{id} was recorded and started again" for id in sorted(again)]
        found = dict(self._settled_promises())
        for id, record in self._settled.items():
            if found.get(id) != record:
                self.faults.append(f"{id} was {record} and is {found.get(id)}")
        self._settled = found
        # Read after the records: what is started from here on was not recorded.
        self._looked_at_line = len(self.paper.lines("started"))

    def _settled_promises(self) -> Iterator[tuple[str, Any]]:
        data: dict[str, Any] = {"limit": 1000}
        while True:
            status, page = asked(self.server.url, "promise.search", data)
            assert status == 200, page
            for promise in page["promises"]:
                if promise["state"] != "pending":
                    yield promise["id"], (promise["state"], promise.get("value"))
            if not page.get("cursor"):
                return
            data["cursor"] = page["cursor"]

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait for it."""
        until_s = time.monotonic() + _WAIT_S
        while not holds():
            if time.monotonic() > until_s:
                raise TimeoutError(f"{what} not within {_WAIT_S:g} s")
            time.sleep(_LOOK_S)

    def order(self, id: str) -> None:
        """Have the gateway begin a chain."""
        self.paper.note("ordered", id)

    def end(self) -> None:
        """End everything."""
        for pid in self.pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.server.kill()


def story(chain: Chain, kills: int) -> list[str]:
    """Kill them all, at every hop, then at random; the chains that were begun."""
    paper, ids = chain.paper, []
    for victim in (*WORKERS, GATEWAY, SERVER):
        for number, hop in enumerate(HOPS):
            id = f"hop-{victim}-{number}"
            ids.append(id)
            chain.order(id)
            chain.until(id + hop, lambda hop=id + hop: [hop] in paper.lines("started"))  # type: ignore[misc]
            chain.kill(victim)
    rng = Random(kills)
    while chain.kills.total() < kills:
        id = f"luck-{chain.kills.total()}"
        ids.append(id)
        chain.order(id)
        time.sleep(rng.uniform(0.05, 0.5))
        chain.kill(rng.choice((*WORKERS, GATEWAY, SERVER)))
    chain.until("every answer", lambda: len(paper.lines("answered")) >= len(ids))
    return ids


def main(which: str, folder: Path, kills: int) -> None:
    """Tell the story."""
    began_s = time.monotonic()
    chain = Chain(which, folder)
    try:
        try:
            ids = story(chain, kills)
        except TimeoutError as error:
            ids = []
            chain.faults.append(str(error))
        chain.look()
        answers = {id: int(answer) for id, answer in chain.paper.lines("answered")}
        chain.faults += [
            f"{id} answered {answers.get(id)}" for id in ids if answers.get(id) != ANSWER
        ]
        told = {
            "kills": dict(chain.kills),
            "chains": len(ids),
            "starts": len(chain.paper.lines("started")),
            "took_s": round(time.monotonic() - began_s, 1),
            "faults": chain.faults,
        }
        print(json.dumps(told), flush=True)  # noqa: T201  this is its report
    finally:
        chain.end()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
