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


def normalise_target(target: str) -> str:
    """The address a target names: `workers`, `poll://workers` and `poll://any@workers` agree.

    Raises:
        ValueError: The target is empty.
    """
    if not target or "\0" in target:
        raise ValueError(f"a target is a group name or an address, got {target!r}")
    scheme, separator, rest = target.partition("://")
    if not separator:
        return f"poll://any@{target}"
    if scheme == "poll" and "@" not in rest:
        return f"poll://any@{rest}"
    return target


def as_servers_read_it(address: str) -> str:
    """The address with the group of a poll address in lower case (current-protocol §9.1).

    Servers read addresses as URLs, whose hosts are; a worker that polls under a name with an
    upper-case letter would hear nothing.
    """
    scheme, separator, rest = address.partition("://")
    if scheme != "poll" or not separator:
        return address
    group, slash, pid = rest.partition("/")
    return f"poll://{group.lower()}{slash}{pid}"
