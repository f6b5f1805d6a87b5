"""`resonate-aio promises`: read, create, settle and find promises."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import click

from ..errors import ApplicationError
from ..protocol.dialects import PARKED
from ..protocol.failures import failure_value
from ..protocol.records import EMPTY, Promise, PromiseState, Value
from ..protocol.records import target_of as worker_of
from ..protocol.requests import PromiseCreate, PromiseGet, PromiseSearch, PromiseSettle
from . import arguments
from .connection import Asker, server_options, speak, target_of
from .output import emit, emit_json, escaped, note
from .records import data_of, encoded, instant, promise_json, promise_text, table

_AWAITABLE = {"resonate:external": "true", "resonate:scope": "global"}


@click.group()
def promises() -> None:
    """Read, create, settle and find durable promises."""


@promises.command()
@click.argument("id")
@server_options
def get(id: str, as_json: bool, **options: Any) -> None:
    """Show the promise ID."""
    _show(speak(target_of(options), _read(PromiseGet(id))), as_json)


@promises.command()
@click.argument("id")
@click.option(
    "--timeout",
    type=arguments.duration,
    default="24h",
    show_default=True,
    help="Time until its deadline.",
)
@click.option("--value", type=arguments.value, help="What it carries: JSON, or else text.")
@click.option(
    "--header",
    "headers",
    type=arguments.name_and_text,
    metavar="NAME=TEXT",
    multiple=True,
    help="Header of the value.",
)
@click.option(
    "--tag",
    "tags",
    type=arguments.name_and_text,
    metavar="NAME=TEXT",
    multiple=True,
    help="Tag; may be repeated.",
)
@server_options
def create(
    id: str,
    timeout: int,
    value: tuple[Any] | None,
    headers: tuple[tuple[str, str], ...],
    tags: tuple[tuple[str, str], ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Create the promise ID, for somebody to settle; an existing one is shown as it is."""
    now_ms = time.time_ns() // 1_000_000
    request = PromiseCreate(
        id, now_ms + timeout, _value(value, headers), {**_AWAITABLE, **dict(tags)}
    )
    promise = speak(target_of(options), _read(request))
    if promise.timeout_at_ms != request.timeout_at_ms or promise.param != request.param:
        note(f"Note: {escaped(id)} exists already and stays as it is.")
    _show(promise, as_json)


def _settling(verb: str, state: PromiseState, told: str) -> Callable[..., None]:
    @promises.command(verb, help=told)
    @click.argument("id")
    @click.option("--value", type=arguments.value, help="What it ends with: JSON, or else text.")
    @click.option(
        "--header",
        "headers",
        type=arguments.name_and_text,
        metavar="NAME=TEXT",
        multiple=True,
        help="Header of the value.",
    )
    @server_options
    def settle(
        id: str,
        value: tuple[Any] | None,
        headers: tuple[tuple[str, str], ...],
        as_json: bool,
        **options: Any,
    ) -> None:
        ending = _value(value, headers)
        if state is PromiseState.REJECTED and value is not None and isinstance(value[0], str):
            # Waiters get an error, so text becomes the message of one.
            ending = Value(
                ending.headers, failure_value(ApplicationError("Rejected", value[0])).data
            )
        promise = speak(target_of(options), _read(PromiseSettle(id, state, ending)))
        _show(promise, as_json)
        if promise.state is not state or promise.value != ending:
            raise click.ClickException(
                f"{escaped(id)} was {promise.state.value} already, at "
                f"{instant(promise.settled_at_ms)}"
            )
        is_execution = worker_of(promise) not in {None, PARKED}  # which is only swept (S63)
        if state is not PromiseState.CANCELED and is_execution:
            data = data_of(promise.param)
            called = escaped(str(data.get("func"))) if isinstance(data, dict) else "something"
            note(
                f"Note: {escaped(id)} is an execution of {called}: a worker that runs it goes on, "
                "and what comes of that no longer counts (to interrupt it: cancel)."
            )

    return settle


resolve = _settling(
    "resolve",
    PromiseState.RESOLVED,
    "Resolve the promise ID: whoever waits for it gets the value.",
)
reject = _settling(
    "reject",
    PromiseState.REJECTED,
    "Reject the promise ID: whoever waits for it gets an error; text is its message.",
)
cancel = _settling(
    "cancel",
    PromiseState.CANCELED,
    "Cancel the promise ID: a function that computes it is interrupted.",
)


@promises.command()
@click.option("--state", type=click.Choice([state.value for state in PromiseState]))
@click.option(
    "--tag",
    "tags",
    type=arguments.name_and_text,
    metavar="NAME=TEXT",
    multiple=True,
    help="Tag they all have.",
)
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True)
@click.option("--cursor", help="Where to go on: what an earlier page gave.")
@server_options
def search(
    state: str | None,
    tags: tuple[tuple[str, str], ...],
    limit: int,
    cursor: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """List promises, in the order of their ids."""
    wanted = None if state is None else PromiseState(state)
    request = PromiseSearch(wanted, dict(tags), limit, cursor)
    reply = speak(target_of(options), lambda asker: asker.done(request))
    if as_json:
        found = [promise_json(promise) for promise in reply.promises]
        emit_json({"promises": found, "cursor": reply.cursor})
        return
    rows = [
        (promise.id, promise.state.value, instant(promise.created_at_ms), *_ends(promise))
        for promise in reply.promises
    ]
    emit(table(("ID", "STATE", "CREATED", "SETTLED", "DEADLINE"), rows))
    if reply.cursor is not None:
        note(f"There are more: --cursor {escaped(reply.cursor)}")


def _ends(promise: Promise) -> tuple[str, str]:
    return instant(promise.settled_at_ms), instant(promise.timeout_at_ms)


def _read(
    request: PromiseGet | PromiseCreate | PromiseSettle,
) -> Callable[[Asker], Awaitable[Promise]]:
    async def talk(asker: Asker) -> Promise:
        promise = (await asker.done(request)).promise
        assert promise is not None  # what a reply of 200 to these shows
        return promise

    return talk


def _value(value: tuple[Any] | None, headers: tuple[tuple[str, str], ...]) -> Value:
    if value is None and not headers:
        return EMPTY
    return Value(dict(headers) or None, None if value is None else encoded(value[0]))


def _show(promise: Promise, as_json: bool) -> None:
    if as_json:
        emit_json(promise_json(promise))
    else:
        emit(promise_text(promise))
