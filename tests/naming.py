"""Names of test cases."""

from __future__ import annotations

import re


def named(value: object) -> str:
    """What a value looks like, the same in every process: without addresses in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))
