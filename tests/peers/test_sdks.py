"""Official SDKs and this library on one server: each calls the other's workers.

Every SDK of `sdk_current` that is there, on every server of `current_server`: the embedded one
and those named by RESONATE_TEST_URL and RESONATE_TEST_SERVER. Nothing here runs without one of
the variables that `sdk_current` lists.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.peers.current_clients import current_client
from tests.peers.current_server import CurrentServer
from tests.peers.current_server import peers as servers
from tests.peers.processes import WAIT_S, Processes
from tests.peers.sdk_current import SDKS, Sdk
from tests.peers.server_traits import asked, takes_colons
from tests.peers.shared_functions import functions

from resonate_aio import Resonate
from resonate_aio.errors import ResonateCanceledError, ResonateStoreError

PENDING_S: Final = 4.0
"""How long a thing that never ends is watched: two dispatches of the servers of tests."""

LEASES_S: Final = 2.5
"""Some leases of a second."""

pytestmark = pytest.mark.slow

PRESENT: Final = [sdk for sdk in SDKS if sdk.command() is not None]
if not PRESENT:
    pytest.skip("; ".join(sdk.absent for sdk in SDKS), allow_module_level=True)


class Peers(Processes):
    """Workers and callers of one SDK and of ours, on one server."""

    def __init__(self, sdk: Sdk, url: str, log: Path) -> None:
        super().__init__(log)
        self.sdk = sdk
        self.url = url

    async def worker(self, group: str) -> None:
        """A worker of the kind that the group's name says."""
        if not group.startswith("sdk"):
            await self.work_of_ours(group, self.url)
            return
        command = self.sdk.command()
        assert command is not None
        await self.work(group, *command, "work", group, self.url, str(self.log))

    async def sdk_calls(self, group: str, *calls: tuple[Any, ...]) -> list[Any]:
        """Call functions from a process that has the SDK; their values, or `error: text`."""
        command = self.sdk.command()
        assert command is not None
        return await self.answers(group, *command, "call", group, self.url, json.dumps(calls))


@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)
def test_the_sdk_is_the_version_that_it_is_taken_for(sdk: Sdk) -> None:
    if sdk.command() is None:
        pytest.skip(sdk.absent)
    assert sdk.found_version() == sdk.version


