"""resonate-sdk 0.6.7 as a peer of tests: the Python of an environment that has it.

Named by RESONATE_TEST_SDK_067; nothing is looked for elsewhere.
"""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "RESONATE_TEST_SDK_067"
ABSENT: Final = f"no resonate-sdk 0.6.7: set {VARIABLE} to the Python of its environment"


def python() -> str | None:
    """The Python that has the SDK, or None."""
    named = os.environ.get(VARIABLE)
    return named if named and os.access(named, os.X_OK) else None


def summary() -> str:
    """One line for the end of a test run: present or absent."""
    found = python()
    return f"resonate-sdk 0.6.7: {found}" if found else f"resonate-sdk 0.6.7: absent ({ABSENT})"
