"""Addresses: where execute and unblock messages go.

An address is text of the form `scheme://rest`. Which schemes a store can deliver to is the
transports' affair; this file only says what is an address at all (current-protocol §9.1).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\x00]+")


def is_address(text: str) -> bool:
    """Whether the text is `scheme://rest` with neither part empty and no white space."""
    return _ADDRESS.fullmatch(text) is not None


def normalise_target(target: str) -> str:
    """The address a target names: `workers`, `poll://workers` and `poll://any@workers` agree.

    Args:
        target: The name of a group, with or without `/pid`, or an address.

    Raises:
        ValueError: It is neither, or an address at which nobody can ever be: a poll address
            without a group or with another cast than `any` and `uni`, `uni` without a pid, a
            URL without a host.
    """
    if not target or any(character.isspace() or character == "\0" for character in target):
        raise _no_target(target, "which is not empty and holds no white space")
    scheme, separator, rest = target.partition("://")
    if not separator:
        scheme, rest = "poll", target
    if scheme == "poll":
        return _poll_address(target, rest, is_bare=not separator)
    if not is_address(target):
        raise _no_target(target, "such as poll://any@workers or https://host/path")
    if scheme in {"http", "https"} and not _host_of(target):
        raise _no_target(target, "and this URL names no host")
    return target


def _poll_address(target: str, rest: str, *, is_bare: bool) -> str:
    cast, at, member = rest.rpartition("@")
    group, _, pid = member.partition("/")
    if not group:
        raise _no_target(target, "and this one names no group")
    if is_bare and at:
        raise _no_target(target, f"write poll://{target} if you mean that")
    if at and cast not in {"any", "uni"}:
        raise _no_target(target, "poll://any@group[/pid] or poll://uni@group/pid")
    if cast == "uni" and not pid:
        raise _no_target(target, f"and uni is one process: poll://uni@{group}/pid")
    return f"poll://{cast or 'any'}@{member}"


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # a bracket that nothing closes
        return None


def _no_target(target: str, why: str) -> ValueError:
    return ValueError(f"target is a group name or an address, {why}, got {target!r}")


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
