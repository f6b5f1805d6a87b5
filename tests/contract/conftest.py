"""Backends, started once for all tests of the suite, and open stores of them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from tests.contract.backends import Able, Backend, label, names, start

from resonate_aio.stores.base import Store

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(scope="session", params=names(), ids=label)
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    """Each place where promises live, in turn."""
    made = start(request.param, tmp_path_factory.mktemp("backend"))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def able(backend: Backend) -> Able:
    """What it can."""
    return backend.able


@pytest_asyncio.fixture
async def open_store(backend: Backend) -> AsyncIterator[OpenStore]:
    """Makes open stores; they are closed after the test."""
    async with AsyncExitStack() as stack:

        async def make() -> Store:
            store = backend.make()
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield make


@pytest_asyncio.fixture
async def store(open_store: OpenStore) -> Store:
    """One open store."""
    return await open_store()


@pytest.fixture
def root() -> str:
    """An id that no other test uses: servers keep what tests before left."""
    return f"r{uuid.uuid4().hex[:10]}"
