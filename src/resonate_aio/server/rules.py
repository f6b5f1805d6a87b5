"""How strict the server is: the switches of current-protocol §13, as pure checks.

The default serves every client: both id dialects at once, timers with a target, searches.
The strict settings are for conformance tools, which test what the default lets through.
What every setting refuses is in `protocol/validation.py` and in the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from ..protocol import requests as r
from ..protocol.records import Promise

SHELL_ADDRESS: Final = "watched:"
"""The store's own address for itself: no task may have it as its target."""

Ids = Literal["lenient", "dot", "colon"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The switches of one server.

    Attributes:
        ids: "lenient" judges no ids; "dot" and "colon" ask for the lineage tags, the schedule
            ids and the shared origins of that dialect (§1).
        timer_target: Whether a timer may have a target.
        scope_is_external: Whether `resonate:scope` = `global` lets others wait for a promise.
        addresses: "scheme" takes any `scheme://rest` for a listener; "spec" takes http, https,
            and poll with an `@` (§9.1).
        search: Whether searches are answered; else 501.
        empty_heartbeat: Whether a heartbeat without tasks extends every lease of its pid.
    """

    ids: Ids = "lenient"
    timer_target: bool = True
    scope_is_external: bool = True
    addresses: Literal["scheme", "spec"] = "scheme"
    search: bool = True
    empty_heartbeat: bool = True


SPECIFICATION: Final = Rules(
    timer_target=False,
    scope_is_external=False,
    addresses="spec",
    search=False,
)
"""What the formal specification's checkers expect; they judge no ids."""

_SEARCHES: Final = (r.PromiseSearch, r.TaskSearch, r.ScheduleSearch)


def refusal(request: r.Request, rules: Rules) -> r.Reply | None:
    """The answer to a request that these rules refuse, before any state is read."""
    if not rules.search and isinstance(request, _SEARCHES):
        return r.Reply(501, error="searches are not served here")
    fault = _fault(request, rules)
    return None if fault is None else r.Reply(400, error=fault)


def awaited_ids(request: r.Request) -> tuple[str, ...]:
    """The promises that a request wants to wait for."""
    match request:
        case r.PromiseRegisterCallback(awaited=awaited):
            return (awaited,)
        case r.PromiseRegisterListener(awaited=awaited):
            return (awaited,)
        case r.TaskSuspend(actions=actions):
            return tuple(action.awaited for action in actions)
        case _:
            return ()


def is_awaitable(promise: Promise, rules: Rules) -> bool:
    """Whether others may wait for the promise, where the rules are stricter than the machine."""
    tags = promise.tags
    return rules.scope_is_external or (
        "resonate:target" in tags
        or tags.get("resonate:timer") == "true"
        or tags.get("resonate:external") == "true"
    )


def _fault(request: r.Request, rules: Rules) -> str | None:
    for tags in _created_tags(request):
        fault = _tags_fault(tags, rules)
        if fault is not None:
            return fault
    if isinstance(request, r.PromiseRegisterListener) and rules.addresses == "spec":
        return _address_fault(request.address)
    if isinstance(request, r.TaskHeartbeat) and not request.tasks and not rules.empty_heartbeat:
        return "tasks must not be empty"
    if rules.ids == "lenient":
        return None
    return _lineage_fault(request, "." if rules.ids == "dot" else ":")


def _created_tags(request: r.Request) -> Iterator[dict[str, str]]:
    match request:
        case r.PromiseCreate(tags=tags) | r.ScheduleCreate(promise_tags=tags):
            yield tags
        case r.TaskCreate(action=r.PromiseCreate(tags=tags)):
            yield tags
        case r.TaskFence(action=r.PromiseCreate(tags=tags)):
            yield tags


def _tags_fault(tags: dict[str, str], rules: Rules) -> str | None:
    target = tags.get("resonate:target")
    if target is None:
        return None
    if target.startswith(SHELL_ADDRESS):
        return f"tag resonate:target must be an address of a worker, is {target!r:.100}"
    if not rules.timer_target and tags.get("resonate:timer") == "true":
        return "a promise with tag resonate:timer must not have tag resonate:target"
    return None


def _address_fault(address: str) -> str | None:
    scheme, _, rest = address.partition("://")
    try:
        parts = urlsplit(address)
    except ValueError:
        return f"address is no URL: {address!r:.100}"
    if (scheme in {"http", "https"} and parts.netloc) or (scheme == "poll" and "@" in rest):
        return None
    return f"address must be http://, https:// or poll://cast@group, is {address!r:.100}"


# -- one dialect (§1)


def _lineage_fault(request: r.Request, separator: str) -> str | None:
    match request:
        case (
            r.PromiseCreate(id=id, tags=tags)
            | r.TaskCreate(action=r.PromiseCreate(id=id, tags=tags))
        ):
            return _continues_fault(id, tags, separator)
        case r.TaskFence(id=id, action=action):
            if isinstance(action, r.PromiseCreate):
                fault = _continues_fault(action.id, action.tags, separator)
                if fault is not None:
                    return fault
            # The colon dialect lets a fence create a root, for detached work.
            if separator == ":" and separator in action.id:
                return _origins_fault((id, action.id), separator)
            return None
        case r.PromiseRegisterCallback(awaited=awaited, awaiter=awaiter):
            return _origins_fault((awaiter, awaited), separator)
        case r.TaskSuspend(id=id, actions=actions):
            return _origins_fault((id, *(action.awaited for action in actions)), separator)
        case r.TaskHeartbeat(tasks=tasks):
            return _origins_fault(tuple(task.id for task in tasks), separator)
        case r.ScheduleCreate(id=id, promise_tags=tags):
            return _schedule_fault(id, tags, separator)
        case _:
            return None


def _origins_fault(ids: tuple[Any, ...], separator: str) -> str | None:
    origins = {id.partition(separator)[0] for id in ids}
    if len(origins) <= 1:
        return None
    return f"ids must share an origin, have {', '.join(sorted(map(repr, origins)))[:200]}"


def _continues_fault(id: str, tags: dict[str, str], separator: str) -> str | None:
    for name in ("resonate:origin", "resonate:prefix"):
        if separator in tags.get(name, ""):
            return f"tag {name} must not hold {separator!r}, is {tags[name]!r:.100}"
    for name in ("resonate:origin", "resonate:branch", "resonate:parent"):
        above = tags.get(name)
        if above is None or id == above:
            continue
        joint = "." if separator == ":" and ":" in above else separator
        if not id.startswith(above + joint):
            return f"id {id!r:.100} must continue tag {name} {above!r:.100} with {joint!r}"
    return None


def _schedule_fault(id: str, tags: dict[str, str], separator: str) -> str | None:
    if separator in id:
        return f"a schedule's id must not hold {separator!r}, is {id!r:.100}"
    for name in ("resonate:origin", "resonate:prefix"):
        if separator in tags.get(name, ""):
            return f"tag {name} must not hold {separator!r}, is {tags[name]!r:.100}"
    return None
