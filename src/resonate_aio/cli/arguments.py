"""What is typed at a command, read: values, durations, pairs, targets.

A value is JSON where it can be read as JSON, and text otherwise, so that neither numbers nor
words need two pairs of quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import click
import orjson

from .output import escaped, note

_UNITS_MS: Final = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?")
_MOST_MS: Final = 2**53 - 1
_JSON_BEGINS: Final = ("{", "[", '"')
_SHOWN: Final = 60


def duration(text: str) -> int:
    """A span of time in milliseconds: `500ms`, `30s` (or `30`), `5m`, `1h30m`, `7d`, `2w`."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise click.BadParameter(f"{text!r} is no duration: write 500ms, 30s, 5m, 1h30m or 7d")
    total = sum(float(number) * _UNITS_MS[unit or "s"] for number, unit in parts)
    if total > _MOST_MS:
        raise click.BadParameter(f"{text!r} is too long")
    return int(total)


def value(text: str) -> tuple[Any]:
    """Any value: JSON, or else the text itself; in a tuple, so that null is not nothing.

    Text that begins as JSON does, and is none, is probably a slip: that is said.
    """
    try:
        return (orjson.loads(text),)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        if text.lstrip().startswith(_JSON_BEGINS):
            cut = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
            note(f"Note: {escaped(cut)} is no JSON: it is taken as text.")
        return (text,)


def name_and_text(text: str) -> tuple[str, str]:
    """The parts of `name=text`."""
    name, equals, rest = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is no name=text")
    return name, rest


def tags_beside_target(tags: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The tags of what is executed by whom --target names.

    Raises:
        UsageError: One of them names somebody, too.
    """
    named = dict(tags)
    if "resonate:target" in named:
        raise click.UsageError("--tag resonate:target: it is --target that says who executes")
    return named


def arguments_of(
    args: Iterable[tuple[Any]], json_args: tuple[Any] | None, kwargs: Iterable[tuple[str, str]]
) -> tuple[list[Any], dict[str, Any]]:
    """The positional and the named arguments of an invocation.

    Raises:
        UsageError: Both kinds of positional arguments, or a list that is none.
    """
    positional = [argument for (argument,) in args]
    if json_args is not None:
        if positional:
            raise click.UsageError("give either --arg or --json-args, not both")
        if not isinstance(json_args[0], list):
            raise click.UsageError("--json-args is a JSON list")
        positional = json_args[0]
    return positional, {name: value(text)[0] for name, text in kwargs}
