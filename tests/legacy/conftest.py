"""A fake server, and stores that speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest_asyncio
from tests.legacy.fake_server import FakeServer
from tests.legacy.opening import MakeStore, make_store, opened

from resonate_aio.stores.legacy import LegacyStore


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer().running() as running:
        yield running


@pytest_asyncio.fixture
async def open_store(server: FakeServer) -> AsyncIterator[MakeStore]:
    """Makes open stores of the fake server; they are closed after the test."""
    async with AsyncExitStack() as stack:

        async def make(**given: Any) -> LegacyStore:
            store = make_store(server.url, server.poll_url, **given)
            return await stack.enter_async_context(opened(store))

        yield make
