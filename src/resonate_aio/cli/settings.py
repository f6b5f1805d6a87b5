"""Kinds of option values: addresses of servers, targets, spans of seconds."""

from __future__ import annotations

import math
from typing import Any, Final
from urllib.parse import urlsplit

import click

from ..protocol.addresses import normalise_target


class _Seconds(click.FloatRange):
    """A tenth of a second or more, and a number: a comparison lets NaN through."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


SECONDS: Final = _Seconds(min=0.1)


def target(text: str) -> str:
    """The address of a group or of whom else a target names."""
    try:
        return normalise_target(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def server_url(text: str) -> str:
    """The URL of a server."""
    try:
        checked_url(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


def checked_url(url: str) -> None:
    """Whether a server may be at a URL.

    Raises:
        ValueError: It is none of http or https, or carries what must not be in one (law 17).
    """
    try:
        parts = urlsplit(url.strip())
        is_one = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that nothing closes
        is_one = False
    if "@" in url:
        raise ValueError("a URL must not carry credentials: give --user or --token")
    if not is_one:
        raise ValueError(f"{url!r} is no URL such as http://host:port or https://host:port")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} must have no query and no fragment")