@pytest.fixture(scope="module", params=PRESENT, ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    chosen: Sdk = request.param
    return chosen


@pytest.fixture(scope="module", params=servers(), ids=lambda which: Path(which).name)
def server(
    request: pytest.FixtureRequest, sdk: Sdk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CurrentServer]:
    made = CurrentServer(request.param, tmp_path_factory.mktemp("server"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def common_server(sdk: Sdk, server: CurrentServer) -> CurrentServer:
    """A server that takes the ids of the SDK."""
    if sdk.separator == ":" and not takes_colons(server.url):
        pytest.skip("takes no ids with colons: see test_colons_where_only_dots_are_taken")
    return server


@pytest_asyncio.fixture
async def peers(sdk: Sdk, server: CurrentServer, tmp_path: Path) -> AsyncIterator[Peers]:
    processes = Peers(sdk, server.url, tmp_path / "log")
    try:
        yield processes
    finally:
        await processes.stop()


@pytest_asyncio.fixture
async def ours(peers: Peers) -> AsyncIterator[Resonate]:
    """A worker of group `ours` in this process, and callers' client."""
    resonate = current_client("ours", peers.url)
    for function in functions("ours", peers.log):
        resonate.register(function)
    async with resonate:
        yield resonate


@pytest.fixture
def name() -> str:
    """A prefix of ids that nobody else uses, on a server that outlives the run either."""
    return f"t{uuid.uuid4().hex[:12]}"


def of_group(resonate: Resonate, group: str) -> Resonate:
    return resonate.options(target=f"poll://any@{group}")


@pytest.mark.usefixtures("common_server")
async def test_we_call_functions_of_the_sdk(peers: Peers, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    sdk = of_group(ours, "sdk")
    assert await sdk.rpc(f"{name}-hello", "hello", "us", "!") == "sdk says hello to us!"
    if peers.sdk.takes_keywords:
        named = await sdk.rpc(f"{name}-named", "hello", "us", punctuation="?")
        assert named == "sdk says hello to us?"
    assert await sdk.rpc(f"{name}-both", "both", "ours") == [
        "ours says hello to two.",
        "ours says hello to one.",
    ]
    # A chain of three: the SDK calls us, we call the SDK.
    assert await sdk.rpc(f"{name}-chain", "link", 1, ["ours", "sdk"]) == 5
    assert peers.lines() == [
        "sdk link 1",
        "ours link 2",
        "sdk link 3",
        "ours back 2",
        "sdk back 1",
    ]


@pytest.mark.usefixtures("common_server", "ours")
async def test_the_sdk_calls_functions_of_ours(peers: Peers, name: str) -> None:
    await peers.worker("sdk")
    assert await peers.sdk_calls(
        "ours",
        (f"{name}-hello", "hello", "sdk"),
        (f"{name}-nap", "nap", 0.3),
        (f"{name}-both", "both", "sdk"),
        (f"{name}-chain", "link", 1, ["sdk", "ours"]),
    ) == [
        "ours says hello to sdk.",
        "ours is rested",
        ["sdk says hello to two.", "sdk says hello to one."],
        5,
    ]
    assert [line for line in peers.lines() if "link" in line] == [
        "ours link 1",
        "sdk link 2",
        "ours link 3",
    ]


@pytest.mark.usefixtures("common_server")
async def test_the_sdk_sleeps(peers: Peers, ours: Resonate, name: str) -> None:
    if not takes_colons(peers.url):
        pytest.skip("sweeps no timer without a target: see test_a_sleep_that_nobody_sweeps")
    await peers.worker("sdk")
    assert await of_group(ours, "sdk").rpc(f"{name}-nap", "nap", 0.3) == "sdk is rested"


@pytest.mark.usefixtures("common_server")
async def test_errors_cross_over(peers: Peers, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    sdk = of_group(ours, "sdk")
    with pytest.raises(Exception, match="no luck"):
        await sdk.rpc(f"{name}-theirs", "fail", "no luck")
    assert await sdk.rpc(f"{name}-catch-theirs", "catch", "ours") == "sdk caught: no luck"
    theirs, caught = await peers.sdk_calls(
        "ours", (f"{name}-ours", "fail", "no luck"), (f"{name}-catch-ours", "catch", "sdk")
    )
    assert theirs == "error: no luck"
    assert caught.startswith("ours caught: ")
    assert "no luck" in caught


@pytest.mark.usefixtures("common_server")
async def test_a_human_answers_on_either_side(peers: Peers, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    theirs = f"{name}-sdk{peers.sdk.separator}{peers.sdk.first}"
    for group, question in (("sdk", theirs), ("ours", f"{name}-ours.1")):
        handle = of_group(ours, group).begin_rpc(f"{name}-{group}", "ask")
        await until_asked(ours, question)
        await ours.promises.resolve(question, value={"yes": True})
        async with asyncio.timeout(WAIT_S):
            assert await handle == {"who": group, "heard": {"yes": True}}


async def until_called(ours: Resonate, group: str) -> None:
    """The promise of a call of this group is there, and so is all that came before it."""
    target = {"resonate:target": f"poll://any@{group}"}
    async with asyncio.timeout(WAIT_S):
        while not (await ours.promises.search(tags=target)).items:  # noqa: ASYNC110  as below
            await asyncio.sleep(0.02)


async def until_asked(ours: Resonate, question: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await ours.promises.get(question)
                return
            except ResonateStoreError:  # not asked yet
                await asyncio.sleep(0.02)


@pytest.mark.usefixtures("common_server")
async def test_one_id_is_one_execution_for_both(peers: Peers, ours: Resonate, name: str) -> None:
    """Law 1, across clients: whoever asks second gets the first one's result."""
    await peers.worker("sdk")
    assert await of_group(ours, "sdk").rpc(f"{name}-a", "link", 1, []) == 1
    assert await peers.sdk_calls(
        "ours", (f"{name}-a", "link", 7, []), (f"{name}-b", "link", 2, [])
    ) == [1, 2]
    assert await of_group(ours, "sdk").rpc(f"{name}-b", "link", 9, []) == 2
    assert peers.lines() == ["sdk link 1", "ours link 2"]


@pytest.mark.usefixtures("common_server")
@pytest.mark.parametrize("middle", ["sdk", "aio"])
async def test_the_middle_worker_is_killed_and_started_again(
    peers: Peers, ours: Resonate, name: str, middle: str
) -> None:
    """E12, a chain of three: what had finished is not run again, and the answer is right."""
    ends = "aio" if middle == "sdk" else "sdk"
    first, last = f"{ends}-first", f"{ends}-last-{name}"
    await peers.worker(first)
    await peers.worker(middle)
    handle = of_group(ours, first).begin_rpc(f"{name}-chain", "link", 1, [middle, last])
    await until_called(ours, last)
    await peers.kill(middle)
    await peers.worker(last)
    await peers.worker(middle)
    async with asyncio.timeout(WAIT_S):
        assert await handle == 5
    assert sorted(peers.lines()) == sorted(
        [
            f"{first} link 1",
            f"{middle} link 2",
            f"{last} link 3",
            f"{middle} back 2",
            f"{first} back 1",
        ]
    )


@pytest.mark.usefixtures("common_server")
@pytest.mark.parametrize("killed", ["sdk", "aio"])
async def test_a_worker_is_killed_at_a_step(
    peers: Peers, ours: Resonate, name: str, killed: str, tmp_path: Path
) -> None:
    """What it held goes on elsewhere when its lease ends; only the step that ran runs again."""
    gate = tmp_path / "gate"
    await peers.worker(killed)
    handle = of_group(ours, killed).begin_rpc(f"{name}-gate", "gate", str(gate))
    await peers.until_noted(f"{killed} waits")
    await peers.kill(killed)
    gate.touch()
    await peers.worker(killed)
    async with asyncio.timeout(WAIT_S):
        assert await handle == "passed"
    assert peers.lines() == [f"{killed} begins", f"{killed} waits", f"{killed} waits"]


@pytest.mark.usefixtures("common_server")
async def test_what_is_detached_runs_elsewhere(peers: Peers, ours: Resonate, name: str) -> None:
    await peers.worker("sdk")
    assert await of_group(ours, "ours").rpc(f"{name}-ours", "leave", "sdk") == "left"
    await peers.until_noted("sdk link 9")
    if not takes_colons(peers.url):
        return  # what the SDK detaches is refused: test_a_detached_call_that_is_refused
    assert await of_group(ours, "sdk").rpc(f"{name}-sdk", "leave", "ours") == "left"
    await peers.until_noted("ours link 9")


@pytest.mark.usefixtures("common_server")
async def test_a_step_takes_longer_than_a_lease(
    peers: Peers, server: CurrentServer, ours: Resonate, name: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await peers.worker("sdk")
    handle = of_group(ours, "sdk").begin_rpc(f"{name}-gate", "gate", str(gate))
    await peers.until_noted("sdk waits")
    await asyncio.sleep(LEASES_S)
    gate.touch()
    async with asyncio.timeout(WAIT_S):
        assert await handle == "passed"
    assert peers.lines().count("sdk begins") == 1
    if peers.sdk.beats_without_tasks and not server.is_ours:
        # Its heartbeats name no task and are refused: the lease is lost, the step runs again.
        assert peers.lines().count("sdk waits") > 1
    else:
        assert peers.lines().count("sdk waits") == 1


# -- what does not work on the newest public commit, which takes dots only


@pytest.fixture
def dots_only(server: CurrentServer) -> CurrentServer:
    if takes_colons(server.url):
        pytest.skip("this server takes both dialects and sweeps every timer")
    return server


@pytest.mark.usefixtures("dots_only")
async def test_a_sleep_that_nobody_sweeps(peers: Peers, ours: Resonate, name: str) -> None:
    """Its timer has no target: the server shows it resolved, and wakes nobody (S63).

    Sleeps of ours are swept there (`test_the_sdk_calls_functions_of_ours`).
    """
    if peers.sdk.separator == ":":
        pytest.skip("has no sleep there: see test_colons_where_only_dots_are_taken")
    await peers.worker("sdk")
    handle = of_group(ours, "sdk").begin_rpc(f"{name}-nap", "nap", 0.3)
    timer = f"{name}-nap.{peers.sdk.first}"
    await until_asked(ours, timer)
    await asyncio.sleep(PENDING_S)
    assert (await ours.promises.get(timer)).state == "resolved"
    assert (await ours.promises.get(f"{name}-nap")).state == "pending"
    await ours.promises.cancel(f"{name}-nap")
    with pytest.raises(ResonateCanceledError):
        await handle


@pytest.mark.usefixtures("dots_only")
async def test_a_detached_call_that_is_refused(peers: Peers, ours: Resonate, name: str) -> None:
    """The SDK names an origin that holds a dot, the server refuses that, the task goes round.

    Calls detached by ours name the caller's origin (S62, `test_what_is_detached_runs_elsewhere`).
    """
    if peers.sdk.separator == ":":
        pytest.skip("has no call there: see test_colons_where_only_dots_are_taken")
    await peers.worker("sdk")
    handle = of_group(ours, "sdk").begin_rpc(f"{name}-leave", "leave", "ours")
    await never_done(peers, ours, f"{name}-leave")
    with pytest.raises(ResonateCanceledError):
        await handle
    assert "ours link 9" not in peers.lines()


@pytest.mark.usefixtures("dots_only")
async def test_colons_where_only_dots_are_taken(peers: Peers, ours: Resonate, name: str) -> None:
    """The server refuses every promise that an execution of the SDK asks for."""
    if peers.sdk.separator == ".":
        pytest.skip("its ids have dots")
    await peers.worker("sdk")
    sdk = of_group(ours, "sdk")
    assert await sdk.rpc(f"{name}-hello", "hello", "us") == "sdk says hello to us."
    handle = sdk.begin_rpc(f"{name}-chain", "link", 1, ["ours"])
    await never_done(peers, ours, f"{name}-chain")
    with pytest.raises(ResonateCanceledError):
        await handle
    with pytest.raises(ResonateStoreError):
        await ours.promises.get(f"{name}-chain:{peers.sdk.first}")


async def never_done(peers: Peers, ours: Resonate, id: str) -> None:
    """The SDK takes the task again and again; it is ended from outside."""
    await asyncio.sleep(PENDING_S)
    assert (await ours.promises.get(id)).state == "pending"
    _, found = asked(peers.url, "task.get", {"id": id})
    assert found["task"]["version"] > 1, "it is given back and offered again"
    await peers.kill("sdk")
    await ours.promises.cancel(id)
