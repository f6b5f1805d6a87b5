"""`resonate-aio tasks`: who computes what."""

from __future__ import annotations

from typing import Any, Final

import click

from ..errors import ResonateStoreError
from ..protocol.records import TaskState
from ..protocol.requests import TaskSearch
from .connection import server_options, speak, target_of
from .output import emit, emit_json, escaped, note
from .records import span, table, task_json

_NOT_SERVED: Final = 501
"""What legacy servers, which keep no list of tasks, and strict ones answer."""


@click.group()
def tasks() -> None:
    """Find tasks: the rights to execute functions."""


@tasks.command()
@click.option("--state", type=click.Choice([state.value for state in TaskState]))
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True)
@click.option("--cursor", help="Where to go on: what an earlier page gave.")
@server_options
def search(
    state: str | None, limit: int, cursor: str | None, as_json: bool, **options: Any
) -> None:
    """List tasks, in the order of their ids."""
    request = TaskSearch(None if state is None else TaskState(state), limit, cursor)
    reply = speak(target_of(options), lambda asker: asker.reply(request))
    if reply.status == _NOT_SERVED:
        raise ResonateStoreError(f"this server does not list tasks ({_NOT_SERVED})", _NOT_SERVED)
    if reply.status >= 400:
        raise ResonateStoreError(f"{reply.error} ({reply.status})", reply.status)
    if as_json:
        emit_json({"tasks": [task_json(task) for task in reply.tasks], "cursor": reply.cursor})
        return
    rows = [
        (
            task.id,
            task.state.value,
            str(task.version),
            task.pid or "-",
            "-" if task.ttl_ms is None else span(task.ttl_ms),
        )
        for task in reply.tasks
    ]
    emit(table(("ID", "STATE", "VERSION", "HOLDER", "LEASE"), rows))
    if reply.cursor is not None:
        note(f"There are more: --cursor {escaped(reply.cursor)}")
