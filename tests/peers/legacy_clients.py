"""Clients of this library on a legacy server, with short leases as tests want them."""

from __future__ import annotations

from resonate_aio import Resonate

TTL_S = 1.0


def legacy_client(group: str, store_port: str, poll_port: str) -> Resonate:
    """A client of the server on these ports of the loopback; nothing is registered."""
    return Resonate.remote(
        host="http://127.0.0.1",
        store_port=store_port,
        message_source_port=poll_port,
        group=group,
        ttl=TTL_S,
    )
