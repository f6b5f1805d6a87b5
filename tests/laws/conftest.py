"""Every law test: the scheduler itself never fails, not even where it goes on after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_bug_of_ours(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    ours = [r.getMessage() for r in caplog.get_records("call") if "this is a bug" in r.message]
    assert not ours
