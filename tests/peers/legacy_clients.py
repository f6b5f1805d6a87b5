"""Clients of this library on a legacy server, with short leases as tests want them."""

from __future__ import annotations

from tests.legacy.opening import make_store

from resonate_aio import Resonate

TTL_S = 1.0


def legacy_client(group: str, store_port: str, poll_port: str) -> Resonate:
    """A client of the server on these ports of the loopback; nothing is registered."""
    url = "http://127.0.0.1:"
    store = make_store(f"{url}{store_port}", f"{url}{poll_port}", ttl_s=TTL_S)
    return Resonate(store=store, group=group)
