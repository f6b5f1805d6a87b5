"""What the reference model answers 400 before it looks at any state (current-protocol §5).

Ids may not be empty, versions not negative, a ttl not below 1; tags that steer the store
must make sense. Lenient: neither separators nor lineage tags are judged.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from resonate_aio.protocol import requests as rq
from resonate_aio.protocol.records import SETTLEABLE

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_bad(request: rq.Request) -> bool:
    """Whether the request is refused whatever the state is."""
    match request:
        case rq.PromiseCreate():
            return _bad_create(request)
        case rq.PromiseSettle():
            return not request.id or request.state not in SETTLEABLE
        case rq.PromiseRegisterCallback():
            return _bad_callback(request)
        case rq.PromiseRegisterListener():
            scheme, separator, rest = request.address.partition("://")
            return not request.awaited or not (scheme and separator and rest)
        case rq.PromiseSearch() | rq.TaskSearch() | rq.ScheduleSearch():
            return not 1 <= request.limit <= 1000
        case rq.ScheduleCreate():
            return _bad_schedule(request)
        case rq.PromiseGet() | rq.TaskGet() | rq.TaskHalt() | rq.TaskContinue():
            return not request.id
        case rq.ScheduleGet() | rq.ScheduleDelete():
            return not request.id
        case _:
            return _bad_task_request(request)


def _bad_task_request(request: rq.Request) -> bool:
    match request:
        case rq.TaskCreate(pid=pid, ttl_ms=ttl, action=action):
            tags = action.tags
            misplaced = "resonate:target" not in tags or "resonate:delay" in tags
            return not pid or ttl < 1 or misplaced or _bad_create(action)
        case rq.TaskAcquire(id=id, version=version, pid=pid, ttl_ms=ttl):
            return not id or version < 0 or not pid or ttl < 1
        case rq.TaskHeartbeat(pid=pid):
            return not pid  # whatever is odd about one of its tasks is skipped silently
        case rq.TaskFence(id=id, version=version, action=inner):
            return not id or version < 0 or inner.id == id
        case rq.TaskSuspend(id=id, version=version, actions=actions):
            awaited = [one.awaited for one in actions]
            repeated = len(set(awaited)) < len(awaited)
            odd = any(_bad_callback(one) or one.awaiter != id for one in actions)
            return not id or version < 0 or not awaited or id in awaited or repeated or odd
        case rq.TaskFulfill(id=id, version=version, action=settle):
            return not id or version < 0 or is_bad(settle) or settle.id != id
        case rq.TaskRelease(id=id, version=version):
            return not id or version < 0
    raise AssertionError(request)


def _bad_callback(request: rq.PromiseRegisterCallback) -> bool:
    return not request.awaited or not request.awaiter or request.awaited == request.awaiter


def _bad_create(request: rq.PromiseCreate) -> bool:
    if not request.id or "\0" in request.id or request.timeout_at_ms < 0:
        return True
    return _bad_tags(request.tags, request.timeout_at_ms)


def _bad_tags(tags: dict[str, str], timeout_at: int) -> bool:
    if tags.get("resonate:target") == "":
        return True
    delay = tags.get("resonate:delay")
    if delay is None:
        return False
    if "resonate:target" not in tags or not (delay.isascii() and delay.isdigit()):
        return True
    return int(delay) >= timeout_at


def _bad_schedule(request: rq.ScheduleCreate) -> bool:
    if not (request.id and request.cron and request.promise_id):
        return True
    if request.promise_timeout_ms < 0 or request.promise_tags.get("resonate:target") == "":
        return True
    try:
        CronSim(request.cron, EPOCH)
    except CronSimError:
        return True
    return False


def named(request: rq.Request) -> list[str]:
    """The ids a request looks at first, whatever the state is."""
    match request:
        case rq.PromiseRegisterCallback(awaited=awaited):
            return [awaited]
        case rq.PromiseRegisterListener(awaited=awaited):
            return [awaited]
        case rq.TaskCreate(action=action):
            return [action.id]
        case _:
            return [request.id] if hasattr(request, "id") else []
