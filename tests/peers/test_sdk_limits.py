"""What does not work for official SDKs on the newest public commit, which takes dots only.

Seen here so that the table of clients and servers says what is so, and changes when it does.
"""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
from tests.peers.current_server import CurrentServer
from tests.peers.sdk_stage import Peers, need_an_sdk, of_group, until_asked
from tests.peers.server_traits import asked, takes_colons

from resonate_aio import Resonate
from resonate_aio.errors import ResonateCanceledError, ResonateStoreError

need_an_sdk()

PENDING_S: Final = 4.0
"""How long a thing that never ends is watched: two dispatches of the servers of tests."""

pytestmark = pytest.mark.slow


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
