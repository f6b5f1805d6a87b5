"""Every request kind over HTTP answers as the machine does (current-protocol §2, §5)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from tests.machine.programs import Program, programs
from tests.server.wire import EXTERNAL, FAR_MS, TARGET, FixedClock, Wire, serving, unexpected

from resonate_aio.machine import PromiseMachine
from resonate_aio.protocol import requests as r
from resonate_aio.protocol.envelope import KINDS, VERSION, kind_of
from resonate_aio.protocol.records import PromiseState, TaskState, Value
from resonate_aio.server import DebugStore, Server
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

RESOLVED = PromiseState.RESOLVED
WAIT = r.PromiseRegisterCallback("e", "t")
SCRIPT: list[tuple[r.Request, int]] = [
    (r.PromiseGet("e"), 404),
    (r.PromiseCreate("e", FAR_MS, Value({"h": "1"}, "[1]"), EXTERNAL), 200),
    (r.PromiseCreate("e", 5), 200),
    (r.PromiseGet("e"), 200),
    (r.PromiseCreate("plain", FAR_MS), 200),
    (r.PromiseRegisterListener("plain", "poll://uni@g/p"), 422),
    (r.PromiseRegisterListener("e", "poll://uni@g/p"), 200),
    (r.PromiseRegisterListener("e", "nowhere"), 400),
    (r.TaskCreate("p", 60_000, r.PromiseCreate("t", FAR_MS, tags=TARGET)), 200),
    (r.TaskCreate("p", 60_000, r.PromiseCreate("t", FAR_MS, tags=TARGET)), 409),
    (r.TaskCreate("p", 60_000, r.PromiseCreate("e", FAR_MS, tags=TARGET)), 422),
    (r.TaskGet("t"), 200),
    (r.TaskGet("e"), 404),
    (r.PromiseRegisterCallback("e", "t"), 200),
    (r.PromiseRegisterCallback("e", "e"), 400),
    (r.PromiseRegisterCallback("absent", "t"), 404),
    (r.TaskFence("t", 1, r.PromiseCreate("t.1", FAR_MS)), 200),
    (r.TaskFence("t", 1, r.PromiseSettle("t.1", RESOLVED, Value(data="2"))), 200),
    (r.TaskFence("t", 1, r.PromiseSettle("absent", RESOLVED)), 200),
    (r.TaskFence("t", 7, r.PromiseCreate("t.2", FAR_MS)), 409),
    (r.TaskFence("absent", 7, r.PromiseCreate("t.2", FAR_MS)), 404),
    (r.TaskFence("t", 1, r.PromiseSettle("t", RESOLVED)), 400),
    (r.TaskHeartbeat("p", (r.TaskRef("t", 1), r.TaskRef("other", 3))), 200),
    (r.TaskHeartbeat("p", ()), 200),
    (r.TaskSuspend("t", 1, ()), 400),
    (r.TaskSuspend("t", 1, (WAIT,)), 200),
    (r.TaskAcquire("t", 1, "p", 60_000), 409),
    (r.PromiseSettle("e", RESOLVED, Value(data='"x"')), 200),
    (r.PromiseSettle("e", PromiseState.CANCELED), 200),
    (r.PromiseSettle("e", PromiseState.TIMEDOUT), 400),
    (r.PromiseSettle("absent", RESOLVED), 404),
    (r.TaskAcquire("t", 1, "q", 60_000), 200),
    (r.TaskSuspend("t", 2, (WAIT,)), 300),
    (r.TaskRelease("t", 2), 200),
    (r.TaskRelease("t", 2), 409),
    (r.TaskHalt("t"), 200),
    (r.TaskContinue("t"), 200),
    (r.TaskContinue("t"), 409),
    (r.TaskAcquire("t", 2, "q", 60_000), 200),
    (r.TaskFulfill("t", 3, r.PromiseSettle("t", RESOLVED, Value(data="3"))), 200),
    (r.TaskFulfill("t", 3, r.PromiseSettle("t", RESOLVED)), 409),
    (r.TaskHalt("t"), 409),
    (r.TaskHalt("absent"), 404),
    (r.PromiseSearch(), 200),
    (r.PromiseSearch(RESOLVED, {}, 1), 200),
    (r.PromiseSearch(RESOLVED, {}, 1, "e"), 200),
    (r.PromiseSearch(limit=0), 400),
    (r.TaskSearch(TaskState.FULFILLED), 200),
    (r.TaskSearch(limit=1001), 400),
    (r.ScheduleCreate("s", "* * * * *", "{{.id}}.{{.timestamp}}", 5, Value(data="1"), TARGET), 200),
    (r.ScheduleCreate("s2", "no cron", "x", 5), 400),
    (r.ScheduleGet("s"), 200),
    (r.ScheduleGet("s2"), 404),
    (r.ScheduleSearch(TARGET), 200),
    (r.ScheduleDelete("s"), 200),
    (r.ScheduleDelete("s"), 404),
]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_each_kind_answers_as_the_machine_does(kind: str, tmp_path: Path) -> None:
    assert {kind_of(request) for request, _ in SCRIPT} == set(KINDS)
    clock, machine = FixedClock(), PromiseMachine()
    path = tmp_path / "app.db"
    store: Any = MemoryStore(clock=clock) if kind == "memory" else SqliteStore(path, clock=clock)
    async with serving(store) as (_, wire):
        for request, status in SCRIPT:
            clock.ms += 1
            reply = machine.handle(request, clock.ms)
            answer = await wire.ask(request)
            assert answer.status == reply.status == status, request
            assert not unexpected(request, reply, answer)


async def test_random_programs_over_http() -> None:
    """The debug surface lets a machine and a server live through the same instants."""
    seen: set[tuple[str, int]] = set()

    async def follow(program: Program) -> None:
        await wire.send("debug.reset", {})
        machine = PromiseMachine()
        for request, now_ms in program:
            if request is None:
                machine.sweep(now_ms)
                assert (await wire.send("debug.tick", {"time": now_ms})).data == []
                continue
            reply = machine.handle(request, now_ms)
            answer = await wire.ask(request, **{"resonate:debug_time": now_ms})
            assert answer.json["head"]["resonate:debug_time"] == now_ms
            assert not unexpected(request, reply, answer)
            seen.add((kind_of(request), answer.status))
        shown = (await wire.send("debug.snap", {})).data
        assert [promise["id"] for promise in shown["promises"]] == sorted(machine.promises)
        assert {task["id"]: task["version"] for task in shown["tasks"]} == {
            task.id: task.version for task in machine.tasks.values()
        }
        waits = sum(map(len, machine.callbacks.values()))
        assert len(shown["callbacks"]) == waits

    async with serving(DebugStore()) as (server, wire):
        drawn: list[Program] = []

        @settings(max_examples=120, deadline=None, derandomize=True, database=None)
        @given(programs())
        def draw(program: Program) -> None:
            drawn.append(program)

        await asyncio.to_thread(draw)
        assert len(drawn) >= 120
        for program in drawn:
            await follow(program)
        assert server.metrics.requests.value("promise.create", "200") > 100
    assert len(seen) > 35, sorted(seen)
    assert {kind for kind, _ in seen} == set(KINDS)


async def test_the_protocols_own_answers_to_malformed_envelopes() -> None:
    head = {"corrId": "c", "version": VERSION}
    cases: list[tuple[bytes, str, str]] = [
        (b"", "unknown", "0"),
        (b"{", "unknown", "0"),
        (b"[]", "unknown", "0"),
        (b'"x"', "unknown", "0"),
        (b"\xff", "unknown", "0"),
        (b'{"kind":"promise.get","head":{"corrId":"c"},"data":{}}', "promise.get", "c"),
        (b'{"kind":"promise.get","head":[],"data":{"id":"p"}}', "promise.get", "0"),
    ]
    async with serving() as (_, wire):
        for body, kind, corr_id in cases:
            answer = await wire.post(body)
            assert answer.status == 400, body
            assert answer.json["kind"] == kind
            assert answer.json["head"] == {"corrId": corr_id, "status": 400, "version": VERSION}
            assert isinstance(answer.data, str)
        other = await wire.send("promise.get", {"id": "p"}, version="2020-01-01")
        assert (other.status, other.json["head"]["corrId"]) == (400, "1")
        malformed: list[Any] = [[], "x", None, {}, {"id": 1}, {"id": ""}, {"id": "a\0b"}]
        for data in malformed:
            assert (await wire.send("promise.get", data)).status == 400
        unknown = await wire.send("promise.delete", {"id": "p"}, **head)
        assert (unknown.status, unknown.json["kind"]) == (400, "promise.delete")


async def test_a_stored_task_may_not_have_the_stores_own_address() -> None:
    async with serving() as (_, wire):
        tags = {"resonate:target": "watched:"}
        for request in (
            r.PromiseCreate("p", FAR_MS, tags=tags),
            r.TaskCreate("p", 1_000, r.PromiseCreate("p", FAR_MS, tags=tags)),
            r.ScheduleCreate("s", "* * * * *", "p", 5, promise_tags=tags),
        ):
            assert (await wire.ask(request)).status == 400
        assert (await wire.ask(r.PromiseGet("p"))).status == 404


async def test_fenced_children_belong_to_the_task_that_fenced_them() -> None:
    """S45: retention and replay go by stored owners, which do not travel."""
    store = MemoryStore()
    async with serving(store) as (_, wire):
        for id in ("a", "b"):
            await wire.ask(r.TaskCreate("p", 9_000, r.PromiseCreate(id, FAR_MS, tags=TARGET)))
        for child in ("a.1", "a:1", "ab", "b.1"):
            await wire.ask(r.TaskFence("a", 1, r.PromiseCreate(child, FAR_MS)))
        owners = {id: promise.owner for id, promise in store.machine.promises.items()}
    assert owners == {"a": "", "b": "", "a.1": "a", "a:1": "a", "ab": "", "b.1": ""}


async def test_starting_and_stopping_again_keeps_what_is_stored(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "app.db")
    server = Server(store, port=0)
    for n in range(3):
        await server.start()
        await server.start()
        wire = Wire(server.port)
        assert (await wire.ask(r.PromiseCreate(f"p{n}", FAR_MS))).status == 200
        assert len((await wire.ask(r.PromiseSearch())).data["promises"]) == n + 1
        await wire.close()
        await asyncio.gather(server.stop(), server.stop())
        await server.stop()
