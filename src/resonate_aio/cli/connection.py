"""The server that a command speaks to: where it is, who asks, how long it may take.

A command makes one or a few requests. What fails is tried again for as long as the command
may wait; then it is an error of one line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from ..errors import ResonateStoreError
from .output import note

if TYPE_CHECKING:
    from ..protocol.requests import Reply, Request

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_URL: Final = "http://localhost:8001"


class Target(msgspec.Struct, frozen=True):
    """A server as the options name it. Not shown anywhere: it holds a secret."""

    url: str
    token: str | None
    wait_s: float

    def __repr__(self) -> str:
        return f"<Target {self.url}>"


class Asker:
    """Asks one server; every method may raise `ResonateStoreError` for a refusal."""

    def __init__(self, ask: Callable[[Request], Awaitable[Reply]]) -> None:
        self._ask = ask

    async def reply(self, request: Request) -> Reply:
        """The answer, whatever its status."""
        return await self._ask(request)

    async def done(self, request: Request) -> Reply:
        """The answer of a request that was carried out.

        Raises:
            ResonateStoreError: The server refused; its status is the code.
        """
        reply = await self._ask(request)
        if reply.status >= 400:
            raise ResonateStoreError(f"{reply.error} ({reply.status})", reply.status)
        return reply


def server_options(command: F) -> F:
    """The options of a command that speaks to a server; gives it `target` and `as_json`."""
    options: list[Callable[[F], F]] = [
        click.option(
            "-S",
            "--server",
            "url",
            default=DEFAULT_URL,
            show_default=True,
            envvar="RESONATE_URL",
            show_envvar=True,
            help="Where the server is.",
        ),
        click.option(
            "-T",
            "--token",
            envvar="RESONATE_TOKEN",
            show_envvar=True,
            help="Secret of the server; the variable or --token-file keeps it out of sight.",
        ),
        click.option(
            "--token-file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="File that holds the token.",
        ),
        click.option(
            "--wait",
            "wait_s",
            default=10.0,
            show_default=True,
            type=click.FloatRange(min=0.1),
            help="Seconds that the server may take.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Answer as one JSON document."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def target_of(options: dict[str, Any]) -> Target:
    """Take the options of `server_options`, but `as_json`, out of a command's options."""
    url, token = options.pop("url"), options.pop("token")
    token_file: Path | None = options.pop("token_file")
    if token_file is not None:
        token = token_file.read_text(encoding="utf-8").strip()
    source = click.get_current_context().get_parameter_source("token")
    if source is click.core.ParameterSource.COMMANDLINE:
        note("Warning: other users can see the token on the command line; RESONATE_TOKEN hides it.")
    return Target(url, token or None, options.pop("wait_s"))


def speak(target: Target, talk: Callable[[Asker], Awaitable[T]], *, endless: bool = False) -> T:
    """Run a conversation with the server, within the time the command may take.

    Args:
        endless: Each answer may take that long, not the whole conversation.

    Raises:
        ResonateStoreError: The server refused, or did not answer in time.
    """
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s")
    # Whoever waits is told at once what for: a server that does not answer is asked again.
    logging.getLogger("resonate_aio.stores.http").setLevel(logging.WARNING)
    return asyncio.run(_speak(target, talk, endless=endless))


async def _speak(target: Target, talk: Callable[[Asker], Awaitable[T]], *, endless: bool) -> T:
    from ..client.servers import asking  # noqa: PLC0415  help and wrong use need not wait for it

    try:
        async with asking(target.url, target.token) as answer:

            async def ask(request: Request) -> Reply:
                async with asyncio.timeout(target.wait_s):
                    return await answer(request)

            async with asyncio.timeout(None if endless else target.wait_s):
                return await talk(Asker(ask))
    except TimeoutError:
        raise ResonateStoreError(
            f"{target.url} did not answer within {target.wait_s:g} s: is a Resonate server "
            "running there? (--server names another)"
        ) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from error
