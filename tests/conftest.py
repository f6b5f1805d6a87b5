"""What every test shares."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest
from tests.peers import current_server, legacy_server, sdk_067, sdk_current

from resonate_aio.testing.graveyard import GRAVEYARD


@pytest.fixture(autouse=True)
def _the_dead_are_not_searched() -> Iterator[None]:
    """What killed loops leave behind lies there for ever: no collection need look at it."""
    before = len(GRAVEYARD)
    yield
    if len(GRAVEYARD) > before:
        gc.freeze()


@pytest.fixture(autouse=True)
def _the_next_test_hears_what_is_logged() -> Iterator[None]:
    """Programs under test may silence the library, whose logger all tests of a process share."""
    logger = logging.getLogger("resonate_aio")
    level = logger.level
    yield
    logger.setLevel(level)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each peer: what was tested against, and what was not there."""
    terminalreporter.section("peers")
    for peer in (current_server, legacy_server, sdk_067, *sdk_current.SDKS):
        terminalreporter.write_line(peer.summary())
