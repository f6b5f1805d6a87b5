from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture(params=["memory", "sqlite"])
async def store(
    request: pytest.FixtureRequest, path: Path
) -> AsyncIterator[MemoryStore | SqliteStore]:
    """Every store that lives in this process, open."""
    made = MemoryStore() if request.param == "memory" else SqliteStore(path)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def sqlite(path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(path)
    await made.open()
    yield made
    await made.close()
