"""resonate-sdk 0.6.7 and this library on one legacy server: each calls the other's workers.

Needs a legacy server (see `legacy_server`) and the Python of an environment that has
resonate-sdk 0.6.7, named by RESONATE_TEST_SDK_067.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.peers import legacy_server as peer
from tests.peers import sdk_067
from tests.peers.legacy_clients import legacy_client
from tests.peers.processes import PEERS, WAIT_S, Processes
from tests.peers.shared_functions import functions

from resonate_aio import Resonate
from resonate_aio.errors import ResonateStoreError

pytestmark = pytest.mark.slow


class Peers(Processes):
    """Workers and callers of SDK 0.6.7 and of ours, on one server."""

    def __init__(self, server: peer.LegacyServer, log: Path) -> None:
        super().__init__(log)
        self.ports = (str(server.port), str(server.poll_port))

    async def sdk_worker(self, group: str) -> None:
        await self.work(group, *_sdk("work", group, *self.ports, str(self.log)))

    async def our_worker(self, group: str) -> None:
        await self.work_of_ours(group, *self.ports)

    async def worker(self, group: str) -> None:
        """A worker of the kind that the group's name says."""
        await (self.sdk_worker(group) if group.startswith("sdk") else self.our_worker(group))

    async def sdk_call(self, group: str, id: str, func: str, *args: Any) -> Any:
        """Call a function from a process that has the SDK; its value, or `error: text`."""
        called = _sdk("call", group, *self.ports, id, func, json.dumps(args))
        (answer,) = await self.answers(id, *called)
        return answer


def _sdk(*arguments: str) -> tuple[str, ...]:
    python = sdk_067.python()
    assert python is not None
    return (python, str(PEERS / "sdk_067_peer.py"), *arguments)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peer.LegacyServer]:
    if sdk_067.python() is None:
        pytest.skip(sdk_067.ABSENT)
    if peer.program() is None:
        pytest.skip(peer.ABSENT)
    made = peer.LegacyServer(
        tmp_path_factory.mktemp("server"), "--aio-poll-ttr", "200ms", "--aio-poll-ttc", "1s"
    )
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest_asyncio.fixture
async def peers(server: peer.LegacyServer, tmp_path: Path) -> AsyncIterator[Peers]:
    processes = Peers(server, tmp_path / "log")
    try:
        yield processes
    finally:
        await processes.stop()


@pytest_asyncio.fixture
async def ours(peers: Peers) -> AsyncIterator[Resonate]:
    """A worker of group `ours` in this process, and callers' client."""
    resonate = legacy_client("ours", *peers.ports)
    for function in functions("ours", peers.log):
        resonate.register(function)
    async with resonate:
        yield resonate


