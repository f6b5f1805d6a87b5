"""Addresses: where execute and unblock messages go.

An address is text of the form `scheme://rest`. Which schemes a store can deliver to is the
transports' affair; this file only says what is an address at all (current-protocol §9.1).
"""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\x00]+")


def is_address(text: str) -> bool:
    """Whether the text is `scheme://rest` with neither part empty and no white space."""
    return _ADDRESS.fullmatch(text) is not None
