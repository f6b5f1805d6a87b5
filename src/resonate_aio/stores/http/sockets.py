"""Sockets that notice when the other side is gone. This file knows no HTTP."""

from __future__ import annotations

import socket
from typing import Any, Final

_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4))


def lasting_socket(address: Any) -> socket.socket:
    """A socket whose dead peer is noticed, also when nothing is sent on it for hours."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        option = getattr(socket, name, None)  # not on every system
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
