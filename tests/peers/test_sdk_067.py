"""resonate-sdk 0.6.7 and this library on one legacy server: each calls the other's workers.

Needs a legacy server (see `legacy_server`) and the Python of an environment that has
resonate-sdk 0.6.7, named by RESONATE_TEST_SDK_067.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.peers import legacy_server as peer
from tests.peers import sdk_067
from tests.peers.legacy_clients import legacy_client
from tests.peers.shared_functions import functions

from resonate_aio import Resonate
from resonate_aio.errors import ResonateStoreError

ROOT: Final = Path(__file__).parents[2]
PEERS: Final = Path(__file__).parent
WAIT_S: Final = 40.0

pytestmark = pytest.mark.slow


class Processes:
    """Workers and callers of one test, all ended with it."""

    def __init__(self, server: peer.LegacyServer, log: Path) -> None:
        self.server = server
        self.log = log
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self.ports = (str(server.port), str(server.poll_port))

    async def sdk_worker(self, group: str) -> None:
        python = sdk_067.python()
        assert python is not None
        script = str(PEERS / "sdk_067_peer.py")
        await self._work(group, python, script, "work", group, *self.ports, str(self.log))

    async def our_worker(self, group: str) -> None:
        program = ("-m", "tests.peers.our_worker", group, *self.ports, str(self.log))
        await self._work(group, sys.executable, *program)

    async def worker(self, group: str) -> None:
        """A worker of the kind that the group's name says."""
        await (self.sdk_worker(group) if group.startswith("sdk") else self.our_worker(group))

    async def _work(self, group: str, *command: str) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, cwd=ROOT, env=environment
        )
        self._running[group] = process
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"ready\n"
        # Hazard 12: connected before anything is called.
        await asyncio.sleep(0.3)

    async def kill(self, group: str) -> None:
        process = self._running.pop(group)
        process.send_signal(signal.SIGKILL)
        await _ended(process)

    async def sdk_call(self, group: str, id: str, func: str, *args: Any) -> Any:
        """Call a function from a process that has the SDK; its value, or `error: text`."""
        python = sdk_067.python()
        assert python is not None
        process = await asyncio.create_subprocess_exec(
            python,
            str(PEERS / "sdk_067_peer.py"),
            *("call", group, *self.ports, id, func, json.dumps(args)),
            stdout=subprocess.PIPE,
        )
        self._running[f"call {id}"] = process
        async with asyncio.timeout(WAIT_S):
            printed, _ = await process.communicate()
        del self._running[f"call {id}"]
        answer = json.loads(printed)
        return answer["value"] if "value" in answer else f"error: {answer['error']}"

    def lines(self) -> list[str]:
        """What the workers noted so far."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    async def until_noted(self, line: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while line not in self.lines():  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        for process in self._running.values():
            if process.returncode is None:
                process.kill()
            await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """The process has ended, and its pipe is closed."""
    await process.wait()
    if process.stdout is not None:
        await process.stdout.read()


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
async def peers(server: peer.LegacyServer, tmp_path: Path) -> AsyncIterator[Processes]:
    processes = Processes(server, tmp_path / "log")
    try:
        yield processes
    finally:
        await processes.stop()


@pytest_asyncio.fixture
async def ours(peers: Processes) -> AsyncIterator[Resonate]:
    """A worker of group `ours` in this process, and callers' client."""
    resonate = legacy_client("ours", *peers.ports)
    for function in functions("ours", peers.log):
        resonate.register(function)
    async with resonate:
        yield resonate


def of_group(resonate: Resonate, group: str) -> Resonate:
    return resonate.options(target=f"poll://any@{group}")


async def test_we_call_functions_of_the_sdk(peers: Processes, ours: Resonate, name: str) -> None:
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


async def test_the_sdk_calls_functions_of_ours(peers: Processes, ours: Resonate, name: str) -> None:
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


async def test_errors_cross_over(peers: Processes, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    with pytest.raises(Exception, match="no luck"):
        await of_group(ours, "sdk").rpc(f"{name}-theirs", "fail", "no luck")
    error = await peers.sdk_call("ours", f"{name}-ours", "fail", "no luck")
    assert error == "error: no luck"
    theirs = await of_group(ours, "sdk").rpc(f"{name}-catch-theirs", "catch", "ours")
    assert theirs == "sdk caught: no luck"
    caught = await of_group(ours, "ours").rpc(f"{name}-catch-ours", "catch", "sdk")
    assert "no luck" in caught


async def test_a_human_answers_on_either_side(peers: Processes, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    for group in ("sdk", "ours"):
        id = f"{name}-{group}"
        handle = of_group(ours, group).begin_rpc(id, "ask")
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    await ours.promises.get(f"{id}.1")
                    break
                except ResonateStoreError:  # not asked yet
                    await asyncio.sleep(0.02)
        await ours.promises.resolve(f"{id}.1", value={"yes": True})
        assert await handle == {"who": group, "heard": {"yes": True}}


async def test_one_id_is_one_execution_for_both(
    peers: Processes, ours: Resonate, name: str
) -> None:
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
    peers: Processes, ours: Resonate, name: str, middle: str
) -> None:
    """E12: what had finished is not run again, and the caller gets the right answer."""
    last = "aio-last" if middle == "sdk-middle" else "sdk-last"
    await peers.worker(middle)
    handle = of_group(ours, middle).begin_rpc(f"{name}-chain", "link", 1, [last])
    await peers.until_noted(f"{middle} link 1")
    await peers.kill(middle)
    await peers.worker(last)
    await peers.worker(middle)
    async with asyncio.timeout(WAIT_S):
        assert await handle == 3
    assert peers.lines().count(f"{middle} link 1") == 1
    assert peers.lines().count(f"{last} link 2") == 1
    assert peers.lines().count(f"{middle} back 1") == 1


async def test_an_execution_begun_by_one_is_finished_by_the_other(
    peers: Processes, ours: Resonate, name: str
) -> None:
    """Same group, same ids: a worker of ours takes over what the SDK began, and the reverse."""
    for first, second in (("sdk", "aio"), ("aio", "sdk")):
        group = f"{name}-{first}-then-{second}"
        begin = peers.sdk_worker if first == "sdk" else peers.our_worker
        end = peers.our_worker if first == "sdk" else peers.sdk_worker
        await begin(group)
        handle = of_group(ours, group).begin_rpc(f"{group}-chain", "link", 1, ["nobody-yet"])
        await peers.until_noted(f"{group} link 1")
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
