"""The legacy server's JSON and ours, both ways (legacy-protocol §1.1, §2.3, §4.2, §5)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from resonate_aio.protocol.failures import failure_value, outcome_error
from resonate_aio.protocol.fields import FieldError
from resonate_aio.protocol.records import EMPTY, Promise, PromiseState, Value
from resonate_aio.protocol.requests import PromiseCreate, ScheduleCreate
from resonate_aio.protocol.values import decode, encode
from resonate_aio.stores.legacy import codec

SEEN = {
    "id": "r_1",
    "state": "PENDING",
    "param": {"data": "eyJmIjoxfQ=="},
    "value": {},
    "timeout": 1795267505000,
    "tags": {"resonate:invoke": "poll://any@g/p", "resonate:root": "r_1"},
    "createdOn": 1795266905939,
}
"""As a real server wrote it."""


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def read(state: str, data: Any, headers: dict[str, str] | None = None) -> Promise:
    value: dict[str, Any] = {"data": b64(data)}
    if headers is not None:
        value["headers"] = headers
    return codec.promise_from_rest({**SEEN, "state": state, "value": value, "completedOn": 9})


# -- promises


def test_a_promise_as_the_server_writes_it() -> None:
    assert codec.promise_from_rest(SEEN) == Promise(
        "r_1",
        PromiseState.PENDING,
        1795267505000,
        1795266905939,
        Value(None, '{"f":1}'),
        EMPTY,
        {"resonate:target": "poll://any@g/p", "resonate:root": "r_1"},
    )


@pytest.mark.parametrize("state", list(PromiseState))
def test_every_state_is_read(state: PromiseState) -> None:
    assert codec.promise_from_rest({**SEEN, "state": state.value.upper()}).state is state


@pytest.mark.parametrize("part", ["id", "state", "timeout"])
def test_a_promise_without_a_part_it_must_have_is_a_fault(part: str) -> None:
    with pytest.raises(FieldError, match=part):
        codec.promise_from_rest({name: value for name, value in SEEN.items() if name != part})


def test_an_unknown_state_is_a_fault() -> None:
    with pytest.raises(FieldError, match="SOON"):
        codec.promise_from_rest({**SEEN, "state": "SOON"})


def test_a_timer_is_renamed_both_ways() -> None:
    tags = {"resonate:timer": "true", "mine": "x"}
    assert codec.tags_to_rest(tags, id="a") == {"resonate:timeout": "true", "mine": "x"}
    back = codec.promise_from_rest({**SEEN, "tags": {"resonate:timeout": "true", "mine": "x"}})
    assert back.tags == tags


def test_the_tags_of_a_root_are_those_of_sdk_067() -> None:
    created = PromiseCreate(
        "hello",
        5,
        Value(None, '{"func":"f"}'),
        {"resonate:scope": "global", "resonate:target": "poll://any@default"},
    )
    assert codec.create_to_rest(created) == {
        "id": "hello",
        "timeout": 5,
        "param": {"data": b64('{"func":"f","version":0}')},
        "tags": {
            "resonate:scope": "global",
            "resonate:invoke": "poll://any@default",
            "resonate:root": "hello",
            "resonate:parent": "hello",
        },
    }


def test_an_invocation_names_a_version_as_sdk_067_demands() -> None:
    """Mission R6, §5.1: none asks for the newest, which SDK 0.6.7 calls 0."""
    called = {"resonate:target": "poll://any@default"}

    def sent(data: str, tags: dict[str, str]) -> object:
        body = codec.create_to_rest(PromiseCreate("a", 5, Value(None, data), tags))
        return body["param"]["data"]

    assert sent('{"func":"f","args":[]}', called) == b64('{"func":"f","args":[],"version":0}')
    assert sent('{"func":"f"} ', called) == b64('{"func":"f","version":0}')
    for untouched in ('{"func":"f","version":2}', '{"version":"x","func":"f"}', '{"a":1}', "{", ""):
        assert sent(untouched, called) == b64(untouched)
    assert sent('{"func":"f"}', {}) == b64('{"func":"f"}'), "a promise that is no invocation"
    schedule = ScheduleCreate("s", "* * * * *", "{{.timestamp}}", 5, Value(None, '{"func":"f"}'))
    param = codec.schedule_to_rest(schedule)["promiseParam"]
    assert param == {"data": b64('{"func":"f","version":0}')}


def test_the_tags_of_a_local_call_are_those_of_sdk_067() -> None:
    body = codec.create_to_rest(PromiseCreate("p.1.2", 5), root="p")
    assert body == {
        "id": "p.1.2",
        "timeout": 5,
        "tags": {"resonate:scope": "local", "resonate:root": "p", "resonate:parent": "p.1"},
    }


def test_the_tags_of_an_rpc_name_its_caller_as_root_and_parent() -> None:
    tags = {"resonate:scope": "global", "resonate:target": "poll://any@b"}
    body = codec.create_to_rest(PromiseCreate("p.3", 5, EMPTY, tags), root="p")
    assert body["tags"] == {
        "resonate:scope": "global",
        "resonate:invoke": "poll://any@b",
        "resonate:root": "p",
        "resonate:parent": "p",
    }


@pytest.mark.parametrize(
    ("id", "parent"),
    [
        ("p.1", "p"),
        ("p.1.2", "p.1"),
        ("p.2-helper-1.1", "p"),
        ("p.4.2-helper-1.0-inner-2.3", "p.4"),
        ("chosen", "p"),
        ("pp.1", "p"),
    ],
)
def test_the_parent_of_an_id(id: str, parent: str) -> None:
    assert codec.parent_of(id, "p") == parent


def test_a_promise_without_target_and_execution_has_only_its_own_tags() -> None:
    assert codec.create_to_rest(PromiseCreate("a", 5, EMPTY, {"x": "1"}))["tags"] == {"x": "1"}
    assert "tags" not in codec.create_to_rest(PromiseCreate("a", 5))


# -- values and errors (§5)


def test_a_value_goes_out_as_base64_and_comes_back() -> None:
    body = codec.settle_to_rest(PromiseState.RESOLVED, Value({"h": "1"}, '"käse"'))
    assert body == {"state": "RESOLVED", "value": {"headers": {"h": "1"}, "data": b64('"käse"')}}
    assert read("RESOLVED", '"käse"', {"h": "1"}).value == Value({"h": "1"}, '"käse"')


def test_hazard_15_a_pickled_header_stays_text_and_only_json_data_is_read() -> None:
    evil = '{"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["exit 1"]}]}'
    promise = read("RESOLVED", "42", {"resonate:format-py": evil})
    assert promise.value.headers == {"resonate:format-py": evil}
    assert decode(promise.value.data) == 42


def test_an_error_of_sdk_067_is_read_with_its_text() -> None:
    error = outcome_error(read("REJECTED", '{"__error__": "boom"}'))
    assert str(error) == "Exception: boom"


def test_an_error_of_ours_has_its_text_where_sdk_067_looks() -> None:
    value = failure_value(ValueError("boom"))
    body = codec.settle_to_rest(PromiseState.REJECTED, value)
    data = base64.b64decode(body["value"]["data"]).decode()
    assert json.loads(data)["__error__"] == "boom"
    error = outcome_error(read("REJECTED", data))
    assert type(error) is ValueError
    assert error.args == ("boom",)


def test_an_error_without_text_is_named() -> None:
    body = codec.settle_to_rest(PromiseState.REJECTED, failure_value(KeyError()))
    data = base64.b64decode(body["value"]["data"])
    assert json.loads(data)["__error__"] == "KeyError"


@pytest.mark.parametrize("data", ['"a {__error__} in text"', "[1]", "{", "null", '{"a": 1}'])
def test_other_rejected_values_stay_as_they_are(data: str) -> None:
    assert read("REJECTED", data).value.data == data
    sent = codec.settle_to_rest(PromiseState.REJECTED, Value(None, data))
    assert base64.b64decode(sent["value"]["data"]).decode() == data


def test_a_resolved_value_is_never_touched() -> None:
    assert read("RESOLVED", '{"__error__": "no"}').value.data == '{"__error__": "no"}'


def test_bytes_of_others_that_are_no_text_hurt_nobody() -> None:
    value = {"data": base64.b64encode(b"\xff\xfe").decode()}
    promise = codec.promise_from_rest({**SEEN, "value": value})
    assert promise.value.data is not None
    sent = codec.settle_to_rest(PromiseState.RESOLVED, promise.value)
    assert sent["value"] == value


def test_an_empty_value_is_no_value() -> None:
    assert codec.promise_from_rest({**SEEN, "value": {"headers": {}}}).value.data is None


# -- hazard 16: ids in paths


@pytest.mark.parametrize(
    ("id", "path"),
    [
        ("order.1", "/promises/order.1"),
        ("a/b", "/promises/a%2Fb"),
        ("a b?c#d%e&f", "/promises/a%20b%3Fc%23d%25e%26f"),
        ("käse", "/promises/k%C3%A4se"),
        ("..", "/promises/%2E%2E"),
        (".", "/promises/%2E"),
        ("/x/", "/promises/%2Fx%2F"),
    ],
)
def test_hazard_16_ids_are_percent_encoded(id: str, path: str) -> None:
    assert codec.path_of("promises", id) == path


@pytest.mark.parametrize(
    ("value", "safe"),
    [("__invoke:a", True), ("käse", True), ("a\nb", False), ("a ", False), ("a\x00", False)],
)
def test_what_a_header_would_alter_is_not_put_into_one(value: str, safe: bool) -> None:
    assert codec.is_header_safe(value) is safe


# -- hazard 14: what stops a server


@pytest.mark.parametrize(
    "target",
    ['{"type":"poll","data":{"group":"g"}}', "123", "null", '"poll://any@g"', "[1]", " true "],
)
def test_hazard_14_a_target_that_is_json_is_refused(target: str) -> None:
    assert "scheme://rest" in (codec.unspeakable({"resonate:target": target}) or "")
    assert codec.unspeakable({"resonate:invoke": target}) is not None


@pytest.mark.parametrize("target", ["default", "poll://any@g/p", "http://h/x", "{no json}"])
def test_other_targets_are_taken(target: str) -> None:
    assert codec.unspeakable({"resonate:target": target}) is None
    assert codec.unspeakable({}) is None


def schedule(promise_id: str) -> ScheduleCreate:
    tags = {"resonate:target": "poll://any@g"}
    return ScheduleCreate("s", "* * * * *", promise_id, 1000, Value(None, encode(1)), tags)


@pytest.mark.parametrize(
    "template", ["s.{{.timestamp", "{{.timestamp}}.{{.nope}}", "{{ .timestamp }}", "x}}", "s.{{"]
)
def test_hazard_14_a_template_the_server_cannot_read_is_refused(template: str) -> None:
    assert "{{.timestamp}}" in (codec.schedule_fault(schedule(template)) or "")


def test_a_schedule_without_the_time_in_its_ids_is_refused() -> None:
    assert "stops at an id" in (codec.schedule_fault(schedule("nightly")) or "")


def test_a_schedule_both_ways() -> None:
    request = schedule("{{.id}}/{{.timestamp}}")
    assert codec.schedule_fault(request) is None
    body = codec.schedule_to_rest(request)
    assert body["promiseTags"] == {"resonate:invoke": "poll://any@g"} == body["tags"]
    stored = codec.schedule_from_rest({**body, "createdOn": 1, "nextRunTime": 2})
    assert stored.promise_tags == request.promise_tags
    assert stored.promise_param == request.promise_param
    assert (stored.id, stored.cron, stored.promise_id) == ("s", "* * * * *", request.promise_id)
    assert (stored.created_at_ms, stored.next_run_at_ms, stored.last_run_at_ms) == (1, 2, None)


# -- tasks and messages (§4.2)

TASK = {"id": "__resume:r:r.1", "counter": 3, "timeout": 9, "rootPromiseId": "r"}


@pytest.mark.parametrize("kind", ["invoke", "resume"])
def test_a_task_message_names_its_root(kind: str) -> None:
    message = codec.message_from_rest({"type": kind, "task": TASK, "href": {}, "head": {}})
    assert message == codec.TaskNotice("__resume:r:r.1", 3, "r")


def test_an_invoke_task_without_root_is_named_after_it() -> None:
    notice = codec.notice_from_rest({"id": "__invoke:a/b", "counter": 1})
    assert notice == codec.TaskNotice("__invoke:a/b", 1, "a/b")


def test_a_notify_message_shows_its_promise() -> None:
    message = codec.message_from_rest({"type": "notify", "promise": SEEN})
    assert message == codec.promise_from_rest(SEEN)


def test_unknown_messages_are_ignored() -> None:
    assert codec.message_from_rest({"type": "weather"}) is None
    assert codec.message_from_rest({}) is None


@pytest.mark.parametrize("message", [[], {"type": "invoke"}, {"type": "notify", "promise": 1}])
def test_a_broken_message_is_a_fault(message: Any) -> None:
    with pytest.raises(FieldError):
        codec.message_from_rest(message)


def test_what_a_claim_shows() -> None:
    root = {"id": "r_1", "href": "http://elsewhere", "data": SEEN}
    reply = {"type": "resume", "promises": {"root": root, "leaf": root}}
    assert codec.claimed_from_rest(reply).root.id == "r_1"
    with pytest.raises(FieldError):
        codec.claimed_from_rest({"type": "invoke", "promises": {"root": {"data": None}}})


def test_what_a_callback_answers() -> None:
    new, promise = codec.callback_from_rest({"callback": {"id": "x"}, "promise": SEEN})
    assert new
    assert promise.id == "r_1"
    assert codec.callback_from_rest({"callback": None, "promise": SEEN})[0] is False


# -- hazard 8: refusals


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"code": 40306, "message": "The task is already claimed"}}, "already claimed"),
        ({"error": "no"}, "no reason"),
        ("404 page not found\n", "404 page not found"),
        (None, "no reason"),
        ([1], "no reason"),
    ],
)
def test_hazard_8_a_refusal_is_told_by_its_text_never_by_its_number(body: Any, text: str) -> None:
    told = codec.refusal_text(body)
    assert text in told
    assert "40306" not in told
