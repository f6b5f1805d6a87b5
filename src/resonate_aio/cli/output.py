"""What the commands print: for people by default, one JSON document with `--json`.

Ids, tags and values come from others, and a terminal obeys control characters: people's
output escapes them. JSON escapes them by itself.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import Any

import click
import orjson

_ARGUMENT = re.compile(r"\b(url|token|auth)=(?=[\s,;:)]|$)")
_OPTIONS = {"url": "--server", "token": "--token", "auth": "--user"}
_BREAKS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(text: str) -> str:
    """The text with everything a terminal would obey, or not show, written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def in_options(text: str) -> str:
    """A message of the library with the options of a command in place of its arguments."""
    return _ARGUMENT.sub(lambda found: _OPTIONS[found[1]], text)


def _shown(character: str) -> str:
    if character in _BREAKS:
        return _BREAKS[character]
    if character == " " or unicodedata.category(character)[0] not in {"C", "Z"}:
        return character
    return character.encode("unicode_escape").decode()


def emit_json(data: Any) -> None:
    """Print one JSON document on a line of its own."""
    sys.stdout.buffer.write(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def emit(line: str = "") -> None:
    """Print a line for people; foreign parts of it are escaped already."""
    click.echo(line)


def note(line: str) -> None:
    """Print a remark that is not the answer, on stderr."""
    click.echo(line, err=True)
