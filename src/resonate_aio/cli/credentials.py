"""Who asks a server: a token, or a user with a password that no command line shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .output import note

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def credential_options(command: F) -> F:
    """The options of a command that may have to say who asks."""
    options: list[Callable[[F], F]] = [
        click.option(
            "-T",
            "--token",
            help="Secret of the server; the variable or --token-file keeps it out of sight.  "
            "[env var: RESONATE_TOKEN]",
        ),
        click.option("--token-file", type=_FILE, help="File that holds the token."),
        click.option(
            "--user",
            metavar="NAME",
            help="User, for a server that asks for one instead of a token. The password is that "
            "of --password-file or RESONATE_PASSWORD; else it is asked for.  "
            "[env var: RESONATE_USERNAME]",
        ),
        click.option("--password-file", type=_FILE, help="File that holds the user's password."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def credentials_of(options: dict[str, Any]) -> tuple[str | None, tuple[str, str] | None]:
    """Take the token, or the user and the password, out of a command's options.

    What only the environment says is checked here and left for the library to read.

    Raises:
        UsageError: They cannot be meant, or two ways to say who asks were given.
    """
    token = _token(options.pop("token"), options.pop("token_file"))
    auth = _auth(options.pop("user"), options.pop("password_file"))
    if token is not None and auth is not None:
        raise click.UsageError("give either a token or --user, not both")
    if token is None and auth is None:
        _check_token(os.environ.get("RESONATE_TOKEN", ""), "RESONATE_TOKEN")
    return token, auth


def _token(given: str | None, file: Path | None) -> str | None:
    if file is not None:
        if given is not None:
            raise click.UsageError("give either --token or --token-file, not both")
        token = _text_of(file, "--token-file").strip()
        if not token:
            raise click.UsageError(f"--token-file: {str(file)!r} is empty")
        _check_token(token, "--token-file")
        return token
    if given is None:
        return None
    note("Warning: other users can see the token on the command line; RESONATE_TOKEN hides it.")
    _check_token(given, "--token")
    return given or None


def _check_token(token: str, named: str) -> None:
    """Nothing of it is shown."""
    if not token.isprintable():
        raise click.UsageError(f"{named}: the token holds control characters, such as a line break")


def _auth(given: str | None, file: Path | None) -> tuple[str, str] | None:
    named = "--user" if given is not None else "RESONATE_USERNAME"
    user = given if given is not None else os.environ.get("RESONATE_USERNAME")
    if user is not None and (":" in user or not user.isprintable()):
        raise click.UsageError(f"{named}: a user's name holds no colon and no control character")
    if given is None and file is None:
        return None
    if not user:
        what = "is empty" if given is not None else "needs --user or RESONATE_USERNAME"
        raise click.UsageError(f"{'--user' if given is not None else '--password-file'} {what}")
    return user, _password(user, file)


def _password(user: str, file: Path | None) -> str:
    if file is not None:
        return _text_of(file, "--password-file").rstrip("\r\n")
    password = os.environ.get("RESONATE_PASSWORD")
    if password is not None:
        return password
    if not sys.stdin.isatty():
        raise click.UsageError("--user needs a password: set RESONATE_PASSWORD or --password-file")
    asked: str = click.prompt(f"Password of {user}", hide_input=True, err=True)
    return asked


def _text_of(file: Path, named: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise click.UsageError(f"{named}: {str(file)!r} is no text") from None
