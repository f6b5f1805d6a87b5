"""What every test shares."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from resonate_aio.testing.graveyard import GRAVEYARD


@pytest.fixture(autouse=True)
def _the_dead_are_not_searched() -> Iterator[None]:
    """What killed loops leave behind lies there for ever: no collection need look at it."""
    before = len(GRAVEYARD)
    yield
    if len(GRAVEYARD) > before:
        gc.freeze()
