"""The envelope, both ways (current-protocol §2, §3, §5; law 14: what is malformed is refused)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resonate_aio.protocol import requests as r
from resonate_aio.protocol.envelope import (
    KINDS,
    VERSION,
    FieldError,
    auth_of,
    kind_of,
    message_from_wire,
    message_to_wire,
    opened,
    refusal_to_wire,
    reply_from_wire,
    reply_to_wire,
    request_from_wire,
    request_to_wire,
    salvaged,
)
from resonate_aio.protocol.records import (
    EMPTY,
    Promise,
    PromiseState,
    Schedule,
    Task,
    TaskState,
    Value,
)
from resonate_aio.protocol.wire_records import (
    RAW,
    data_from_wire,
    data_to_wire,
    promise_from_wire,
    promise_to_wire,
    task_from_wire,
)

CREATE = r.PromiseCreate("p", 9, Value({"h": "1"}, "[1]"), {"resonate:target": "poll://any@g"})
SETTLE = r.PromiseSettle("c", PromiseState.RESOLVED, Value(data="42"))
REQUESTS: list[r.Request] = [
    r.PromiseGet("p"),
    CREATE,
    r.PromiseCreate("bare", 0),
    SETTLE,
    r.PromiseRegisterCallback("a", "b"),
    r.PromiseRegisterListener("a", "poll://uni@g/1"),
    r.PromiseSearch(),
    r.PromiseSearch(PromiseState.CANCELED, {"k": "v"}, 7, "after"),
    r.TaskGet("p"),
    r.TaskCreate("pid", 60_000, CREATE),
    r.TaskAcquire("p", 3, "pid", 60_000),
    r.TaskFence("p", 3, r.PromiseCreate("c", 9)),
    r.TaskFence("p", 3, SETTLE),
    r.TaskHeartbeat("pid", (r.TaskRef("p", 3), r.TaskRef("q", 1))),
    r.TaskHeartbeat("pid", ()),
    r.TaskSuspend("p", 3, (r.PromiseRegisterCallback("a", "p"),)),
    r.TaskFulfill("c", 3, SETTLE),
    r.TaskRelease("p", 3),
    r.TaskHalt("p"),
    r.TaskContinue("p"),
    r.TaskSearch(),
    r.TaskSearch(TaskState.SUSPENDED, 5, "after"),
    r.ScheduleCreate("s", "* * * * *", "{{.id}}", 5, Value(data="1"), {"k": "v"}),
    r.ScheduleGet("s"),
    r.ScheduleDelete("s"),
    r.ScheduleSearch({"k": "v"}, 3, "s"),
]

PENDING = Promise("p", PromiseState.PENDING, 9, 1, Value(data="1"), EMPTY, {"t": "1"})
SETTLED = Promise("q", PromiseState.REJECTED, 9, 1, EMPTY, Value({}, "2"), {}, 5)
HELD = Task("p", TaskState.ACQUIRED, 2, ("",), 60_000, "pid")
SCHEDULE = Schedule("s", "* * * * *", "x", 5, 1, 60_000, Value(data="1"), {"k": "v"}, 2)


def replies(request: r.Request) -> list[r.Reply]:
    """Every shape of answer that this kind of request has."""
    refused = [r.Reply(status, error="no") for status in (400, 404, 409, 422, 500)]
    match request:
        case r.TaskGet():
            return [r.Reply(200, task=HELD), *refused]
        case r.TaskCreate() | r.TaskAcquire():
            return [r.Reply(200, PENDING, HELD, preload=(SETTLED,)), *refused]
        case r.TaskFence():
            inner = [r.Reply(200, SETTLED), r.Reply(404, error="gone")]
            return [*(r.Reply(200, inner=one) for one in inner), *refused]
        case r.TaskSuspend():
            return [r.Reply(200), r.Reply(300, preload=(SETTLED,)), *refused]
        case r.PromiseSearch():
            return [r.Reply(200, promises=(PENDING, SETTLED), cursor="q"), r.Reply(200), *refused]
        case r.TaskSearch():
            return [r.Reply(200, tasks=(HELD,)), *refused]
        case r.ScheduleSearch():
            return [r.Reply(200, schedules=(SCHEDULE,), cursor="s"), *refused]
        case r.ScheduleCreate() | r.ScheduleGet():
            return [r.Reply(200, schedule=SCHEDULE), *refused]
        case r.TaskHeartbeat() | r.TaskRelease() | r.TaskHalt() | r.TaskContinue():
            return [r.Reply(200), *refused]
        case r.ScheduleDelete():
            return [r.Reply(200), *refused]
        case _:
            return [r.Reply(200, PENDING), r.Reply(200, SETTLED), *refused]


def over_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def test_every_kind_is_in_the_list() -> None:
    assert {type(request) for request in REQUESTS} == set(KINDS.values())
    assert set(KINDS.values()) == set(r.Request.__args__)


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_a_server_reads_the_request_a_client_wrote(request_: r.Request) -> None:
    wire = over_json(request_to_wire(request_, "7", auth="secret", origin="o"))
    envelope = opened(wire)
    assert (envelope.kind, envelope.corr_id) == (kind_of(request_), "7")
    assert (envelope.auth, envelope.origin, envelope.debug_time_ms) == ("secret", "o", None)
    assert request_from_wire(envelope.kind, envelope.data) == request_


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_a_client_reads_the_reply_a_server_wrote(request_: r.Request) -> None:
    for reply in replies(request_):
        wire = over_json(reply_to_wire(request_, "7", reply))
        assert wire["kind"] == kind_of(request_)
        assert wire["head"] == {"corrId": "7", "status": reply.status, "version": VERSION}
        assert reply_from_wire(request_, "7", wire) == reply


def test_a_reply_to_something_else_is_not_taken() -> None:
    wire = reply_to_wire(r.PromiseGet("p"), "7", r.Reply(200, PENDING))
    for request, corr_id in ((r.PromiseGet("p"), "8"), (CREATE, "7")):
        with pytest.raises(FieldError, match="response answers"):
            reply_from_wire(request, corr_id, wire)


def test_a_refusal_need_not_echo_and_may_be_an_object() -> None:
    wire = refusal_to_wire("unknown", "0", 500, "broken")
    assert reply_from_wire(CREATE, "7", wire) == r.Reply(500, error="broken")
    wire["data"] = {"error": "as the in-process server of the Python client says it"}
    assert reply_from_wire(CREATE, "7", wire).error == wire["data"]["error"]
    wire["data"] = None
    assert reply_from_wire(CREATE, "7", wire).error


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "text",
        {},
        {"kind": "promise.get", "head": {}, "data": {}},
        {"kind": "promise.get", "head": {"corrId": "7", "status": "200"}, "data": {}},
        {"kind": "promise.get", "head": {"corrId": "7", "status": 200}, "data": "x"},
        {"kind": "promise.get", "head": {"corrId": "7", "status": 200}, "data": {}},
        {"kind": "promise.get", "head": {"corrId": "7", "status": 100}, "data": {}},
        {"kind": "promise.get", "head": {"corrId": "7", "status": 200}, "data": {"promise": 1}},
    ],
)
def test_a_malformed_reply_is_a_field_error(broken: Any) -> None:
    with pytest.raises(FieldError):
        reply_from_wire(r.PromiseGet("p"), "7", broken)


def test_the_outer_shape_is_checked_in_the_order_of_the_protocol() -> None:
    head = {"corrId": "c", "version": VERSION}
    cases: list[tuple[Any, str]] = [
        ([], "request must be an object"),
        ({"head": head, "data": {}}, "request.kind"),
        ({"kind": "k", "data": {}}, "head must be an object"),
        ({"kind": "k", "head": {"version": VERSION}, "data": {}}, "head.corrId"),
        ({"kind": "k", "head": {"corrId": "c"}, "data": {}}, "head.version"),
        ({"kind": "", "head": {**head, "version": "1"}, "data": []}, "kind must not be empty"),
        ({"kind": "k", "head": {**head, "version": "1"}, "data": []}, "data must be an object"),
        ({"kind": "k", "head": {**head, "version": "1"}, "data": {}}, "head.version must be 2026"),
        ({"kind": "k", "head": {**head, "resonate:debug_time": "1"}, "data": {}}, "debug_time"),
    ]
    for envelope, said in cases:
        with pytest.raises(FieldError, match=said):
            opened(envelope)
    assert opened({"kind": "k", "head": {**head, "x": 1}, "data": {}, "y": 2}).kind == "k"


def test_what_can_be_echoed_is_salvaged() -> None:
    assert salvaged(None) == ("unknown", "0")
    assert salvaged({"kind": 1, "head": {"corrId": 2}}) == ("unknown", "0")
    assert salvaged({"kind": "k", "head": {"corrId": "c"}, "data": 1}) == ("k", "c")
    assert auth_of({"head": {"auth": "t"}}) == "t"
    assert auth_of({"head": {"auth": 1}}) is None
    assert auth_of([1]) is None


def breakages(data: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Each field of the data missing or of another kind, down to the innermost."""
    found: list[tuple[dict[str, Any], str]] = []
    for name, value in data.items():
        wrong: list[Any] = [1.5, True, [1], {"x": 1}, "text", 2**63]
        found += [({**data, name: other}, name) for other in wrong if not fits(name, value, other)]
        if name in REQUIRED:
            found += [({key: data[key] for key in data if key != name}, name)]
            found += [({**data, name: None}, name)]
        if isinstance(value, dict) and name not in {"tags", "promiseTags", "headers"}:
            found += [({**data, name: inner}, said) for inner, said in breakages(value)]
        if isinstance(value, list):
            for item in value:
                found += [({**data, name: [inner]}, said) for inner, said in breakages(item)]
    return found


