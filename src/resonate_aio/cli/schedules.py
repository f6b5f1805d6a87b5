"""`resonate-aio schedules`: promises by the calendar."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click

from ..protocol.records import EMPTY, Schedule, Value
from ..protocol.requests import (
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
)
from . import arguments
from .connection import Asker, server_options, speak, target_of
from .invocations import func_options, invocation_of, is_same
from .output import emit, emit_json, escaped, note
from .records import encoded, instant, schedule_json, schedule_text, table


@click.group()
def schedules() -> None:
    """Create, read, delete and find schedules."""


@schedules.command()
@click.argument("id")
@click.option("--cron", required=True, help="Minute, hour, day, month, weekday; in UTC.")
@click.option("--func", help="Function that every tick starts.")
@func_options
@click.option(
    "--value", type=arguments.value, help="What the promises carry, instead of an invocation."
)
@click.option(
    "--promise-id",
    default="{{.id}}-{{.timestamp}}",
    show_default=True,
    help="Template of the promises' ids.",
)
@click.option(
    "--timeout",
    type=arguments.duration,
    default="24h",
    show_default=True,
    help="From tick to deadline.",
)
@click.option(
    "--tag",
    "tags",
    type=arguments.name_and_text,
    metavar="NAME=TEXT",
    multiple=True,
    help="Tag of the promises.",
)
@server_options
def create(
    id: str,
    cron: str,
    func: str | None,
    version: int,
    target: str,
    value: tuple[Any] | None,
    promise_id: str,
    timeout: int,
    tags: tuple[tuple[str, str], ...],
    as_json: bool,
    args: tuple[tuple[Any], ...],
    json_args: tuple[Any] | None,
    kwargs: tuple[tuple[str, str], ...],
    **options: Any,
) -> None:
    """Create the schedule ID: one promise per tick of the calendar.

    With --func every promise is an execution of it; an existing schedule stays as it is.
    """
    if (func is None) == (value is None):
        raise click.UsageError("give either --func or --value")
    if func is not None:
        param = Value(
            data=invocation_of(func, *arguments.arguments_of(args, json_args, kwargs), version)
        )
        named = arguments.tags_beside_target(tags)
        more = {"resonate:target": target, "resonate:scope": "global", **named}
    else:
        param = EMPTY if value is None else Value(data=encoded(value[0]))
        more = {"resonate:external": "true", "resonate:scope": "global", **dict(tags)}
    request = ScheduleCreate(id, cron, promise_id, timeout, param, more)
    schedule = speak(target_of(options), _read(request))
    if schedule.cron != cron or not is_same(schedule.promise_param.data, param.data):
        note(f"Note: {escaped(id)} exists already and stays as it is; delete it to change it.")
    _show(schedule, as_json)


@schedules.command()
@click.argument("id")
@server_options
def get(id: str, as_json: bool, **options: Any) -> None:
    """Show the schedule ID."""
    _show(speak(target_of(options), _read(ScheduleGet(id))), as_json)


@schedules.command()
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_options
def delete(id: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Delete the schedule ID; the promises it created stay."""
    if not yes:
        click.confirm(f"Delete the schedule {escaped(id)}?", abort=True, err=True)
    speak(target_of(options), lambda asker: asker.done(ScheduleDelete(id)))
    if as_json:
        emit_json({"id": id, "deleted": True})
    else:
        emit(f"Deleted {escaped(id)}.")


@schedules.command()
@click.option(
    "--tag",
    "tags",
    type=arguments.name_and_text,
    metavar="NAME=TEXT",
    multiple=True,
    help="Tag their promises have.",
)
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True)
@click.option("--cursor", help="Where to go on: what an earlier page gave.")
@server_options
def search(
    tags: tuple[tuple[str, str], ...], limit: int, cursor: str | None, as_json: bool, **options: Any
) -> None:
    """List schedules, in the order of their ids."""
    request = ScheduleSearch(dict(tags), limit, cursor)
    reply = speak(target_of(options), lambda asker: asker.done(request))
    if as_json:
        found = [schedule_json(schedule) for schedule in reply.schedules]
        emit_json({"schedules": found, "cursor": reply.cursor})
        return
    rows = [
        (each.id, each.cron, instant(each.next_run_at_ms), instant(each.last_run_at_ms))
        for each in reply.schedules
    ]
    emit(table(("ID", "CRON", "NEXT RUN", "LAST RUN"), rows))
    if reply.cursor is not None:
        note(f"There are more: --cursor {escaped(reply.cursor)}")


def _read(request: ScheduleGet | ScheduleCreate) -> Callable[[Asker], Awaitable[Schedule]]:
    async def talk(asker: Asker) -> Schedule:
        schedule = (await asker.done(request)).schedule
        assert schedule is not None  # what a reply of 200 to these shows
        return schedule

    return talk


def _show(schedule: Schedule, as_json: bool) -> None:
    if as_json:
        emit_json(schedule_json(schedule))
    else:
        emit(schedule_text(schedule))
