"""Where the server may listen (law 17): on loopback, or with a token."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from ipaddress import ip_address

from ..errors import UsageError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_reach(host: str, token: str | None, *, debug: bool) -> None:
    """Refuse to listen where nobody would be asked for a token.

    Raises:
        UsageError: No token off loopback, an empty token, or debugging off loopback.
    """
    if token is not None and not token.strip():
        raise UsageError("the token is empty: give a secret of 16 characters or more, or none")
    if is_loopback(host):
        return
    if debug:
        raise UsageError(f"debugging is for loopback only, and {host!r} is not: leave out debug")
    if token is None:
        raise UsageError(
            f"{host!r} can be reached from other machines, so the server needs a token: set "
            "RESONATE_TOKEN or give token=, or listen on 127.0.0.1"
        )


def cannot_listen(host: str, port: int, error: OSError) -> UsageError:
    """Why nobody can listen there, and what to do."""
    where = f"cannot listen on {host}:{port}"
    # asyncio passes over the addresses that are not of this machine, from 3.13 on without a number.
    is_absent = error.errno in {errno.EADDRNOTAVAIL, None}
    if is_absent or isinstance(error, socket.gaierror):
        return UsageError(
            f"{where}: this machine has no such address: take 127.0.0.1, one of its own, or "
            "0.0.0.0 for all of them"
        )
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"{where}: the port is already in use: end the process that listens there, or take "
            "another port (0 is any free one)"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return UsageError(f"{where}: permission denied: take a port of 1024 or more")
    return UsageError(f"{where}: {error.strerror or error}")


def port_number(port: int | str) -> int:
    """A TCP port given as a number or as text.

    Raises:
        UsageError: It is neither.
    """
    with suppress(ValueError, TypeError):
        number = int(port)
        if not isinstance(port, bool) and 0 <= number <= 65535:
            return number
    raise UsageError(f"port must be between 0 and 65535, is {port!r}")


def host_and_port(text: str, *, default_port: int = 8001) -> tuple[str, int]:
    """The parts of `host`, `host:port`, `[v6]:port` or `:port`; the host is loopback if empty.

    Raises:
        UsageError: The text is none of these.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f"an address is host:port, is {text!r}")
        port = rest[1:]
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    return host or "127.0.0.1", port_number(port) if port else default_port
