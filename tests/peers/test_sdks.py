"""Official SDKs and this library on one server: each calls the other's workers.

Every SDK of `sdk_current` that is there, on every server of `current_server`: the embedded one
and those named by RESONATE_TEST_URL and RESONATE_TEST_SERVER. Nothing here runs without one of
the variables that `sdk_current` lists.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest
from tests.peers.current_server import CurrentServer
from tests.peers.processes import WAIT_S
from tests.peers.sdk_current import SDKS, Sdk
from tests.peers.sdk_stage import (
    PRESENT,
    Peers,
    need_an_sdk,
    of_group,
    until_asked,
    until_called,
)
from tests.peers.server_traits import takes_colons

from resonate_aio import Resonate

need_an_sdk()

LEASES_S: Final = 2.5
"""Some leases of a second."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)
def test_the_sdk_is_the_version_that_it_is_taken_for(sdk: Sdk) -> None:
    if sdk.command() is None:
        pytest.skip(sdk.absent)
    assert sdk.found_version() == sdk.version


@pytest.mark.usefixtures("common_server")
async def test_we_call_functions_of_the_sdk(peers: Peers, ours: Resonate, name: str) -> None:
    """Mission E15: with the TypeScript SDK, its service answers us and is in a chain of ours."""
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
    """Mission E15: with the TypeScript SDK, its `beginRpc` and `ctx.rpc` reach services of ours."""
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
    handle = of_group(ours, "sdk").begin_rpc(f"{name}-theirs", "ask")
    question = f"{name}-theirs{peers.sdk.separator}{peers.sdk.first}"
    await until_asked(ours, question)
    await ours.promises.resolve(question, value={"yes": True})
    async with asyncio.timeout(WAIT_S):
        assert await handle == {"who": "sdk", "heard": {"yes": True}}
    handle = of_group(ours, "ours").begin_rpc(f"{name}-ours", "ask")
    question = f"{name}-ours.1"
    await until_asked(ours, question)
    assert await peers.sdk_resolves(question, {"no": [1]}) == "resolved"
    async with asyncio.timeout(WAIT_S):
        assert await handle == {"who": "ours", "heard": {"no": [1]}}


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


@pytest.mark.parametrize("sdk", PRESENT[:1], indirect=True, ids=["all"])
async def test_one_chain_through_every_sdk(peers: Peers, ours: Resonate, name: str) -> None:
    """Both dialects at once: below each caller stand the ids of whoever was called."""
    both = takes_colons(peers.url)
    sdks = [sdk for sdk in PRESENT if both or sdk.separator == "."]
    if len(sdks) < 2:
        pytest.skip("only one SDK is there")
    route = [f"sdk{place}" for place in range(len(sdks))]
    for sdk, group in zip(sdks, route, strict=True):
        await peers.worker_of(sdk, group)
    length = len(route) + 2
    handle = of_group(ours, "ours").rpc(f"{name}-chain", "link", 1, [*route, "ours"])
    async with asyncio.timeout(WAIT_S):
        assert await handle == 2 * length - 1
    assert [line.split()[0] for line in peers.lines() if "link" in line] == ["ours", *route, "ours"]


@pytest.mark.usefixtures("common_server")
@pytest.mark.parametrize("middle", ["sdk", "aio"])
async def test_the_middle_worker_is_killed_and_started_again(
    peers: Peers, ours: Resonate, name: str, middle: str
) -> None:
    """Mission E15: what had finished is not run again, and the answer is right.

    The recovery story (E12) in a chain of three, the SDK in the middle or at both ends.
    """
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
