"""`resonate-aio serve` and `dev`: the embedded server as a process of its own.

The first Ctrl-C or SIGTERM drains the server, a second one ends it at once; what was
acknowledged is durable either way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click
import msgspec

from ..errors import UsageError
from .output import emit, emit_json, escaped, in_options, note
from .settings import SECONDS, server_url

if TYPE_CHECKING:
    from ..server import Rules, Server
    from ..server.seam import EmbeddableStore

# What serves is imported where it serves: help and wrong use need not wait for it.

F = TypeVar("F", bound=Callable[..., Any])

Ids = Literal["lenient", "dot", "colon"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_ENDED_AT_ONCE: Final = 130


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The options that both commands have."""

    host: str
    port: int
    url: str | None
    token: str | None
    token_file: Path | None
    push_to: tuple[str, ...]
    push_token: str | None
    ids: Ids
    strict: bool
    drain: float
    as_json: bool
    log_level: str


def server_options(command: F) -> F:
    """The options of a command that serves."""
    options: list[Callable[[F], F]] = [
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address to listen on; anything but loopback needs a token.",
        ),
        click.option(
            "--port",
            default=8001,
            show_default=True,
            type=click.IntRange(0, 65535),
            help="Port to listen on; 0 lets the system choose.",
        ),
        click.option(
            "--url",
            type=server_url,
            metavar="URL",
            help="Address that workers are told; by default made from the above.",
        ),
        click.option(
            "--token",
            envvar="RESONATE_TOKEN",
            show_envvar=True,
            help="Secret that every request must show. Other users can see a command line: "
            "better the variable or --token-file.",
        ),
        click.option(
            "--token-file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="File that holds the token.",
        ),
        click.option(
            "--push-to",
            multiple=True,
            metavar="ORIGIN",
            help="http(s)://host[:port] that messages may be pushed to; may be repeated.",
        ),
        click.option(
            "--push-token",
            envvar="RESONATE_PUSH_TOKEN",
            show_envvar=True,
            help="Secret that pushes carry.",
        ),
        click.option(
            "--ids",
            type=click.Choice(["lenient", "dot", "colon"]),
            default="lenient",
            show_default=True,
            help="Id dialect that requests are held to.",
        ),
        click.option(
            "--strict",
            is_flag=True,
            help="Refuse what the formal specification refuses (for conformance tools).",
        ),
        click.option(
            "--drain",
            default=10.0,
            show_default=True,
            type=SECONDS,
            help="Seconds that requests under way may take at the end.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Announce the server as JSON."),
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="warning",
            show_default=True,
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command(short_help="Run a server that keeps its promises in a file.")
@click.option(
    "--db",
    default="resonate.db",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="SQLite file; it is made if it does not exist.",
)
@click.option(
    "--synchronous",
    type=click.Choice(["FULL", "NORMAL"]),
    default="FULL",
    show_default=True,
    help="FULL survives a power cut, NORMAL is faster and survives a killed process.",
)
@server_options
def serve(db: str, synchronous: Literal["FULL", "NORMAL"], **options: Any) -> None:
    """Run a Resonate server of the current protocol, for one host.

    Everything it answers is in the file first: after kill -9 it goes on where it was.
    Ctrl-C or SIGTERM ends it in order.
    """
    from ..client.wiring import local_store  # noqa: PLC0415  see above

    store: Any = local_store(db, synchronous)
    _run(store, Settings(**options), f"storing in {db}", {"db": db})


@click.command(short_help="Run a server that keeps its promises in memory.")
@click.option(
    "--debug",
    is_flag=True,
    help="Let requests set the clock and erase everything (for conformance tools; loopback only).",
)
@server_options
def dev(debug: bool, **options: Any) -> None:
    """Run a Resonate server in memory, for development: it forgets everything at its end."""
    from ..client.wiring import local_store  # noqa: PLC0415  see above
    from ..server import DebugStore  # noqa: PLC0415

    store: Any = DebugStore() if debug else local_store(None, "FULL")
    _run(store, Settings(**options), "storing in memory", {"db": None})


def _run(store: EmbeddableStore, settings: Settings, stored: str, shown: dict[str, Any]) -> None:
    from ..server import Limits, PushRules, Server  # noqa: PLC0415  see above

    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    context = click.get_current_context()
    if context.get_parameter_source("token") is click.core.ParameterSource.COMMANDLINE:
        note("Warning: other users can see the token on the command line; RESONATE_TOKEN hides it.")
    try:
        server = Server(
            store,
            host=settings.host,
            port=settings.port,
            token=_token(settings),
            url=settings.url,
            rules=_rules(settings),
            limits=Limits(drain_s=settings.drain),
            push=PushRules(origins=settings.push_to, token=settings.push_token),
        )
    except UsageError as error:
        raise UsageError(in_options(str(error))) from None
    asyncio.run(_serve(server, settings.as_json, stored, shown))


def _token(settings: Settings) -> str | None:
    if settings.token_file is None:
        return settings.token
    return settings.token_file.read_text(encoding="utf-8").strip()


def _rules(settings: Settings) -> Rules:
    from ..server import SPECIFICATION, Rules  # noqa: PLC0415  see above

    base = SPECIFICATION if settings.strict else Rules()
    return msgspec.structs.replace(
        base, ids=settings.ids, empty_heartbeat=settings.ids == "lenient"
    )


async def _serve(server: Server, as_json: bool, stored: str, shown: dict[str, Any]) -> None:
    ended = asyncio.Event()
    _on_signals(ended.set)
    async with server:
        if as_json:
            emit_json({"url": server.url, "port": server.port, "pid": os.getpid(), **shown})
        else:
            emit(f"Serving on {escaped(server.url)}, {escaped(stored)}. Ctrl-C stops.")
        await ended.wait()
        _on_signals(lambda: os._exit(_ENDED_AT_ONCE))  # what was acknowledged is durable
        if not as_json:
            note("Stopping; once more ends it at once.")


def _on_signals(call: Callable[[], Any]) -> None:
    """Call this when the process is told to end."""
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        try:
            loop.add_signal_handler(number, call)
        except NotImplementedError:  # Windows: the loop hears of signals between two callbacks
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
