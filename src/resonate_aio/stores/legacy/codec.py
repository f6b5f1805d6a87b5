"""Records and messages as the legacy server's REST interface writes them, and back.

Both directions live here and are pure (legacy-protocol §1.1, §2.3, §4.2, §5). What the two
generations of servers call differently is renamed at this border, so that nothing behind it
knows which server it met:

* `resonate:target` is `resonate:invoke`, `resonate:timer` is `resonate:timeout`;
* promises of an execution carry `resonate:root` and `resonate:parent` as SDK 0.6.7 writes them;
* a rejected value carries its text under `__error__` too, which is where SDK 0.6.7 looks.

The header `resonate:format-py` holds pickled objects: it is kept as the text it is and never
decoded (law: nothing read from a wire is ever unpickled).
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import msgspec
import orjson

from ...protocol.fields import (
    FieldError,
    integer,
    items,
    mapping,
    optional_integer,
    shown,
    strings,
    text,
)
from ...protocol.records import EMPTY, Promise, PromiseState, Schedule, Value
from ...protocol.requests import PromiseCreate, ScheduleCreate
from ...protocol.wire_records import value_from_wire, value_to_wire

INVOKE: Final = "__invoke:"
RESUME: Final = "__resume:"
_TO_REST: Final = {"resonate:target": "resonate:invoke", "resonate:timer": "resonate:timeout"}
_TARGET: Final = "resonate:target"
_FROM_REST: Final = {rest: ours for ours, rest in _TO_REST.items()}

ROOT_TAG: Final = "resonate:root"
PARENT_TAG: Final = "resonate:parent"
SCOPE_TAG: Final = "resonate:scope"

NEVER_MS: Final = 253_402_329_599_000
"""When a subscription ends: the end of the year 9999, as SDK 0.6.7 writes it."""

Rest = dict[str, Any]


class TaskNotice(msgspec.Struct, frozen=True, gc=False):
    """A task that wants a worker: its own id and counter, and the promise it executes."""

    task_id: str
    counter: int
    root: str


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """What the claim of a task shows: the promise to execute."""

    root: Promise


# -- addresses of things


def path_of(kind: str, id: str) -> str:
    """The path of a promise or schedule; the id is percent-encoded, slashes too (hazard 16).

    Ids of dots alone are encoded as well, for they would name the folder above.
    """
    encoded = quote(id, safe="") if id.strip(".") else id.replace(".", "%2E")
    return f"/{kind}/{encoded}"


def invoke_task(id: str) -> str:
    """The id of the task that a promise with a target is created with."""
    return INVOKE + id


def is_header_safe(value: str) -> bool:
    """Whether a header carries the text unchanged: nothing trimmed, nothing refused."""
    return value.isprintable() and value == value.strip()


# -- tags


def tags_to_rest(tags: dict[str, str], *, id: str, root: str | None = None) -> dict[str, str]:
    """The tags of a promise as SDK 0.6.7 and the server expect them.

    Args:
        id: The promise's.
        root: The execution that asks for the promise; None for one that is its own.
    """
    rest = {renamed(name): value for name, value in tags.items()}
    if root is not None:
        rest.setdefault(SCOPE_TAG, "local")
        rest[ROOT_TAG] = root
        rest[PARENT_TAG] = parent_of(id, root)
    elif "resonate:invoke" in rest:
        rest.setdefault(ROOT_TAG, id)
        rest.setdefault(PARENT_TAG, id)
    return rest


def renamed(name: str) -> str:
    """The name of a tag as the legacy server calls it."""
    return _TO_REST.get(name, name)


def parent_of(id: str, root: str) -> str:
    """The call below which a derived id stands; the root for an id that is not derived."""
    if not id.startswith(f"{root}."):
        return root
    parts = id[len(root) + 1 :].split(".")[:-1]
    while parts and not parts[-1].isdecimal():
        parts.pop()  # a branch segment: part of the call's id, not a call
    return ".".join((root, *parts))


def unspeakable(tags: dict[str, str]) -> str | None:
    """Why these tags must not be sent, or None.

    A target that is JSON is taken for a physical address. One of kind poll without a cast
    stops the whole server (hazard 14), and other JSON silently means that there is no task.
    """
    target = tags.get("resonate:target", tags.get("resonate:invoke"))
    if target is None or not _is_json(target):
        return None
    return (
        f"tag resonate:target must be a group name or scheme://rest, is {shown(target)}: "
        "the legacy server would take JSON for a physical address"
    )


def _is_json(candidate: str) -> bool:
    try:
        orjson.loads(candidate)
    except ValueError:
        return False
    return True


# -- promises


def create_to_rest(request: PromiseCreate, *, root: str | None = None) -> Rest:
    """The body that creates a promise."""
    body: Rest = {"id": request.id, "timeout": request.timeout_at_ms}
    if request.param is not EMPTY:
        param = _with_version(request.param) if _TARGET in request.tags else request.param
        body["param"] = value_to_wire(param)
    tags = tags_to_rest(request.tags, id=request.id, root=root)
    if tags:
        body["tags"] = tags
    return body


def settle_to_rest(state: PromiseState, value: Value) -> Rest:
    """The body that settles a promise."""
    if state is PromiseState.REJECTED:
        value = _with_text(value)
    return {"state": state.value.upper(), "value": value_to_wire(value)}


def promise_from_rest(data: Any, where: str = "promise") -> Promise:
    """The promise a JSON object stands for.

    Raises:
        FieldError: A field is missing or of another kind.
    """
    found = mapping(data, where)
    state = _state(found, where)
    value = value_from_wire(found.get("value"), f"{where}.value")
    if state is PromiseState.REJECTED:
        value = _with_type(value)
    tags = strings(found, "tags", where) or {}
    return Promise(
        id=text(found, "id", where),
        state=state,
        timeout_at_ms=integer(found, "timeout", where),
        created_at_ms=optional_integer(found, "createdOn", where) or 0,
        param=value_from_wire(found.get("param"), f"{where}.param"),
        value=value,
        tags={_FROM_REST.get(name, name): tag for name, tag in tags.items()},
        settled_at_ms=optional_integer(found, "completedOn", where),
    )


def promises_from_rest(data: Any) -> tuple[list[Promise], str | None]:
    """One page of a search: the promises and where the next page begins, if there is one."""
    found = mapping(data, "response")
    page = items(found, "promises", "response")
    promises = [promise_from_rest(one, f"promises[{place}]") for place, one in enumerate(page)]
    cursor = found.get("cursor")
    return promises, cursor if isinstance(cursor, str) and cursor else None


def _state(found: Rest, where: str) -> PromiseState:
    name = text(found, "state", where)
    try:
        return PromiseState(name.lower())
    except ValueError:
        raise FieldError(f"{where}.state is none of a promise: {shown(name)}") from None


def _with_version(param: Value) -> Value:
    """An invocation as SDK 0.6.7 demands it: it names a version, 0 for the newest (§5.1)."""
    invocation = _object(param.data)
    if invocation is None or "func" not in invocation or "version" in invocation:
        return param
    assert param.data is not None  # it held an object
    return Value(param.headers, f'{param.data.rstrip()[:-1]},"version":0}}')


def _with_text(value: Value) -> Value:
    """An error as we write it, with its text where SDK 0.6.7 looks for it (§5.3)."""
    error = _object(value.data)
    if error is None or error.get("__type") != "error" or "__error__" in error:
        return value
    error["__error__"] = str(error.get("message") or error.get("name"))
    return Value(value.headers, orjson.dumps(error).decode())


def _with_type(value: Value) -> Value:
    """An error as SDK 0.6.7 writes it, in the form in which errors are read here."""
    if value.data is None or "__error__" not in value.data:
        return value
    error = _object(value.data)
    if error is None or "__type" in error:
        return value
    message = error.get("__error__")
    read = {"__type": "error", "name": "Exception", "message": message}
    return Value(value.headers, orjson.dumps(read).decode())


def _object(data: str | None) -> Rest | None:
    if data is None or not data.startswith("{"):
        return None
    try:
        found = orjson.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


# -- tasks and messages


def notice_from_rest(data: Any, where: str = "task") -> TaskNotice:
    """The task a JSON object stands for.

    Raises:
        FieldError: A field is missing or of another kind.
    """
    found = mapping(data, where)
    task_id = text(found, "id", where)
    root = found.get("rootPromiseId")
    if not isinstance(root, str) or not root:
        root = task_id.removeprefix(INVOKE)
    return TaskNotice(task_id, integer(found, "counter", where), root)


def message_from_rest(data: Any) -> TaskNotice | Promise | None:
    """What one event of the poll stream says: a task, a settled promise, or nothing of use.

    Raises:
        FieldError: It is none of the forms of §4.2.
    """
    found = mapping(data, "message")
    match found.get("type"):
        case "invoke" | "resume":
            return notice_from_rest(found.get("task"), "message.task")
        case "notify":
            return promise_from_rest(found.get("promise"), "message.promise")
    return None


def claimed_from_rest(data: Any) -> Claimed:
    """What a claim answers.

    Raises:
        FieldError: It shows no promise to execute.
    """
    promises = mapping(mapping(data, "response").get("promises"), "response.promises")
    root = mapping(promises.get("root"), "response.promises.root")
    return Claimed(promise_from_rest(root.get("data"), "response.promises.root.data"))


def callback_from_rest(data: Any) -> tuple[bool, Promise]:
    """What registering a callback or a subscription answers: whether it is new; the promise.

    Raises:
        FieldError: It shows no promise.
    """
    found = mapping(data, "response")
    promise = promise_from_rest(found.get("promise"), "response.promise")
    return found.get("callback") is not None, promise


# -- schedules


def schedule_fault(request: ScheduleCreate) -> str | None:
    """Why a schedule must not be sent, or None.

    A template the server cannot read stops it when the schedule first runs (hazard 14), and
    one without the time of the run never gets beyond its first occurrence (§6).
    """
    rest = request.promise_id.replace("{{.id}}", "").replace("{{.timestamp}}", "")
    if "{{" in rest or "}}" in rest:
        return (
            "promiseId may hold {{.id}} and {{.timestamp}} and no other braces, "
            f"is {shown(request.promise_id)}"
        )
    if "{{.timestamp}}" not in request.promise_id:
        return (
            "promiseId must hold {{.timestamp}}: on a legacy server a schedule stops at an id "
            f"that exists, is {shown(request.promise_id)}"
        )
    return unspeakable(request.promise_tags)


def schedule_to_rest(request: ScheduleCreate) -> Rest:
    """The body that creates a schedule; its own tags repeat its promises', to be found by."""
    # No root and parent: the server fills in no template inside a tag.
    tags = {renamed(name): tag for name, tag in request.promise_tags.items()}
    return {
        "id": request.id,
        "cron": request.cron,
        "tags": tags,
        "promiseId": request.promise_id,
        "promiseTimeout": request.promise_timeout_ms,
        "promiseParam": value_to_wire(_with_version(request.promise_param)),
        "promiseTags": tags,
    }


def schedule_from_rest(data: Any, where: str = "schedule") -> Schedule:
    """The schedule a JSON object stands for.

    Raises:
        FieldError: A field is missing or of another kind.
    """
    found = mapping(data, where)
    tags = strings(found, "promiseTags", where) or {}
    return Schedule(
        id=text(found, "id", where),
        cron=text(found, "cron", where),
        promise_id=text(found, "promiseId", where),
        promise_timeout_ms=integer(found, "promiseTimeout", where),
        created_at_ms=optional_integer(found, "createdOn", where) or 0,
        next_run_at_ms=integer(found, "nextRunTime", where),
        promise_param=value_from_wire(found.get("promiseParam"), f"{where}.promiseParam"),
        promise_tags={_FROM_REST.get(name, name): tag for name, tag in tags.items()},
        last_run_at_ms=optional_integer(found, "lastRunTime", where),
    )


# -- errors


def refusal_text(body: Any) -> str:
    """What a refusal says, in one line; the numbers in it depend on the version (hazard 8)."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    if isinstance(body, str) and body.strip():
        return shown(body.strip())
    return "the server gave no reason"
