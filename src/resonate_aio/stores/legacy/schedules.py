"""The schedule.* verbs of a legacy server."""

from __future__ import annotations

from ...protocol import requests as r
from . import codec
from .answers import NOT_HERE, Refused
from .rest import LegacyRest


class Schedules:
    """Schedules of one server."""

    __slots__ = ("_rest",)

    def __init__(self, rest: LegacyRest) -> None:
        self._rest = rest

    async def create(self, request: r.ScheduleCreate) -> r.Reply:
        """Create a schedule, unless the server would stop on it (hazard 14)."""
        fault = codec.schedule_fault(request)
        if fault is not None:
            return r.Reply(400, error=fault)
        told = await self._rest.create_schedule(request)
        return _refused(told) if isinstance(told, Refused) else r.Reply(200, schedule=told)

    async def get(self, request: r.ScheduleGet) -> r.Reply:
        """Read a schedule."""
        schedule = await self._rest.get_schedule(request.id)
        if schedule is None:
            return _absent(request.id)
        return r.Reply(200, schedule=schedule)

    async def delete(self, request: r.ScheduleDelete) -> r.Reply:
        """Delete a schedule; promises it created stay."""
        refused = await self._rest.delete_schedule(request.id)
        return r.Reply(200) if refused is None else _refused(refused)

    async def search(self, request: r.ScheduleSearch) -> r.Reply:
        """The rows of a search show no promise: each schedule is read (legacy-protocol §1.2)."""
        ids, cursor = await self._rest.search_schedules(
            {codec.renamed(name): tag for name, tag in request.tags.items()},
            limit=request.limit,
            cursor=request.cursor,
        )
        read = [await self._rest.get_schedule(id) for id in ids]
        found = tuple(
            schedule
            for schedule in read
            if schedule is not None
            and all(schedule.promise_tags.get(name) == tag for name, tag in request.tags.items())
        )
        return r.Reply(200, schedules=found, cursor=cursor)


def _absent(id: str) -> r.Reply:
    return r.Reply(NOT_HERE, error=f"schedule {id!r} does not exist")


def _refused(told: Refused) -> r.Reply:
    return r.Reply(told.status, error=told.error)
