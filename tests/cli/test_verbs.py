"""`resonate-aio promises | tasks | schedules | invoke`, against a running server."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import Any

import pytest
from click.testing import Result
from tests.cli.conftest import Command
from tests.cli.processes import Served, run, served

from resonate_aio import Resonate
from resonate_aio.errors import ApplicationError, ResonateStoreError
from resonate_aio.protocol import requests as r
from resonate_aio.protocol.dialects import PARKED
from resonate_aio.protocol.failures import outcome_error
from resonate_aio.protocol.records import PromiseState, Value
from resonate_aio.protocol.wire_records import promise_from_wire

FAR_MS = 4_102_444_800_000
TOKEN = "a-secret-of-enough-characters"


def shown(result: Result) -> Any:
    """The JSON document that a command printed."""
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def stored(server: Served, id: str) -> Any:
    status, data = server.ask(r.PromiseGet(id))
    assert status == 200
    return promise_from_wire(data["promise"])


# -- promises


def test_a_promise_is_created_shown_and_resolved(server: Served, command: Command) -> None:
    made = command("promises", "create", "p1", "--value", '{"a": 1}', "--tag", "k=v=w")
    assert made.exit_code == 0
    promise = stored(server, "p1")
    assert promise.param == Value(data='{"a":1}')
    tags = {"k": "v=w", "resonate:external": "true", "resonate:scope": "global"}
    assert promise.tags == tags
    assert 86_300_000 < promise.timeout_at_ms - promise.created_at_ms <= 86_400_000
    lines = command("promises", "get", "p1").stdout.splitlines()
    assert lines[0] == "p1"
    assert lines[1].split() == ["state", "pending"]
    assert re.fullmatch(r"  created   \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", lines[2])
    assert "  settled   -" in lines
    assert '  param     {"a":1}' in lines
    assert "  tags      k=v=w" in lines
    resolved = shown(command("promises", "resolve", "p1", "--value", "yes", "--json"))
    assert (resolved["state"], resolved["value"]) == ("resolved", {"data": "yes"})
    assert stored(server, "p1").value == Value(data='"yes"'), "what a waiting program gets"


@pytest.mark.parametrize(
    ("typed", "data"),
    [
        ("yes", '"yes"'),
        ('"yes"', '"yes"'),
        ("42", "42"),
        ("null", "null"),
        ("[1, 2]", "[1,2]"),
        ("{not json", '"{not json"'),
        ("", '""'),
        ("é\n", '"é\\n"'),
    ],
)
def test_values_are_json_or_else_text(
    server: Served, command: Command, typed: str, data: str
) -> None:
    id = f"value-{data}"
    assert command("promises", "create", id).exit_code == 0
    assert command("promises", "resolve", id, "--value", typed).exit_code == 0
    assert stored(server, id).value == Value(data=data)


@pytest.mark.parametrize("typed", ['{"a":', "[1, 2", '"yes', " {a: 1}"])
def test_what_begins_as_json_and_is_none_is_said(
    server: Served, command: Command, typed: str
) -> None:
    id = f"broken-{typed}"
    assert command("promises", "create", id).stderr == ""
    made = command("promises", "resolve", id, "--value", typed)
    assert (made.exit_code, made.stderr) == (0, f"Note: {typed} is no JSON: it is taken as text.\n")
    assert stored(server, id).value == Value(data=json.dumps(typed))
    command("promises", "create", "plain")
    assert command("promises", "resolve", "plain", "--value", "just text").stderr == ""


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ("resolve", "Note: {id} is an execution of charge: a worker that runs it goes on, and "),
        ("reject", "Note: {id} is an execution of charge: a worker that runs it goes on, and "),
        ("cancel", ""),
    ],
)
def test_settling_an_execution_by_hand_says_what_it_is(
    command: Command, verb: str, told: str
) -> None:
    command("invoke", f"hand-{verb}", "--func", "charge")
    done = command("promises", verb, f"hand-{verb}", "--value", "1")
    assert done.exit_code == 0
    assert done.stderr.startswith(told.format(id=f"hand-{verb}"))
    assert done.stderr.count("\n") == bool(told)


def test_a_promise_is_rejected_with_an_error_and_cancelled(
    server: Served, command: Command
) -> None:
    for id, verb, more in (
        ("r1", "reject", ["--value", "too late", "--header", "who=me"]),
        ("r2", "reject", ["--value", '{"code": 7}']),
        ("r3", "cancel", []),
    ):
        command("promises", "create", id)
        assert command("promises", verb, id, *more).exit_code == 0
    error = outcome_error(stored(server, "r1"))
    assert isinstance(error, ApplicationError)
    assert error.message == "too late"
    assert stored(server, "r1").value.headers == {"who": "me"}
    assert stored(server, "r2").value == Value(data='{"code":7}')
    assert stored(server, "r3").state is PromiseState.CANCELED


def test_settling_what_is_settled_fails_and_shows_it(command: Command) -> None:
    command("promises", "create", "s1")
    assert command("promises", "resolve", "s1", "--value", "first").exit_code == 0
    for verb, value in (("resolve", "second"), ("reject", "first"), ("cancel", "first")):
        late = command("promises", verb, "s1", "--value", value)
        assert late.exit_code == 1
        assert "s1 was resolved already, at " in late.stderr
        assert 'value     "first"' in late.stdout
    again = command("promises", "resolve", "s1", "--value", "first")
    assert again.exit_code == 0, "the same again is no failure: a script may be run twice"


def test_creating_what_exists_says_so_and_changes_nothing(server: Served, command: Command) -> None:
    command("promises", "create", "e1", "--value", "1", "--timeout", "1h")
    again = command("promises", "create", "e1", "--value", "2")
    assert again.exit_code == 0
    assert again.stderr == "Note: e1 exists already and stays as it is.\n"
    assert stored(server, "e1").param == Value(data="1")


def test_promises_are_found_page_by_page(command: Command) -> None:
    for n in range(5):
        command("promises", "create", f"find{n}", "--tag", "find=me")
    command("promises", "resolve", "find3")
    found = shown(command("promises", "search", "--tag", "find=me", "--json"))
    assert [promise["id"] for promise in found["promises"]] == [f"find{n}" for n in range(5)]
    assert found["cursor"] is None
    resolved = command("promises", "search", "--tag", "find=me", "--state", "resolved")
    head, line = resolved.stdout.splitlines()
    assert head.split() == ["ID", "STATE", "CREATED", "SETTLED", "DEADLINE"]
    assert line.split()[:2] == ["find3", "resolved"]
    page = command("promises", "search", "--tag", "find=me", "--limit", "2")
    assert page.stdout.count("\n") == 3
    assert page.stderr == "There are more: --cursor find1\n"
    more = command("promises", "search", "--tag", "find=me", "--cursor", "find1", "--json")
    assert [promise["id"] for promise in shown(more)["promises"]] == ["find2", "find3", "find4"]


def test_what_does_not_exist_is_one_line() -> None:
    """As a process: what a script sees."""
    with served("dev", RESONATE_TOKEN=TOKEN) as server:
        env = {"RESONATE_URL": server.url, "RESONATE_TOKEN": TOKEN}
        absent = run("promises", "get", "absent", **env)
        assert (absent.returncode, absent.stdout) == (1, "")
        assert absent.stderr == "Error: promise 'absent' does not exist (404)\n"
        refused = run("promises", "get", "absent", **{**env, "RESONATE_TOKEN": "wrong" * 4})
        assert refused.returncode == 1
        assert "401" in refused.stderr
        assert "wrongwrong" not in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_what_others_wrote_cannot_speak_to_the_terminal(server: Served, command: Command) -> None:
    evil = "evil\x1b[2J\nroot: fake\u202e\x9b"
    create = r.PromiseCreate(evil, FAR_MS, Value(data='"\x1b[1m"'), {"evil": evil, evil: "x"})
    assert server.ask(create)[0] == 200
    for arguments in (
        ["promises", "get", evil],
        ["promises", "search", "--tag", f"evil={evil}"],
        ["tree", evil],
        ["promises", "resolve", evil],
        ["promises", "cancel", evil],
    ):
        told = command(*arguments).output
        assert not set(told) & set("\x1b\u202e\x9b\r"), arguments
        assert "\nroot: fake" not in told
        assert "evil\\x1b[2J\\nroot: fake\\u202e\\x9b" in told
    as_json = shown(command("promises", "get", evil, "--json"))
    assert as_json["id"] == evil


@pytest.mark.parametrize("verb", ["resolve", "reject"])
def test_a_promise_that_is_only_swept_is_no_execution(
    server: Served, command: Command, verb: str
) -> None:
    """S63: as clients of strict servers make those of `ctx.promise`; nobody runs them."""
    tags = {"resonate:external": "true", "resonate:target": PARKED}
    assert server.ask(r.PromiseCreate(f"swept-{verb}", FAR_MS, tags=tags))[0] == 200
    done = command("promises", verb, f"swept-{verb}", "--value", "1")
    assert (done.exit_code, done.stderr) == (0, "")


def test_a_long_id_moves_its_own_line_only(server: Served, command: Command) -> None:
    for id in ("long" + "g" * 3_000, "short"):
        assert server.ask(r.PromiseCreate(id, FAR_MS, tags={"long": "yes"}))[0] == 200
    lines = command("promises", "search", "--tag", "long=yes").stdout.splitlines()
    assert [len(line) < 200 for line in lines] == [True, False, True]
    assert lines[1].startswith("long" + "g" * 3_000 + "  pending  ")
    assert lines[0].index("STATE") == lines[2].index("pending")


# -- tasks and invoke


def test_an_invocation_is_what_workers_of_every_client_read(
    server: Served, command: Command
) -> None:
    made = command(
        *("invoke", "i1", "--func", "greet", "--arg", "7", "--arg", "you", "--kwarg", "n=[1]"),
        *("--version", "3", "--target", "workers", "--timeout", "1h30m", "--tag", "k=v"),
    )
    assert made.exit_code == 0
    promise = stored(server, "i1")
    assert json.loads(promise.param.data) == {
        "func": "greet",
        "args": [7, "you"],
        "kwargs": {"n": [1]},
        "version": 3,
    }
    assert promise.tags == {
        "resonate:target": "poll://any@workers",
        "resonate:scope": "global",
        "k": "v",
    }, "which dialect its ids have is for the worker to say (S61)"
    assert 5_300_000 < promise.timeout_at_ms - promise.created_at_ms <= 5_400_000
    found = shown(command("tasks", "search", "--state", "pending", "--json"))
    mine = [task for task in found["tasks"] if task["id"] == "i1"]
    assert mine == [
        {"id": "i1", "state": "pending", "version": 0, "resumes": 0, "ttl": None, "pid": None}
    ]
    for line in (["other"], ["greet", "--arg", "7"]):
        again = command("invoke", "i1", "--func", *line)
        assert again.stderr == "Note: i1 exists already, with another function or arguments.\n"


def test_no_version_is_the_newest(server: Served, command: Command) -> None:
    """R6: as a call by name of the library writes it; the newest is whichever its worker has."""
    assert command("invoke", "v1", "--func", "f", "--arg", "1").stderr == ""
    assert stored(server, "v1").param.data == '{"func":"f","args":[1],"kwargs":{}}'
    assert command("invoke", "v1", "--func", "f", "--arg", "1").stderr == ""
    asked = command("invoke", "v1", "--func", "f", "--arg", "1", "--version", "2")
    assert "exists already" in asked.stderr
    assert command("invoke", "v2", "--func", "f", "--version", "2").exit_code == 0
    assert json.loads(stored(server, "v2").param.data)["version"] == 2
    assert command("invoke", "v2", "--func", "f").stderr == "", "it may have been the newest"


async def test_the_newest_version_runs(server: Served, command: Command) -> None:
    async with Resonate(url=server.url, group="versions") as worker:
        for version in (2, 3):
            worker.register(lambda ctx, n=version: n, name="which", version=version)
        line = ["invoke", "newest", "--func", "which", "--target", "versions", "--follow", "--json"]
        done = await asyncio.to_thread(command, *line)
    assert shown(done)["value"] == {"data": 3}


def test_arguments_as_a_list(server: Served, command: Command) -> None:
    assert command("invoke", "i2", "-f", "f", "--json-args", '[1, {"a": null}]').exit_code == 0
    assert json.loads(stored(server, "i2").param.data)["args"] == [1, {"a": None}]
    delayed = command("invoke", "i3", "-f", "f", "--delay", "10m")
    assert delayed.exit_code == 0
    promise = stored(server, "i3")
    delay_ms = int(promise.tags["resonate:delay"]) - promise.created_at_ms
    assert 590_000 < delay_ms <= 600_000


def test_following_an_execution_to_its_end(server: Served, command: Command) -> None:
    def worker(id: str, state: PromiseState) -> None:
        while server.ask(r.TaskAcquire(id, 0, "w", 60_000))[0] != 200:
            pass
        settle = r.PromiseSettle(id, state, Value(data='"end"'))
        server.ask(r.TaskFulfill(id, 1, settle))

    for id, state, code in (
        ("f1", PromiseState.RESOLVED, 0),
        ("f2", PromiseState.REJECTED, 1),
    ):
        thread = threading.Thread(target=worker, args=(id, state))
        thread.start()
        done = command("invoke", id, "-f", "f", "--follow", "--json")
        thread.join(10)
        assert done.exit_code == code
        assert json.loads(done.stdout)["value"] == {"data": "end"}
    overdue = command("invoke", "f3", "-f", "nobody", "--follow", "--timeout", "50ms")
    assert overdue.exit_code == 1
    assert "rejected_timedout" in overdue.stdout


def test_tasks_are_listed_with_their_holders(server: Served, command: Command) -> None:
    create = r.PromiseCreate("held", FAR_MS, tags={"resonate:target": "poll://any@g"})
    server.ask(r.TaskCreate("the-holder", 90_000, create))
    told = command("tasks", "search", "--state", "acquired").stdout.splitlines()
    assert told[0].split() == ["ID", "STATE", "VERSION", "HOLDER", "LEASE"]
    assert ["held", "acquired", "1", "the-holder", "1.5m"] in [line.split() for line in told]


# -- schedules


def test_a_schedule_is_created_found_and_deleted(server: Served, command: Command) -> None:
    made = command(
        *("schedules", "create", "sc1", "--cron", "*/5 * * * *", "--func", "tick", "--arg", "1"),
        *("--target", "workers", "--timeout", "1h", "--tag", "k=v"),
    )
    assert made.exit_code == 0
    schedule = server.ask(r.ScheduleGet("sc1"))[1]["schedule"]
    assert schedule["cron"] == "*/5 * * * *"
    assert schedule["promiseId"] == "{{.id}}-{{.timestamp}}"
    assert schedule["promiseTimeout"] == 3_600_000
    assert schedule["promiseTags"] == {
        "resonate:target": "poll://any@workers",
        "resonate:scope": "global",
        "k": "v",
    }
    got = shown(command("schedules", "get", "sc1", "--json"))
    func = {"func": "tick", "args": [1], "kwargs": {}}
    assert got["promiseParam"] == {"data": func}
    assert "  next run  20" in command("schedules", "get", "sc1").stdout
    line = command("schedules", "search", "--tag", "k=v").stdout.splitlines()[1]
    assert line.split()[:6] == ["sc1", "*/5", "*", "*", "*", "*"]
    again = command("schedules", "create", "sc1", "--cron", "0 0 * * *", "--func", "tick")
    assert again.stderr.startswith("Note: sc1 exists already")
    kept = command("schedules", "delete", "sc1", stdin="n\n")
    assert kept.exit_code == 1
    assert command("schedules", "get", "sc1").exit_code == 0
    assert command("schedules", "delete", "sc1", stdin="y\n").exit_code == 0
    absent = command("schedules", "delete", "sc1", "--yes")
    assert absent.exit_code == 1
    assert isinstance(absent.exception, ResonateStoreError)


def test_a_schedule_of_plain_promises(server: Served, command: Command) -> None:
    assert (
        command(
            *("schedules", "create", "sc2", "--cron", "0 0 1 1 *", "--value", '{"n": 1}'),
            *("--promise-id", "new-year-{{.timestamp}}", "--json"),
        ).exit_code
        == 0
    )
    schedule = server.ask(r.ScheduleGet("sc2"))[1]["schedule"]
    assert schedule["promiseTags"] == {"resonate:external": "true", "resonate:scope": "global"}
    assert shown(command("schedules", "delete", "sc2", "--yes", "--json")) == {
        "id": "sc2",
        "deleted": True,
    }


def test_a_cron_expression_that_is_none_is_refused_by_the_server(command: Command) -> None:
    refused = command("schedules", "create", "sc3", "--cron", "never", "--func", "f")
    assert refused.exit_code == 1
    assert isinstance(refused.exception, ResonateStoreError)
    assert refused.exception.code == 400
