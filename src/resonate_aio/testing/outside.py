"""What a simulated event loop has not got: everything that reaches out of the process.

Each of these raises with a sentence that says so. It is a `NotImplementedError` as on any event
loop that lacks them, because libraries catch that to go on without, signal handlers for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

L = TypeVar("L", bound=type)

_OUTSIDE = (
    *("getaddrinfo", "getnameinfo", "create_connection", "create_server", "sendfile", "start_tls"),
    *("create_unix_connection", "create_unix_server", "connect_accepted_socket"),
    *("create_datagram_endpoint", "connect_read_pipe", "connect_write_pipe"),
    *("subprocess_shell", "subprocess_exec", "add_reader", "remove_reader", "add_writer"),
    *("remove_writer", "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"),
    *("sock_sendall", "sock_sendto", "sock_connect", "sock_accept", "sock_sendfile"),
    *("add_signal_handler", "remove_signal_handler"),
)


def without_outside(loop_class: L) -> L:
    """Class decorator: give an event loop these methods, to refuse them by name."""
    for name in _OUTSIDE:
        setattr(loop_class, name, _refusal(name))
    return loop_class


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            f"{name}(): this is a simulated event loop, which has no sockets, pipes, processes and "
            "signals: give the function a stand-in for what reaches out, with "
            "resonate.set_dependency(name, stand_in)"
        )

    refuse.__name__ = name
    refuse.__doc__ = "Not on this event loop."
    return refuse
