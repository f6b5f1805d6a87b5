"""HTTP fuzz by a grammar of our own (reliability E1; the issue's "It must show" 8).

Envelopes that are right, nearly right and not right at all, over connections that say what
HTTP allows and what it does not. Whatever is sent: no 5xx, no traceback, and a request that
was refused has changed nothing.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest
from tests.server.wire import FAR_MS, JSON, FixedClock, Wire, envelope, serving

from resonate_aio.protocol import requests as r
from resonate_aio.protocol.envelope import VERSION
from resonate_aio.protocol.records import PromiseState
from resonate_aio.stores.memory import MemoryStore

REQUESTS = 5_000
IDS = ["a", "b", "c", "a.1", "a:1", "s"]
JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1, 1.5, 1e308, 2**63 - 1, 2**63, -(2**63), 2**64 - 1),
    *("", " ", "a", "\0", "\u202e", "é", "x" * 3_000, "../../etc", "watched:", "a\nb", "${x}"),
    *([], {}, [[]], [None], {"": None}, {"id": "a"}, [{"id": "a", "version": 0}]),
]
FIELDS = [
    *("id", "timeoutAt", "param", "tags", "state", "value", "awaited", "awaiter", "address"),
    *("pid", "ttl", "action", "version", "tasks", "actions", "limit", "cursor", "cron"),
    *("promiseId", "promiseTimeout", "promiseTags", "kind", "head", "data", "corrId", "auth"),
]
KINDS = [
    *("promise.get", "promise.create", "promise.settle", "promise.register_callback"),
    *("promise.register_listener", "promise.search", "task.get", "task.create", "task.acquire"),
    *("task.fence", "task.heartbeat", "task.suspend", "task.fulfill", "task.release"),
    *("task.halt", "task.continue", "task.search", "schedule.create", "schedule.get"),
    *("schedule.delete", "schedule.search"),
]
OTHER_KINDS = ["", "promise", "debug.reset", "debug.tick", "debug.snap", "task.poll", "x" * 2_000]
TAGS: list[dict[str, str]] = [
    {},
    {"resonate:external": "true"},
    {"resonate:target": "poll://any@g"},
    {"resonate:target": "http://127.0.0.1:1/"},
    {"resonate:target": ""},
    {"resonate:target": "w1", "resonate:delay": "5"},
    {"resonate:target": "w1", "resonate:delay": "x"},
    {"resonate:timer": "true"},
    {"resonate:branch": "a", "resonate:origin": "b"},
]
RAW_BODIES = [
    b"",
    b"{",
    b"nul",
    b"\xff\xfe",
    b'"\\ud800"',
    b'{"kind":"promise.get","kind":"task.get"}',
    b"[" * 5_000,
    b'{"a":' * 2_000,
    b"1e999",
    b"NaN",
    b"9" * 5_000,
    b'{"kind":"promise.create","head":{"corrId":"1","version":"2026-04-01"},"data":{"id":"\\ud800"}}',
]


class Grammar:
    """Draws requests."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, choices: list[Any]) -> Any:
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def value(self) -> dict[str, Any]:
        return dict(self.one([{}, {"data": "MQ=="}, {"data": "raw"}, {"headers": {"h": "1"}}]))

    def create(self) -> dict[str, Any]:
        timeout = self.one([0, 999, 1_000, 1_001, FAR_MS, 2**63 - 1])
        data = {"id": self.one(IDS), "timeoutAt": timeout, "tags": self.one(TAGS)}
        return {**data, "param": self.value()}

    def settle(self) -> dict[str, Any]:
        state = self.one(["resolved", "rejected", "rejected_canceled", "pending", "no"])
        return {"id": self.one(IDS), "state": state, "value": self.value()}

    def action(self, kind: str, data: Any) -> dict[str, Any]:
        return {"kind": kind, "head": {}, "data": data}

    def data(self, kind: str) -> dict[str, Any]:
        held = {"id": self.one(IDS[:3]), "version": self.one([0, 1, 1, 1, 2])}
        lease = {"pid": self.one(["p", "q"]), "ttl": self.one([1, 60_000])}
        match kind:
            case "promise.create":
                return self.create()
            case "promise.settle":
                return self.settle()
            case "promise.register_callback":
                return {"awaited": self.one(IDS), "awaiter": self.one(IDS)}
            case "promise.register_listener":
                address = self.one(["poll://uni@g/1", "http://x/", "no", "", "\0://x"])
                return {"awaited": self.one(IDS), "address": address}
            case "task.create":
                return {**lease, "action": self.action("promise.create", self.create())}
            case "task.heartbeat":
                return {"pid": "p", "tasks": self.one([[], [held], [held, held]])}
            case "schedule.create":
                return self.schedule()
            case _ if kind.endswith(".search"):
                page = {"limit": self.one([1, 100, 0, 1_001]), "cursor": self.one([None, "a"])}
                return {**page, "state": self.one([None, "pending", "acquired"])}
            case _:
                return self.of_task(kind, held, lease)

    def of_task(self, kind: str, held: dict[str, Any], lease: dict[str, Any]) -> dict[str, Any]:
        match kind:
            case "task.acquire":
                return {**held, **lease}
            case "task.fence":
                acts = [("promise.create", self.create()), ("promise.settle", self.settle())]
                return {**held, "action": self.action(*self.one(acts))}
            case "task.suspend":
                awaited = self.random.sample(IDS[1:], self.random.randrange(3))
                waits = [{"awaited": one, "awaiter": held["id"]} for one in awaited]
                actions = [self.action("promise.register_callback", wait) for wait in waits]
                return {**held, "actions": actions}
            case "task.fulfill":
                settle = {**self.settle(), "id": held["id"]}
                return {**held, "action": self.action("promise.settle", settle)}
            case _:
                return held

    def schedule(self) -> dict[str, Any]:
        cron = self.one(["* * * * *", "0 0 1 1 *", "x", "* * * * * *", "61 * * * *"])
        named = {"id": "s", "cron": cron, "promiseId": "{{.id}}.{{.timestamp}}"}
        return {**named, "promiseTimeout": 5, "promiseTags": self.one(TAGS)}

    def envelope(self) -> dict[str, Any]:
        kind = self.one(OTHER_KINDS) if self.chance(0.03) else self.one(KINDS)
        head: dict[str, Any] = {}
        if self.chance(0.1):
            head = {"resonate:debug_time": self.one(JUNK)}
        return envelope(kind, self.data(kind) if "." in kind else {}, **head)

    def broken(self, node: Any) -> Any:
        """The JSON with one node somewhere replaced, dropped, renamed or wrapped."""
        if isinstance(node, dict) and node and self.chance(0.8):
            name = self.one(list(node))
            if self.chance(0.15):
                return {key: value for key, value in node.items() if key != name}
            if self.chance(0.15):
                return {**node, self.one(FIELDS): self.one(JUNK)}
            return {**node, name: self.broken(node[name])}
        if isinstance(node, list) and node and self.chance(0.8):
            place = self.random.randrange(len(node))
            return [*node[:place], self.broken(node[place]), *node[place + 1 :]]
        return [node] if self.chance(0.1) else self.one(JUNK)

    def scribbled(self, body: bytes) -> bytes:
        """The bytes with a few of them replaced, cut off or doubled."""
        if not body:
            return body
        at = self.random.randrange(len(body))
        how = self.random.randrange(3)
        if how == 0:
            return body[:at]
        if how == 1:
            return body[:at] + bytes([self.random.randrange(256)]) + body[at + 1 :]
        return body[:at] + body[at:] * 2

    def request(self) -> tuple[bytes, bool]:
        """The bytes of one request, and whether they are an ordinary envelope."""
        shape = self.random.random()
        if shape < 0.1:
            return self.other(), False
        if shape < 0.15:
            return post(self.one(RAW_BODIES)), False
        sent = self.envelope()
        if shape < 0.6:
            return post(orjson.dumps(sent)), True
        sent = self.broken(sent)
        body = orjson.dumps(sent)
        return post(self.scribbled(body) if self.chance(0.15) else body), False

    def other(self) -> bytes:
        """Other routes, methods and headers."""
        methods = ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"]
        paths = ["/", "/health", "/ready", "/metrics", "/tasks/claim", "/%00", "/..%2f", "//x"]
        headers = [
            "Content-Encoding: gzip",
            "Content-Type: text/plain",
            "X: " + "y" * 5_000,
            "Cookie: a=b; " * 3,
            "Upgrade: websocket\r\nConnection: upgrade",
            "Transfer-Encoding: chunked",
            "resonate:origin: a",
            "Accept: text/event-stream",
        ]
        body = orjson.dumps(self.envelope())
        if self.chance(0.5):
            return post(body, self.one(headers[:4]))
        head = f"{self.one(methods)} {self.one(paths)} HTTP/1.1\r\nHost: localhost\r\n"
        return f"{head}{self.one(headers[2:5] + headers[6:])}\r\n\r\n".encode()


