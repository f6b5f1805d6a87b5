from __future__ import annotations

import pytest
from tests.machine.checked import CheckedMachine


@pytest.fixture
def m() -> CheckedMachine:
    """An empty machine whose invariants are checked after every step."""
    return CheckedMachine()