REQUIRED = frozenset(
    {"id", "timeoutAt", "state", "awaited", "awaiter", "address", "pid", "ttl", "action"}
    | {"actions", "version", "tasks", "cron", "promiseId", "promiseTimeout"}
)


def fits(name: str, value: Any, other: Any) -> bool:
    if name == "head" or (name in {"param", "value", "promiseParam"} and isinstance(other, dict)):
        return True  # extra members of objects are ignored
    if name == "state" and isinstance(other, str):
        return False
    return type(value) is type(other) and other not in ([1], {"x": 1}, 2**63)


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_each_field_of_another_kind_is_refused_by_name(request_: r.Request) -> None:
    kind = kind_of(request_)
    data = over_json(request_to_wire(request_, "7"))["data"]
    for broken, name in breakages(data):
        if kind.endswith(".search") and broken.get(name) is None:
            continue  # every filter may be left out
        with pytest.raises(FieldError, match=name):
            request_from_wire(kind, broken)


def test_null_is_absent_and_unknown_fields_are_ignored() -> None:
    data = {"id": "p", "timeoutAt": 9, "param": None, "tags": None, "extra": [1]}
    assert request_from_wire("promise.create", data) == r.PromiseCreate("p", 9)
    data = {"id": "p", "timeoutAt": 9, "param": {"headers": None, "data": None, "x": 1}}
    assert request_from_wire("promise.create", data) == r.PromiseCreate("p", 9)
    search = {"state": None, "tags": None, "limit": None, "cursor": None}
    assert request_from_wire("promise.search", search) == r.PromiseSearch()
    assert request_from_wire("schedule.search", {}) == r.ScheduleSearch({}, 10)


