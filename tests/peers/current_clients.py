"""Clients of this library on a server of the current protocol, with short leases for tests."""

from __future__ import annotations

from resonate_aio import Resonate

TTL_S = 1.0


def current_client(group: str, url: str) -> Resonate:
    """A client of the server at this URL; nothing is registered."""
    return Resonate(url=url, group=group, ttl=TTL_S)