async def until_asked(ours: Resonate, id: str) -> None:
    """An execution has asked for the promise of this id."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await ours.promises.get(id)
                return
            except ResonateStoreError:  # not asked yet
                await asyncio.sleep(0.02)


def of_group(resonate: Resonate, group: str) -> Resonate:
    return resonate.options(target=f"poll://any@{group}")


async def test_we_call_functions_of_the_sdk(peers: Peers, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    sdk = of_group(ours, "sdk")
    hello = await sdk.rpc(f"{name}-hello", "hello", "us", punctuation="!")
    assert hello == "sdk says hello to us!"
    assert await sdk.rpc(f"{name}-nap", "nap", 0.3) == "sdk is rested"
    assert await sdk.rpc(f"{name}-both", "both", "ours") == [
        "ours says hello to two.",
        "ours says hello to one.",
    ]
    # A chain of three: the SDK calls us, we call the SDK.
    assert await sdk.rpc(f"{name}-chain", "link", 1, ["ours", "sdk"]) == 5
    assert [line for line in peers.lines() if "link" in line] == [
        "sdk link 1",
        "ours link 2",
        "sdk link 3",
    ]


async def test_the_sdk_calls_functions_of_ours(peers: Peers, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    assert (
        await peers.sdk_call("ours", f"{name}-hello", "hello", "sdk") == "ours says hello to sdk."
    )
    assert await peers.sdk_call("ours", f"{name}-nap", "nap", 0.3) == "ours is rested"
    assert await peers.sdk_call("ours", f"{name}-both", "both", "sdk") == [
        "sdk says hello to two.",
        "sdk says hello to one.",
    ]
    assert await peers.sdk_call("ours", f"{name}-chain", "link", 1, ["sdk", "ours"]) == 5


async def test_errors_cross_over(peers: Peers, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    with pytest.raises(Exception, match="no luck"):
        await of_group(ours, "sdk").rpc(f"{name}-theirs", "fail", "no luck")
    error = await peers.sdk_call("ours", f"{name}-ours", "fail", "no luck")
    assert error == "error: no luck"
    theirs = await of_group(ours, "sdk").rpc(f"{name}-catch-theirs", "catch", "ours")
    assert theirs == "sdk caught: no luck"
    caught = await of_group(ours, "ours").rpc(f"{name}-catch-ours", "catch", "sdk")
    assert "no luck" in caught


async def test_a_human_answers_on_either_side(peers: Peers, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    for group in ("sdk", "ours"):
        id = f"{name}-{group}"
        handle = of_group(ours, group).begin_rpc(id, "ask")
        await until_asked(ours, f"{id}.1")
        await ours.promises.resolve(f"{id}.1", value={"yes": True})
        assert await handle == {"who": group, "heard": {"yes": True}}


async def test_one_id_is_one_execution_for_both(peers: Peers, ours: Resonate, name: str) -> None:
    """Law 1, across clients: whoever asks second gets the first one's result."""
    await peers.worker("sdk")
    assert await of_group(ours, "sdk").rpc(f"{name}-a", "link", 1, []) == 1
    assert await peers.sdk_call("ours", f"{name}-a", "link", 7, []) == 1
    assert await peers.sdk_call("ours", f"{name}-b", "link", 2, []) == 2
    assert await of_group(ours, "sdk").rpc(f"{name}-b", "link", 9, []) == 2
    assert await ours.get(f"{name}-a") == 1
    assert peers.lines() == ["sdk link 1", "ours link 2"]


@pytest.mark.parametrize("middle", ["sdk-middle", "aio-middle"])
async def test_the_middle_worker_is_killed_and_started_again(
    peers: Peers, ours: Resonate, name: str, middle: str
) -> None:
    """E12: what had finished is not run again, and the caller gets the right answer."""
    last = "aio-last" if middle == "sdk-middle" else "sdk-last"
    await peers.worker(middle)
    handle = of_group(ours, middle).begin_rpc(f"{name}-chain", "link", 1, [last])
    await until_asked(ours, f"{name}-chain.2")  # so the first step is recorded
    await peers.kill(middle)
    await peers.worker(last)
    await peers.worker(middle)
    async with asyncio.timeout(WAIT_S):
        assert await handle == 3
    assert peers.lines().count(f"{middle} link 1") == 1
    assert peers.lines().count(f"{last} link 2") == 1
    assert peers.lines().count(f"{middle} back 1") == 1


async def test_an_execution_begun_by_one_is_finished_by_the_other(
    peers: Peers, ours: Resonate, name: str
) -> None:
    """Same group, same ids: a worker of ours takes over what the SDK began, and the reverse."""
    for first, second in (("sdk", "aio"), ("aio", "sdk")):
        group = f"{name}-{first}-then-{second}"
        begin = peers.sdk_worker if first == "sdk" else peers.our_worker
        end = peers.our_worker if first == "sdk" else peers.sdk_worker
        await begin(group)
        handle = of_group(ours, group).begin_rpc(f"{group}-chain", "link", 1, ["nobody-yet"])
        await until_asked(ours, f"{group}-chain.2")
        await peers.kill(group)
        await end(group)
        await peers.worker("nobody-yet") if first == "sdk" else None
        async with asyncio.timeout(WAIT_S):
            assert await handle == 3
        assert peers.lines().count(f"{group} link 1") == 1


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A prefix of ids that no other test of the module uses."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)
