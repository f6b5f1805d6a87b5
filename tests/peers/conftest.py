"""A server of the current protocol, an SDK, and the processes of both sides."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.peers.current_clients import current_client
from tests.peers.current_server import CurrentServer
from tests.peers.current_server import peers as servers
from tests.peers.sdk_current import Sdk
from tests.peers.sdk_stage import PRESENT, Peers
from tests.peers.server_traits import takes_colons
from tests.peers.shared_functions import functions

from resonate_aio import Resonate


@pytest.fixture(scope="module", params=PRESENT, ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    chosen: Sdk = request.param
    return chosen


@pytest.fixture(scope="module", params=servers(), ids=lambda which: Path(which).name)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
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
