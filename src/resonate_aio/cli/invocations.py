"""What starts a function: its name, version, arguments and target, typed and as it is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from ..errors import ValueCodecError
from ..protocol.values import decode
from . import arguments, settings
from .records import encoded

F = TypeVar("F", bound=Callable[..., Any])

_LARGEST_VERSION: Final = 2**31 - 1


def func_options(command: F) -> F:
    """The options that say how a function is called, but its name, and who executes it."""
    options: list[Callable[[F], F]] = [
        click.option(
            "--arg",
            "args",
            type=arguments.value,
            multiple=True,
            help="Argument: JSON, or else text; repeatable.",
        ),
        click.option("--json-args", type=arguments.value, help="All arguments, as a JSON list."),
        click.option(
            "--kwarg",
            "kwargs",
            type=arguments.name_and_text,
            metavar="NAME=TEXT",
            multiple=True,
            help="Named argument; repeatable.",
        ),
        click.option(
            "--version",
            type=click.IntRange(0, _LARGEST_VERSION),
            default=0,
            metavar="NUMBER",
            help="Version of the function; without it the newest that its worker has.",
        ),
        click.option(
            "--target",
            type=settings.target,
            default="default",
            show_default=True,
            help="Group or address that executes it.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def invocation_of(func: str, args: list[Any], kwargs: dict[str, Any], version: int) -> str:
    """What the promise of an execution carries, as it is stored.

    Args:
        version: 0 asks for the newest, which is what naming none means (R6).
    """
    asked: dict[str, Any] = {"func": func, "args": args, "kwargs": kwargs}
    return encoded({**asked, "version": version} if version else asked)


def is_same(recorded: str | None, asked: str | None) -> bool:
    """Whether a record is of the call that was asked for.

    Who names no version means the newest, whichever that was when the other was recorded.
    """
    if recorded == asked:
        return True
    if recorded is None or asked is None:
        return False
    try:
        there, here = decode(recorded), decode(asked)
    except ValueCodecError:
        return False
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return bool(there == here)
    if "func" in here and not here.get("version"):
        there, here = {**there, "version": 0}, {**here, "version": 0}
    return bool(there == here)
