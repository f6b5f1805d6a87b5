"""`resonate-aio invoke`: start a function on whoever serves its group."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import click

from ..protocol.records import Promise, PromiseState, Value, is_pending
from ..protocol.requests import PromiseCreate, PromiseGet
from . import arguments
from .connection import Asker, server_options, speak, target_of
from .invocations import func_options, invocation_of, is_same
from .output import emit, emit_json, escaped, note
from .records import promise_json, promise_text

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


@click.command(short_help="Start a function on the workers of a group.")
@click.argument("id")
@click.option("--func", "-f", required=True, help="Name it is registered under.")
@func_options
@click.option(
    "--timeout",
    "-t",
    type=arguments.duration,
    default="24h",
    show_default=True,
    help="Time until its deadline.",
)
@click.option("--delay", type=arguments.duration, help="Time until it may start.")
@click.option(
    "--tag",
    "tags",
    type=arguments.name_and_text,
    metavar="NAME=TEXT",
    multiple=True,
    help="Tag; may be repeated.",
)
@click.option("--follow", is_flag=True, help="Wait for its end and show that.")
@server_options
def invoke(
    id: str,
    func: str,
    version: int,
    target: str,
    timeout: int,
    delay: int | None,
    tags: tuple[tuple[str, str], ...],
    follow: bool,
    as_json: bool,
    args: tuple[tuple[Any], ...],
    json_args: tuple[Any] | None,
    kwargs: tuple[tuple[str, str], ...],
    **options: Any,
) -> None:
    """Start the function --func under the ID, once: the same ID is the same execution.

    With --follow the exit code is 0 only if the function returned. Once it is started the server
    may be away for a while; the deadline bounds that.
    """
    now_ms = time.time_ns() // 1_000_000
    stored = {
        "resonate:scope": "global",
        **arguments.tags_beside_target(tags),
        "resonate:target": target,
    }
    if delay is not None:
        stored["resonate:delay"] = str(now_ms + delay)
    data = invocation_of(func, *arguments.arguments_of(args, json_args, kwargs), version)
    request = PromiseCreate(id, now_ms + timeout, Value(data=data), stored)

    async def talk(asker: Asker) -> Promise:
        promise = await _promise(asker, request)
        if not is_same(promise.param.data, data):
            note(f"Note: {escaped(id)} exists already, with another function or arguments.")
        return await _end(asker, promise) if follow else promise

    promise = speak(target_of(options), talk, endless=follow)
    if as_json:
        emit_json(promise_json(promise))
    else:
        emit(promise_text(promise))
    if follow and promise.state is not PromiseState.RESOLVED:
        raise click.exceptions.Exit(1)


async def _end(asker: Asker, promise: Promise) -> Promise:
    """The promise once it is settled; its deadline bounds the wait, whoever is away."""
    pause_s = _FIRST_PAUSE_S
    while is_pending(promise):
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        left_s = promise.timeout_at_ms / 1000 - time.time()
        promise = await _promise(asker, PromiseGet(promise.id), left_s + asker.wait_s)
    return promise


async def _promise(
    asker: Asker, request: PromiseCreate | PromiseGet, within_s: float = 0.0
) -> Promise:
    promise = (await asker.done(request, within_s=within_s)).promise
    assert promise is not None  # what a reply of 200 to these shows
    return promise
