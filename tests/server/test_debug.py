"""The debug surface: conformance tools own the clock (current-protocol §5, §12; C12)."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from tests.server.wire import EXTERNAL, FAR_MS, TARGET, Answer, Wire, polling, serving

from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import Promise, PromiseState, Value
from resonate_aio.protocol.wire_records import promise_to_wire
from resonate_aio.server import DebugStore

DEBUG = ["debug.start", "debug.stop", "debug.reset", "debug.tick", "debug.snap", "debug.messages"]
RESOLVED = PromiseState.RESOLVED


async def at(wire: Wire, ms: int | None, request: r.Request) -> Answer:
    head = {} if ms is None else {"resonate:debug_time": ms}
    return await wire.ask(request, **head)


def stamp(answer: Answer) -> int:
    return int(answer.json["head"]["resonate:debug_time"])


@pytest.mark.parametrize("kind", DEBUG)
async def test_without_the_flag_it_is_403(kind: str) -> None:
    async with serving() as (_, wire):
        await wire.ask(r.PromiseCreate("p", FAR_MS))
        answer = await wire.send(kind, {"time": FAR_MS + 1})
        assert (answer.status, answer.json["kind"]) == (403, kind)
        assert (await wire.ask(r.PromiseGet("p"))).data["promise"]["state"] == "pending"


async def test_without_the_flag_nobody_sets_the_clock() -> None:
    async with serving() as (_, wire):
        await wire.ask(r.PromiseCreate("p", FAR_MS))
        answer = await at(wire, FAR_MS + 1, r.PromiseGet("p"))
        assert answer.data["promise"]["state"] == "pending"
        assert "resonate:debug_time" not in answer.json["head"]


async def test_the_instant_of_a_request_is_named_by_it_and_never_goes_back() -> None:
    async with serving(DebugStore()) as (_, wire):
        assert (await wire.send("debug.start", {})).data == {}
        assert (await wire.send("debug.reset", {})).data == {}
        first = await at(wire, 1_000, r.PromiseCreate("p", 5_000))
        assert (stamp(first), first.data["promise"]["createdAt"]) == (1_000, 1_000)
        assert stamp(await at(wire, 900, r.PromiseGet("p"))) == 1_000
        assert stamp(await at(wire, None, r.PromiseGet("p"))) == 1_000
        late = await at(wire, 5_000, r.PromiseGet("p"))
        assert late.data["promise"]["state"] == "rejected_timedout"
        assert late.data["promise"]["settledAt"] == 5_000
        assert stamp(await wire.send("debug.snap", {})) == 5_000
        await wire.send("debug.reset", {})
        assert stamp(await at(wire, 1_000, r.PromiseCreate("p", 5_000))) == 1_000, "a new run"


async def test_nothing_falls_due_but_in_a_tick() -> None:
    async with serving(DebugStore()) as (_, wire):
        await at(wire, 1_000, r.PromiseCreate("e", 2_000, tags=EXTERNAL))
        await at(wire, 1_000, r.TaskCreate("p", 500, r.PromiseCreate("t", FAR_MS, tags=TARGET)))
        await at(wire, 3_000, r.PromiseGet("other"))
        await asyncio.sleep(0.02)
        snap = (await wire.send("debug.snap", {})).data
        assert {promise["id"]: promise["state"] for promise in snap["promises"]} == {
            "e": "pending",
            "t": "pending",
        }
        assert snap["tasks"][0]["state"] == "acquired", "a lease ends in a tick only (§6)"
        assert (await wire.send("debug.tick", {"time": 3_000})).data == []
        snap = (await wire.send("debug.snap", {})).data
        assert snap["promises"][0]["state"] == "rejected_timedout"
        assert snap["tasks"][0]["state"] == "pending"


async def test_a_tick_needs_its_time() -> None:
    async with serving(DebugStore()) as (_, wire):
        for data in ({}, {"time": "1"}, {"time": None}, {"time": True}):
            assert (await wire.send("debug.tick", data)).status == 400
        differing = await wire.send("debug.tick", {"time": 5}, **{"resonate:debug_time": 6})
        assert differing.status == 400
        agreeing = await wire.send("debug.tick", {"time": 5}, **{"resonate:debug_time": 5})
        assert (agreeing.status, stamp(agreeing)) == (200, 5)
        assert (await wire.send("debug.nonsense", {})).status == 400


async def test_after_a_stop_time_goes_on_by_itself() -> None:
    async with serving(DebugStore()) as (_, wire):
        now_ms = stamp(await at(wire, None, r.PromiseGet("none")))
        assert now_ms > 1_600_000_000_000, "the wall clock, as nobody named another"
        await at(wire, None, r.PromiseCreate("e", now_ms + 20, tags=EXTERNAL))
        await asyncio.sleep(0.05)
        snap = (await wire.send("debug.snap", {})).data
        assert snap["promises"][0]["state"] == "pending"
        await wire.send("debug.stop", {})
        for _ in range(1_000):
            snap = (await wire.send("debug.snap", {})).data
            if snap["promises"][0]["state"] != "pending":
                break
            await asyncio.sleep(0.002)
        assert snap["promises"][0]["state"] == "rejected_timedout"


async def test_a_snapshot_shows_everything_in_order() -> None:
    async with serving(DebugStore()) as (_, wire):
        for id, tags in (("e", EXTERNAL), ("d", EXTERNAL), ("plain", {})):
            await at(wire, 1_000, r.PromiseCreate(id, 9_000, tags=tags))
        await at(wire, 1_000, r.PromiseCreate("t", 9_000, tags=TARGET))
        await at(wire, 1_000, r.TaskCreate("p", 500, r.PromiseCreate("h", 9_000, tags=TARGET)))
        await at(wire, 1_000, r.PromiseRegisterCallback("e", "t"))
        await at(wire, 1_000, r.PromiseRegisterCallback("d", "t"))
        for address in ("poll://uni@g/2", "poll://uni@g/1"):
            await at(wire, 1_000, r.PromiseRegisterListener("e", address))
        snap = (await wire.send("debug.snap", {})).data
        plain = Promise("plain", PromiseState.PENDING, 9_000, 1_000)
        assert [promise["id"] for promise in snap["promises"]] == ["d", "e", "h", "plain", "t"]
        assert snap["promises"][3] == orjson.loads(orjson.dumps(promise_to_wire(plain)))
        assert snap["promiseTimeouts"] == [{"id": id, "timeout": 9_000} for id in "deht"]
        assert snap["callbacks"] == [
            {"awaiter": "t", "awaited": "d"},
            {"awaiter": "t", "awaited": "e"},
        ]
        assert snap["listeners"] == [
            {"id": "e", "address": "poll://uni@g/1"},
            {"id": "e", "address": "poll://uni@g/2"},
        ]
        assert [(task["id"], task["state"]) for task in snap["tasks"]] == [
            ("h", "acquired"),
            ("t", "pending"),
        ]
        assert snap["taskTimeouts"] == [
            {"id": "h", "type": 1, "timeout": 1_500},
            {"id": "t", "type": 0, "timeout": 31_000},
        ]
        execute = {"kind": "execute", "head": {}, "data": {"task": {"id": "t", "version": 0}}}
        assert snap["messages"] == [{"address": "poll://any@g", "message": execute}]


async def test_messages_are_drained_and_still_delivered() -> None:
    async with serving(DebugStore()) as (server, wire), polling(server, "g", "1") as stream:
        await at(wire, 1_000, r.PromiseCreate("t", 9_000, tags=TARGET))
        assert await stream.execute() == ("t", 0)
        await at(wire, 1_000, r.PromiseCreate("e", 9_000, tags=EXTERNAL))
        await at(wire, 1_000, r.PromiseRegisterListener("e", "poll://uni@g/1"))
        await at(wire, 1_000, r.PromiseSettle("e", RESOLVED, Value(data="1")))
        drained = (await wire.send("debug.messages", {})).data["messages"]
        assert drained[0] == {"message": {"kind": "execute", "taskId": "t", "version": 0}}
        assert drained[1]["message"]["kind"] == "unblock"
        assert drained[1]["message"]["promise"]["id"] == "e"
        assert (await wire.send("debug.messages", {})).data == {"messages": []}
        await at(wire, 1_000, r.TaskAcquire("t", 0, "p", 9_000))
        await at(wire, 1_000, r.TaskRelease("t", 1))
        await at(wire, 1_000, r.TaskAcquire("t", 1, "p", 9_000))
        assert (await wire.send("debug.messages", {})).data == {"messages": []}, "taken meanwhile"


async def test_a_reset_forgets_everything_but_who_listens() -> None:
    async with serving(DebugStore()) as (server, wire), polling(server, "g", "1") as stream:
        await at(wire, 9_000, r.PromiseCreate("t", FAR_MS, tags=TARGET))
        assert await stream.execute() == ("t", 0)
        await wire.send("debug.reset", {})
        snap = (await wire.send("debug.snap", {})).data
        assert not any(snap.values())
        await at(wire, 1_000, r.PromiseCreate("u", FAR_MS, tags=TARGET))
        assert await stream.execute() == ("u", 0)