def test_an_unknown_kind_or_action_is_refused() -> None:
    for kind in ("", "promise.delete", "debug.snap", "x" * 10_000):
        with pytest.raises(FieldError, match="not known") as refused:
            request_from_wire(kind, {"id": "p"})
        assert len(str(refused.value)) < 200
    action = {"kind": "promise.get", "data": {"id": "c"}}
    for kind in ("task.fence", "task.fulfill"):
        with pytest.raises(FieldError, match=r"action\.kind"):
            request_from_wire(kind, {"id": "p", "version": 1, "action": action})


def test_absent_parts_of_records_are_left_out() -> None:
    assert promise_to_wire(PENDING) == {
        "id": "p",
        "state": "pending",
        "param": {"data": base64.b64encode(b"1").decode()},
        "value": {},
        "tags": {"t": "1"},
        "timeoutAt": 9,
        "createdAt": 1,
    }
    kept = r.Reply(200, task=Task("p", TaskState.PENDING, 0, ("a", "b"), retry_at_ms=5, lapses=3))
    wire = reply_to_wire(r.TaskGet("p"), "7", kept)["data"]
    assert wire == {"task": {"id": "p", "state": "pending", "version": 0, "resumes": 2}}


def test_records_of_other_servers_are_read() -> None:
    wire = {**promise_to_wire(PENDING), "settledAt": None, "tags": None, "param": None}
    assert promise_from_wire({**wire, "more": 1}) == Promise("p", PromiseState.PENDING, 9, 1)
    task = {"id": "p", "state": "pending", "version": 0, "ttl": None, "pid": None}
    for resumes, count in ((0, 0), (2, 2), ([], 0), (["a"], 1), (True, 1), (None, 0), (-1, 0)):
        assert len(task_from_wire({**task, "resumes": resumes}).resumes) == count
    assert len(task_from_wire({**task, "resumes": 10**12}).resumes) == 1_000


