"""The nine services, their gateway and their server, each killed with -9 wherever a call is.

The application is `examples/async_rpc`, as processes. In each round its three flows run, and
one process is killed when a function of one flow has got to a certain line: first the one that
printed the line, for every line of every flow; then the server, the gateway and others. Nothing
is lost (every answer is right, what was recorded stays as it was), and no function that was
recorded when the kill came runs again (laws 1, 2 and 6).

`KILLS` says how many there are: 12 by default, which is every line of the await chain, the
gateway's included, and the server; RESONATE_TEST_KILLS=100 does all of it in some minutes.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from fleet import SERVICES, Fleet
from tests.examples.generations import Server, client_of, environment_of, running, servers

from resonate_aio import Resonate
from resonate_aio.errors import ResonateStoreError

KILLS: Final = int(os.environ.get("RESONATE_TEST_KILLS", "12"))
LEASE_S: Final = 1.0
WAIT_S: Final = 60.0
"""How long one round may take, on a busy machine."""

SETTINGS: Final = {
    "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    "PYTHONWARNINGS": "error",
    "ASYNC_RPC_LEASE_S": str(LEASE_S),
    "ASYNC_RPC_WORK_S": "0.2",
}


class Flow(NamedTuple):
    """One of the three: its route, what it answers, and the ids that its call makes."""

    path: str
    message: int | str
    ids: tuple[str, ...]

    def answer(self, id: str) -> int | str:
        """What the caller of this id is told."""
        return self.message.format(id=id) if isinstance(self.message, str) else self.message


FLOWS: Final = {
    "chain": Flow("/await-chain", 3, ("", ".1", ".1.1")),
    "detached": Flow("/detached-chain", "{id} started", ("", ".1", ".1.1")),
    "fan": Flow("/fan-out", 13, ("", ".1", ".1.1", ".1.2", ".2")),
}


class Hop(NamedTuple):
    """A place in a flow: this process prints this line under this id."""

    flow: str
    process: str
    id: str
    text: str


HOPS: Final = (
    Hop("chain", "gateway", "", "asking"),
    Hop("chain", "service-a", "", "foo begins"),
    Hop("chain", "service-b", ".1", "bar begins"),
    Hop("chain", "service-c", ".1.1", "baz begins"),
    Hop("chain", "service-c", ".1.1", "baz ends"),
    Hop("chain", "service-b", ".1", "bar ends"),
    Hop("chain", "service-a", "", "foo ends"),
    Hop("chain", "gateway", "", "answering"),
    Hop("fan", "service-g", "", "zim begins"),
    Hop("fan", "service-h", ".1", "rax begins"),
    Hop("fan", "service-h", ".1.1", "add"),
    Hop("fan", "service-h", ".1.2", "add"),
    Hop("fan", "service-h", ".1", "rax ends"),
    Hop("fan", "service-i", ".2", "dop begins"),
    Hop("fan", "service-i", ".2", "dop ends"),
    Hop("fan", "service-g", "", "zim ends"),
    Hop("detached", "gateway", "", "asking"),
    Hop("detached", "service-d", "", "qux begins"),
    Hop("detached", "service-d", "", "qux ends"),
    Hop("detached", "service-e", ".1", "quz begins"),
    Hop("detached", "service-e", ".1", "quz ends"),
    Hop("detached", "service-f", ".1.1", "cog begins"),
    Hop("detached", "service-f", ".1.1", "cog ends"),
)
_OF_THE_CHAIN: Final = 8


class Kill(NamedTuple):
    """Who is killed, where, and how long after."""

    victim: str
    hop: Hop
    after_s: float


def plan(count: int) -> list[Kill]:
    """The kills, the same ones each time; a longer plan begins with the shorter one."""
    rng = Random(5)
    own = [Kill(hop.process, hop, 0.0) for hop in HOPS]
    server = [Kill("server", hop, rng.choice([0.0, 0.01, 0.1])) for hop in HOPS]
    gateway = [Kill("gateway", hop, 0.0) for hop in HOPS]
    rng.shuffle(server)
    kills = own[:_OF_THE_CHAIN] + server[:4] + own[_OF_THE_CHAIN:] + server[4:] + gateway
    victims = ["server", "gateway", *SERVICES]
    while len(kills) < count:
        kills.append(Kill(rng.choice(victims), rng.choice(HOPS), rng.uniform(0.0, 0.3)))
    return kills[:count]


class Stage:
    """The application, the one server it has, and somebody who asks both."""

    def __init__(self, fleet: Fleet, log: Path, server: Server | None) -> None:
        self.fleet = fleet
        self._log = log
        self._server = server

    def client(self) -> Resonate:
        """A client of the server that the services use, which takes no work."""
        if self._server is None:
            return Resonate(url=self.fleet.server_url, group="lookers-on")
        return client_of(self._server, "lookers-on")

    async def kill(self, name: str) -> None:
        if name == "server" and self._server is not None:
            await asyncio.to_thread(self._server.kill)
        else:
            await self.fleet.kill(name)

    async def start(self, name: str) -> None:
        if name == "server" and self._server is not None:
            await asyncio.to_thread(self._server.start)
        else:
            await self.fleet.start(name)

    async def post(self, flow: Flow, id: str) -> Any:
        """What a person does: asks, and asks again when the gateway died meanwhile."""
        async with ClientSession(timeout=ClientTimeout(total=None)) as session:
            while True:
                url = self.fleet.gateway_url + flow.path
                try:
                    async with session.post(url, params={"id": id}) as response:
                        assert response.status == 200, await response.text()
                        return (await response.json())["message"]
                except ClientError:
                    await asyncio.sleep(0.05)

    def lines(self) -> Counter[str]:
        """How many lines there are under each id."""
        if not self._log.exists():
            return Counter()
        return Counter(line.partition(": ")[0] for line in self._log.read_text().splitlines())


@asynccontextmanager
async def stage(folder: Path, server: Server | None) -> AsyncIterator[Stage]:
    """The application, all of it, on this server; None: on one that it starts itself."""
    log = folder / "log"
    settings = {**SETTINGS, "ASYNC_RPC_LOG": str(log), **environment_of(server)}
    async with Fleet(settings, db=str(folder / "services.db")) as fleet:
        async with asyncio.timeout(WAIT_S):
            await fleet.start_all()
        yield Stage(fleet, log, server)


async def recorded(client: Resonate, ids: list[str]) -> dict[str, Any]:
    """The records of those that are settled."""
    found: dict[str, Any] = {}
    for id in ids:
        try:
            promise = await client.promises.get(id)
        except ResonateStoreError as error:
            if error.code != 404:
                raise
            continue
        if promise.state != "pending":
            found[id] = promise
    return found


async def play(stage: Stage, client: Resonate, name: str, kill: Kill) -> None:
    """One round: the three flows, and one kill in the middle."""
    roots = {flow: f"{name}-{flow}" for flow in FLOWS}
    ids = [roots[name] + suffix for name, flow in FLOWS.items() for suffix in flow.ids]
    hop = kill.hop
    line = f"{roots[hop.flow]}{hop.id}: {hop.text}"
    async with asyncio.TaskGroup() as tasks:
        answers = {
            name: tasks.create_task(stage.post(flow, roots[name])) for name, flow in FLOWS.items()
        }
        await stage.fleet.until(hop.process, line)
        await asyncio.sleep(kill.after_s)
        if kill.victim == "server":
            before = await recorded(client, ids)
            await stage.kill(kill.victim)
        else:
            await stage.kill(kill.victim)
            before = await recorded(client, ids)
        lines = stage.lines()
        await stage.start(kill.victim)
    for id in ids:  # who hands on ends before what was handed on, or after it
        await client.get(id)
    assert {name: answer.result() for name, answer in answers.items()} == {
        name: flow.answer(roots[name]) for name, flow in FLOWS.items()
    }
    assert await client.get(f"{roots['detached']}.1.1") == 3
    after = await recorded(client, ids)
    assert set(after) == set(ids), f"{kill}: lost"
    assert {id: after[id] for id in before} == before, f"{kill}: changed"
    again = {id for id in before if stage.lines()[id] != lines[id]}
    assert not again, f"{kill}: ran again though recorded"


@pytest.mark.timeout(60 + 20 * KILLS)
@pytest.mark.parametrize("which", servers())
async def test_kills_everywhere_lose_nothing_and_repeat_nothing(which: str, tmp_path: Path) -> None:
    """Mission E13: whichever process of the chain crashes, at whichever line, server included."""
    run = uuid.uuid4().hex[:6]  # a server that is not ours may know earlier runs
    with running(which, tmp_path) as server:
        can_be_killed = getattr(server, "can_be_killed", True)
        kills = [kill for kill in plan(KILLS) if can_be_killed or kill.victim != "server"]
        async with stage(tmp_path, server) as it, it.client() as client:
            for number, kill in enumerate(kills):
                async with asyncio.timeout(WAIT_S):
                    await play(it, client, f"{run}-{number}", kill)


def test_the_plan_kills_everything_everywhere() -> None:
    kills = plan(100)
    assert len(kills) == 100
    assert {(kill.victim, kill.hop) for kill in kills} >= {(hop.process, hop) for hop in HOPS}
    assert {kill.hop for kill in kills if kill.victim == "server"} == set(HOPS)
    assert {kill.victim for kill in kills} == {"server", "gateway", *SERVICES}
    assert plan(12) == kills[:12]
    assert {kill.victim for kill in plan(12)} == {
        *("server", "gateway", "service-a", "service-b", "service-c")
    }