def post(body: bytes, *headers: str) -> bytes:
    kind = () if any(h.lower().startswith("content-type") for h in headers) else (JSON,)
    lines = ["POST / HTTP/1.1", "Host: localhost", *kind, f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def state(store: MemoryStore) -> tuple[Any, ...]:
    """Everything that is stored; records are frozen, so they need no copy."""
    machine = store.machine
    waits = (machine.callbacks, machine.listeners)
    return (
        dict(machine.promises),
        dict(machine.tasks),
        dict(machine.schedules),
        *({id: tuple(those) for id, those in wait.items()} for wait in waits),
    )


@pytest.mark.parametrize("seed", [1])
async def test_nothing_that_is_sent_breaks_the_server(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    grammar, store = Grammar(seed), MemoryStore(clock=FixedClock())
    statuses: dict[int, int] = {}
    async with serving(store) as (server, wire):
        fuzzer = Wire(server.port)
        for n in range(REQUESTS):
            if n % 50 == 0:
                await clear(store, wire)
            request, is_ordinary = grammar.request()
            before = state(store)
            answer = await said(fuzzer, request)
            statuses[answer] = statuses.get(answer, 0) + 1
            assert 200 <= answer < 500, request
            if answer >= 400:
                assert state(store) == before, request
            assert is_ordinary or answer != 500
        await fuzzer.close()
        assert (await wire.ask(r.PromiseGet("a"))).status in {200, 404}, "still alive"
        page = (await wire.get("/metrics")).body
        assert len(page) < 60_000, "no client makes the metrics grow"
    assert {200, 300, 400, 404, 405, 409, 410, 415, 422, 403} <= set(statuses), statuses
    assert statuses[200] > REQUESTS / 10
    assert "Traceback" not in caplog.text


async def said(wire: Wire, request: bytes) -> int:
    if request.startswith(b"HEAD"):
        request = request.replace(b"HEAD", b"GET", 1)
    async with asyncio.timeout(10):
        answer = await wire.raw(request)
    assert b"Traceback" not in answer.body
    if request.startswith(b"POST") and answer.headers["content-type"] == "application/json":
        assert answer.json["head"]["status"] == answer.status
        assert answer.json["head"]["version"] == VERSION
        assert (answer.status >= 400) == isinstance(answer.data, str)
    return answer.status


async def clear(store: MemoryStore, wire: Wire) -> None:
    """Begin again with a few things there, so that requests meet all their states."""
    machine = store.machine
    for records in (machine.promises, machine.tasks, machine.schedules, machine.branches):
        records.clear()
    machine.in_order = []
    for more in (machine.callbacks, machine.listeners, machine.dispatched, machine.watched):
        more.clear()
    for id in ("b", "c"):
        await wire.ask(r.PromiseCreate(id, FAR_MS, tags=TAGS[1]))
    await wire.ask(r.PromiseSettle("c", PromiseState.RESOLVED))
    await wire.ask(r.TaskCreate("p", 60_000, r.PromiseCreate("a", FAR_MS, tags=TAGS[2])))