def test_the_owner_never_travels() -> None:
    owned = Promise("p.1", PromiseState.PENDING, 9, 1, owner="p")
    assert promise_from_wire(promise_to_wire(owned)).owner == ""
    create = r.PromiseCreate("p.1", 9, owner="p")
    assert request_from_wire("promise.create", request_to_wire(create, "1")["data"]) == (
        r.PromiseCreate("p.1", 9)
    )


@pytest.mark.parametrize("message", [r.Execute("p", 3), r.Unblock(SETTLED)])
def test_a_worker_reads_the_message_a_server_wrote(message: r.Message) -> None:
    wire = over_json(message_to_wire(message, "http://h"))
    assert message_from_wire(wire) == message
    wire["head"] = None  # S50: nothing in it is used
    assert message_from_wire(wire) == message


def test_the_shape_of_messages() -> None:
    assert message_to_wire(r.Execute("p", 3), "http://h") == {
        "kind": "execute",
        "head": {"serverUrl": "http://h"},
        "data": {"task": {"id": "p", "version": 3}},
    }
    assert message_to_wire(r.Execute("p", 3))["head"] == {}
    promise = promise_to_wire(SETTLED)
    unblock = {"kind": "unblock", "head": {}, "data": {"promise": promise}}
    assert message_to_wire(r.Unblock(SETTLED), "http://h") == unblock


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        {"kind": "execute"},
        {"kind": "execute", "data": {"task": {"id": "p"}}},
        {"kind": "execute", "data": {"task": {"id": "p", "version": True}}},
        {"kind": "unblock", "data": {"promise": {"id": "p"}}},
        {"kind": "notify", "data": {}},
    ],
)
def test_a_malformed_message_is_a_field_error(broken: Any) -> None:
    with pytest.raises(FieldError):
        message_from_wire(broken)


def test_json_text_travels_as_base64_and_other_text_as_it_is() -> None:
    assert data_to_wire('{"a":1}') == base64.b64encode(b'{"a":1}').decode()
    assert data_from_wire(data_to_wire('{"a":1}')) == '{"a":1}'
    for came in ("hello", "v1", "=", "YQ", "/w==", '{"a":1}', base64.b64encode(b"raw:x").decode()):
        assert data_from_wire(came) == RAW + came
        assert data_to_wire(RAW + came) == came
    assert data_from_wire("") == ""
    assert data_to_wire("") == ""


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text() | st.binary().map(lambda content: base64.b64encode(content).decode()))
def test_what_came_over_a_wire_goes_out_as_it_came(came: str) -> None:
    assert data_to_wire(data_from_wire(came)) == came


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text().filter(lambda text: not text.startswith(RAW)))
def test_what_was_stored_here_comes_back_as_it_was(stored: str) -> None:
    assert data_from_wire(data_to_wire(stored)) == stored


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "kind", "version", "tasks", "action", "data", "head", "tags"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(KINDS)), JSON)
def test_no_json_makes_a_reader_raise_anything_else(kind: str, value: Any) -> None:
    salvaged(value)
    auth_of(value)
    fault_of(opened, value)
    fault_of(message_from_wire, value)
    if isinstance(value, dict):
        fault_of(lambda data: request_from_wire(kind, data), value)


def fault_of(read: Callable[[Any], Any], value: Any) -> str | None:
    """What the reader says against the value; any other error is the test's."""
    try:
        read(value)
    except FieldError as error:
        return short(str(error))
    return None


def short(text: str) -> str:
    assert len(text) < 400
    return text
