"""The server that a command speaks to: where it is, who asks, how long it may take.

A command makes one or a few requests. Where nobody takes the connection it ends at once, unless
it was told to wait; what fails otherwise is tried again for as long as the command may take.
Either way the end is an error of one line.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from ..errors import ResonateStoreError
from .credentials import credential_options, credentials_of
from .output import in_options
from .settings import SECONDS, checked_url, server_url
from .trouble import Trouble

if TYPE_CHECKING:
    from ..client.arguments import ServerArguments
    from ..client.servers import Visitor
    from ..protocol.requests import Reply, Request

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

WAIT_S: Final = 10.0
"""How long a server may take to answer, where the command line does not say."""

_ENVIRONMENT: Final = "RESONATE_URL, or RESONATE_HOST, RESONATE_PORT and RESONATE_SCHEME"


class Target(msgspec.Struct, frozen=True):
    """A server as the options and the environment name it. `arguments` hold a secret.

    Attributes:
        url: Where it is.
        arguments: What a client of it would be given.
        wait_s: How long it may take to answer.
        may_come: It may also take that long to come up.
    """

    url: str
    arguments: ServerArguments
    wait_s: float
    may_come: bool

    def __repr__(self) -> str:
        return f"<Target {self.url}>"


class Asker:
    """Asks one server; every method may raise `ResonateStoreError` for a refusal.

    Args:
        ask: Carries out a request, however long that takes.
        wait_s: How long an answer may take.
    """

    def __init__(self, ask: Callable[[Request], Awaitable[Reply]], wait_s: float = WAIT_S) -> None:
        self._ask = ask
        self.wait_s = wait_s
        self.has_answer = False

    async def reply(self, request: Request, *, within_s: float = 0.0) -> Reply:
        """The answer, whatever its status.

        Args:
            within_s: How long it may take, if that is longer than usual.

        Raises:
            TimeoutError: There was none in time.
        """
        async with asyncio.timeout(max(self.wait_s, within_s)):
            reply = await self._ask(request)
        self.has_answer = True
        return reply

    async def done(self, request: Request, *, within_s: float = 0.0) -> Reply:
        """The answer of a request that was carried out; see `reply`.

        Raises:
            ResonateStoreError: The server refused; its status is the code.
        """
        reply = await self.reply(request, within_s=within_s)
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
            type=server_url,
            metavar="URL",
            help=f"Where the server is.  [env var: {_ENVIRONMENT}; default: http://localhost:8001]",
        ),
        credential_options,
        click.option(
            "--wait",
            "wait_s",
            type=SECONDS,
            metavar="SECONDS",
            help="How long the server may take to come up and to answer. Without it: "
            f"{WAIT_S:g} to answer, and an error at once where no server is.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Answer as one JSON document."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def target_of(options: dict[str, Any]) -> Target:
    """Take the options of `server_options`, but `as_json`, out of a command's options.

    Raises:
        UsageError: They, or the variables that stand in for them, cannot be meant.
    """
    from ..client.arguments import server_arguments  # noqa: PLC0415  help need not wait for it
    from ..client.wiring import server_url as url_of  # noqa: PLC0415

    given, wait_s = options.pop("url"), options.pop("wait_s")
    token, auth = credentials_of(options)
    # As `Resonate.remote()` reads the environment: what a command asks is what workers work for.
    arguments = server_arguments(url=given, token=token, auth=auth, is_meant=True)
    try:
        url = url_of(arguments)
        assert url is not None  # a server is meant
        checked_url(url)
    except ValueError as error:
        raise click.UsageError(f"the environment ({_ENVIRONMENT}): {error}") from None
    return Target(url, arguments, WAIT_S if wait_s is None else wait_s, wait_s is not None)


def speak(target: Target, talk: Callable[[Asker], Awaitable[T]], *, endless: bool = False) -> T:
    """Run a conversation with the server, within the time the command may take.

    Args:
        endless: The conversation may take as long as it likes, and once the server has answered
            it may be away meanwhile.

    Raises:
        ResonateStoreError: The server refused, is not there, or did not answer in time.
    """
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s")
    return asyncio.run(_speak(target, talk, endless=endless))


async def _speak(target: Target, talk: Callable[[Asker], Awaitable[T]], *, endless: bool) -> T:
    from ..client.servers import visiting  # noqa: PLC0415  help and wrong use need not wait for it

    async with AsyncExitStack() as stack:
        trouble = stack.enter_context(Trouble())
        try:
            visitor = await stack.enter_async_context(visiting(target.url, target.arguments))
        except ValueError as error:
            raise click.UsageError(in_options(str(error))) from error
        asker = Asker(visitor.ask, target.wait_s)
        try:
            async with asyncio.timeout(None if endless else target.wait_s):
                return await _talked(target, visitor, asker, talk, trouble, endless=endless)
        except TimeoutError:
            raise ResonateStoreError(_overdue(target, asker, trouble, endless=endless)) from None
        except ResonateStoreError as error:
            told = in_options(str(error)) + _hint(target, error)
            raise ResonateStoreError(told, error.code) from error


async def _talked(
    target: Target,
    visitor: Visitor,
    asker: Asker,
    talk: Callable[[Asker], Awaitable[T]],
    trouble: Trouble,
    *,
    endless: bool,
) -> T:
    """The end of a conversation, unless nobody is there to talk to."""
    talking = asyncio.ensure_future(talk(asker))
    begun = asyncio.ensure_future(trouble.begun.wait())
    try:
        await asyncio.wait({talking, begun}, return_when=asyncio.FIRST_COMPLETED)
        may_be_away = target.may_come or (endless and asker.has_answer)
        if not talking.done() and not may_be_away:
            why = await visitor.absence()
            if why is not None:
                raise ResonateStoreError(
                    f"no server at {target.url} ({why}): start one (`resonate-aio serve`), name "
                    "another (--server or RESONATE_URL), or wait for it (--wait)"
                )
        if not talking.done():
            is_bounded = not (endless and asker.has_answer)
            trouble.show(f" (for {target.wait_s:g} s at most)" if is_bounded else "")
        return await talking
    finally:
        talking.cancel()
        begun.cancel()
        await asyncio.gather(talking, begun, return_exceptions=True)


def _overdue(target: Target, asker: Asker, trouble: Trouble, *, endless: bool) -> str:
    if endless and asker.has_answer:
        return f"{target.url} is away, and the deadline of what was waited for has passed"
    told = f"no Resonate server answered at {target.url} within {target.wait_s:g} s"
    return told if trouble.is_shown else f"{told}: is one running there? (--server names another)"


def _hint(target: Target, error: ResonateStoreError) -> str:
    """What a variable that counts for nothing may have to do with refused credentials."""
    has_user = target.arguments.auth is not None or "RESONATE_USERNAME" in os.environ
    if error.code not in {401, 403} or has_user or "RESONATE_PASSWORD" not in os.environ:
        return ""
    return " (RESONATE_PASSWORD counts only with --user or RESONATE_USERNAME)"
