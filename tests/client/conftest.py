"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Resonate

Make = Callable[..., Resonate]


@pytest.fixture(params=["memory", "sqlite"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes clients of a local store; each is stopped at the end."""
    made: list[Resonate] = []

    def local(**options: Any) -> Resonate:
        path = None if request.param == "memory" else tmp_path / "app.db"
        made.append(Resonate.local(path=path, synchronous="NORMAL", **options))
        return made[-1]

    yield local
    for resonate in made:
        await resonate.stop()
