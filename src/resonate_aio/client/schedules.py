"""`resonate.schedules` and `resonate.schedule`: promises created by the calendar (M10, K20).

A schedule is kept by the store: each tick creates one promise, whether or not a process is
there at that time, and ticks that were missed are caught up with as soon as one is. A promise
with a target is an execution.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from ..errors import ResonateStoreError, ValueCodecError
from ..machine.cron import fault_of, is_cron, time_zone
from ..protocol.idempotency import key_for
from ..protocol.records import Schedule, Value
from ..protocol.requests import (
    Reply,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
)
from ..runtime.encoding import seal, sealed_invocation
from ..runtime.functions import Callee, Remote
from ..runtime.options import CallOptions, string_map, text
from .search import Page, Search, check_page
from .stored import check_span, low_level_tags, value_of

if TYPE_CHECKING:
    from .core import ClientCore

logger = logging.getLogger("resonate_aio.client")

DESCRIPTION: Final = "resonate-aio:description"
"""Header of the promises of a schedule: what somebody wrote about it."""

SCHEDULE_KEY: Final = "resonate-aio:schedule-ikey"
"""Tag of the promises of a schedule: the key it was created with, where that is not its id."""

_TICK: Final = "{{.timestamp}}"
_TEMPLATE: Final = "{{.id}}-" + _TICK


class Schedules:
    """Create, read, delete and find schedules. Everything is durable on return.

    Every method raises TypeError or ValueError for an argument that cannot be meant, before
    anything is stored, and ResonateStoreError for what the store refuses.
    """

    __slots__ = ("_core",)

    def __init__(self, core: ClientCore) -> None:
        self._core = core

    async def create(
        self,
        id: str,
        cron: str,
        promise_id: str,
        promise_timeout: int | timedelta,
        *,
        timezone: str | ZoneInfo | None = None,
        ikey: str | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        promise_headers: dict[str, str] | None = None,
        promise_data: str | None = None,
        promise_value: Any = None,
        promise_tags: dict[str, str] | None = None,
    ) -> Schedule:
        """Create a schedule, or get the one that has this id.

        The stored one never changes: delete it first, or take another id.

        Args:
            cron: Five fields (minute, hour, day of month, month, day of week), or six with
                seconds first; `@daily` and its kin; `@every 1h30m`. Read in UTC, unless it
                begins with `CRON_TZ=Europe/Berlin`.
            promise_id: Template of the promises' ids: `{{.id}}` is the schedule's id,
                `{{.timestamp}}` the tick in milliseconds since the epoch. Without the latter only
                the first tick creates a promise, and a warning says so.
            promise_timeout: Milliseconds (or a timedelta) from the tick to the deadline.
            timezone: The zone whose clock the fields mean, in place of the prefix.
            ikey: Idempotency key; the id where absent.
            description: For people; kept in a header of the promises.
            tags: Kept with the promises' own, and found by `search`.
            promise_headers, promise_data, promise_value: What the promises carry: JSON text,
                or a value that is encoded for you.
            promise_tags: Of these the reserved `resonate:target` may be set, too: the promises
                are then executions of what their data names.

        Raises:
            ResonateStoreError: The id was created with another key (code 409).
        """
        id = text(id, "the id of a schedule")
        headers = promise_headers
        stored_tags = {**low_level_tags(tags), **low_level_tags(promise_tags)}
        param = value_of(headers, promise_data, promise_value)
        if description is not None:
            described = {**(param.headers or {}), DESCRIPTION: text(description, "description")}
            param = Value(described, param.data)
        if ikey is not None and ikey != id:
            stored_tags[SCHEDULE_KEY] = text(ikey, "ikey")
        request = ScheduleCreate(
            id=id,
            cron=in_zone(cron, timezone),
            promise_id=text(promise_id, "promise_id"),
            promise_timeout_ms=check_span(promise_timeout, "promise_timeout"),
            promise_param=param,
            promise_tags=stored_tags,
        )
        if _TICK not in request.promise_id:
            logger.warning(
                "schedule %r: promise_id %r has no %s, so every tick after the first finds its "
                "promise there already and creates none",
                id,
                request.promise_id,
                _TICK,
                extra={"id": id},
            )
        return await self.put(request)

    async def get(self, id: str) -> Schedule:
        """Read a schedule.

        Raises:
            ResonateStoreError: There is none of that id (code 404).
        """
        return _schedule_of(await self._ask(ScheduleGet(text(id, "the id of a schedule"))))

    async def delete(self, id: str) -> None:
        """Delete a schedule; what it created stays, and runs to its end.

        Raises:
            ResonateStoreError: There is none of that id (code 404).
        """
        _check(await self._ask(ScheduleDelete(text(id, "the id of a schedule"))))

    def search(
        self, *, tags: dict[str, str] | None = None, limit: int = 100, cursor: str | None = None
    ) -> Search[Schedule]:
        """Find schedules, in the order of their ids; awaited one page, iterated over all.

        Args:
            tags: Only schedules whose promises have all of these.
            limit: Size of a page, at most 1000.
            cursor: Where the page begins: what the page before gave.
        """
        cursor = check_page(limit, cursor)
        having = {} if tags is None else string_map(tags, "tags")

        async def read(cursor: str | None) -> Page[Schedule]:
            reply = await self._ask(ScheduleSearch(having, limit, cursor))
            _check(reply)
            return Page(reply.schedules, reply.cursor)

        return Search(read, cursor)

    async def put(self, request: ScheduleCreate) -> Schedule:
        """Create what the request says, and compare what came back with it (S52)."""
        schedule = _schedule_of(await self._ask(request))
        key = request.promise_tags.get(SCHEDULE_KEY, request.id)
        recorded = schedule.promise_tags.get(SCHEDULE_KEY, schedule.id)
        if recorded != key:
            raise ResonateStoreError(
                f"schedule {request.id!r} exists already and was created with the idempotency key "
                f"{recorded!r}, not {key!r}: use that key, delete it, or take another id",
                409,
            )
        differing = [
            name
            for name in ("cron", "promise_id", "promise_timeout_ms", "promise_param")
            if getattr(schedule, name) != getattr(request, name)
        ]
        if differing:
            logger.warning(
                "schedule %r exists already and stays as it is: its %s differ; delete it first "
                "to change it",
                request.id,
                ", ".join(differing),
                extra={"id": request.id},
            )
        return schedule

    async def _ask(self, request: Request) -> Reply:
        await self._core.ensure_started()
        return await self._core.store.call(request)


async def schedule_function(
    core: ClientCore,
    options: CallOptions,
    id: str,
    first: Any,
    second: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Schedule:
    """Start a function at every tick: see `Resonate.schedule`."""
    id = text(id, "the id of a schedule")
    func, cron = _sorted_out(first, second)
    callee = _callee(core, func, options)
    callee.check(args, kwargs)
    version = options.version or callee.version
    if options.encoder is not None:
        sealed = await seal(options.encoder, args, kwargs)
        data = sealed_invocation(callee.name, sealed, version, options.encoder)
    else:
        try:
            data = callee.invocation(args, kwargs, version)
        except ValueCodecError as error:
            raise ValueCodecError(f"the arguments of {callee.name!r} ({id!r}): {error}") from None
    limit_s = options.timeout_s
    tags = {
        **(options.tags or {}),
        "resonate:scope": "global",
        "resonate:target": core.target(options.target),
    }
    key = key_for(options.idempotency_key, id)
    if key != id:
        tags[SCHEDULE_KEY] = text(key, "idempotency_key")
    request = ScheduleCreate(
        id=id,
        cron=cron,
        promise_id=_TEMPLATE,
        promise_timeout_ms=int(
            (limit_s if limit_s is not None else core.settings.default_timeout_s) * 1000
        ),
        promise_param=value_of(None, data, None),
        promise_tags=tags,
    )
    return await Schedules(core).put(request)


def in_zone(cron: Any, timezone: Any) -> str:
    """A cron expression, checked, read on the clock of a zone.

    Raises:
        TypeError, ValueError: It is no cron expression, or there is no such zone.
    """
    expression = text(cron, "cron")
    if timezone is not None:
        name = text(timezone.key if isinstance(timezone, ZoneInfo) else timezone, "timezone")
        time_zone(name)
        if "TZ=" in expression:
            raise ValueError(f"timezone= is given, and cron names a zone itself: {cron!r}")
        expression = f"CRON_TZ={name} {expression}"
    fault = fault_of(expression)
    if fault is not None:
        raise ValueError(
            f"cron {cron!r:.300} is no cron expression: {fault}. It is five fields, six with "
            "seconds first, @daily and its kin or @every 1h30m, after CRON_TZ=... for another "
            "zone than UTC"
        )
    return expression


def _sorted_out(first: Any, second: Any) -> tuple[Any, str]:
    """Which of the two is the function and which the cron expression (1.12 l).

    Raises:
        TypeError, ValueError: It cannot be told.
    """
    pairs = [
        (func, text(cron, "cron"))
        for func, cron in ((first, second), (second, first))
        if isinstance(cron, str) and is_cron(cron) and (callable(func) or isinstance(func, str))
    ]
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        raise ValueError(f"both {first!r} and {second!r} are cron expressions: which one is meant?")
    for given in (first, second):
        if not isinstance(given, str) and not callable(given):
            raise TypeError(f"schedule takes a function or its name and a cron, got {given!r}")
    strings = [given for given in (first, second) if isinstance(given, str)]
    # Of two strings the one with white space, or after the name, was meant to be the cron.
    meant = next((given for given in strings if " " in given or given.startswith("@")), strings[-1])
    raise ValueError(
        f"schedule takes a function or its name and a cron expression, and {meant!r:.300} is no "
        f"cron expression: {fault_of(meant)}"
    )


def _callee(core: ClientCore, func: Any, options: CallOptions) -> Callee:
    if isinstance(func, str):
        return Remote(text(func, "func"), options.version or 0)
    return core.registry.remote_of(func)


def _schedule_of(reply: Reply) -> Schedule:
    _check(reply)
    if reply.schedule is None:
        raise ResonateStoreError("the store answered without a schedule", reply.status)
    return reply.schedule


def _check(reply: Reply) -> None:
    if reply.status != 200:
        raise ResonateStoreError(f"{reply.error}", reply.status)
