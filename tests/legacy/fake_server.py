"""A legacy server that does what a real one does not do on demand.

Promises, tasks, callbacks and the poll stream by legacy-protocol §1 to §4, in memory, with
switches for what differs by version and a door through which a test alters single answers.
Time runs as in reality; nothing is swept but what the next request touches.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web

Answer = tuple[int, Any]
Meddler = Callable[[web.Request, Any], Awaitable[web.StreamResponse | None]]
"""Sees a request and its JSON before it is carried out; what it returns is the answer."""


def now_ms() -> int:
    return int(time.time() * 1000)


def refusal(status: int, code: int, message: str = "refused") -> Answer:
    return status, {"error": {"code": code, "message": message, "details": []}}


@dataclass
class FakePromise:
    id: str
    timeout: int
    param: dict[str, Any]
    tags: dict[str, str]
    create_key: str | None
    state: str = "PENDING"
    value: dict[str, Any] = field(default_factory=dict)
    complete_key: str | None = None
    created: int = field(default_factory=now_ms)
    completed: int | None = None

    def touch(self) -> None:
        if self.state == "PENDING" and now_ms() >= self.timeout:
            timer = self.tags.get("resonate:timeout") == "true"
            self.state = "RESOLVED" if timer else "REJECTED_TIMEDOUT"
            self.completed = self.timeout

    def json(self) -> dict[str, Any]:
        shown = {
            "id": self.id,
            "state": self.state,
            "param": self.param,
            "value": self.value,
            "timeout": self.timeout,
            "tags": self.tags,
            "createdOn": self.created,
            "completedOn": self.completed,
        }
        return {name: part for name, part in shown.items() if part is not None}


@dataclass
class FakeTask:
    id: str
    root: str
    recv: str
    kind: str = "invoke"
    counter: int = 1
    state: str = "INIT"
    process: str | None = None
    ttl: int = 0
    expires: int = 0

    def json(self) -> dict[str, Any]:
        return {"id": self.id, "counter": self.counter, "rootPromiseId": self.root, "timeout": 0}


class FakeServer:
    """The server's state, its switches, and what it was asked.

    Attributes:
        has_keys: Idempotency keys count (up to v0.8.2).
        fences: Task headers count (v0.7.15 to v0.8.2).
        has_poll: The API port has `/poll` (from v0.7.15).
        seen: Every request: method, path, JSON, headers.
        meddle: Alters answers; see `Meddler`.
        lose: Paths whose next answer is lost after the request was carried out.
    """

    def __init__(self) -> None:
        self.has_keys = True
        self.fences = True
        self.has_poll = True
        self.promises: dict[str, FakePromise] = {}
        self.tasks: dict[str, FakeTask] = {}
        self.callbacks: dict[str, dict[str, Any]] = {}
        self.streams: dict[tuple[str, str], asyncio.Queue[str | None]] = {}
        self.seen: list[tuple[str, str, Any, dict[str, str]]] = []
        self.meddle: Meddler | None = None
        self.lose: list[str] = []
        self.url = ""
        self.poll_url = ""

    # -- running

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeServer]:
        runners = []
        for attribute, handler in (("url", self._api), ("poll_url", self._poll_port)):
            app = web.Application(client_max_size=2**26)
            app.router.add_route("*", r"/{path:(?s:.*)}", handler)
            runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            setattr(self, attribute, f"http://127.0.0.1:{port}")
            runners.append(runner)
        try:
            yield self
        finally:
            self.cut_streams()
            for runner in runners:
                await runner.cleanup()

    def cut_streams(self) -> None:
        """End every stream, as a server does now and then."""
        for queue in self.streams.values():
            queue.put_nowait(None)
        self.streams.clear()

    def asked(self, method: str, start: str) -> list[Any]:
        """The JSON of the requests of this method whose path starts so."""
        return [
            body for verb, path, body, _ in self.seen if verb == method and path.startswith(start)
        ]

    def headers_of(self, method: str, start: str) -> list[dict[str, str]]:
        return [
            headers
            for verb, path, _, headers in self.seen
            if verb == method and path.startswith(start)
        ]

    # -- the API port

    async def _api(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        text = await request.text()
        body = json.loads(text) if text else None
        if path.startswith("/poll/"):
            if not self.has_poll:
                return web.Response(status=404, text="404 page not found")
            return await self._stream(request, path.removeprefix("/poll"))
        self.seen.append((request.method, path, body, dict(request.headers)))
        if self.meddle is not None:
            altered = await self.meddle(request, body)
            if altered is not None:
                return altered
        status, answer = self._carry_out(request, path, body)
        for start in self.lose:
            if path.startswith(start):
                self.lose.remove(start)
                assert request.transport is not None
                request.transport.abort()
                raise asyncio.CancelledError
        if answer is None:
            return web.Response(status=status)
        return web.json_response(answer, status=status)

    def _carry_out(self, request: web.Request, path: str, body: Any) -> Answer:
        match request.method, path.split("/")[1:]:
            case "GET", ["promises"]:
                return self._search(request)
            case "GET", ["promises", id]:
                return self._read(unquote(id))
            case "POST", ["promises"]:
                return self._create(body, request.headers)[:2]
            case "POST", ["promises", "task"]:
                return self._create_with_task(body, request.headers)
            case "PATCH", ["promises", id]:
                return self._complete(unquote(id), body, request.headers)
            case "POST", ["promises", "callback", id]:
                return self._callback(unquote(id), body, request.headers)
            case "POST", ["promises", "subscribe", id]:
                return self._subscribe(unquote(id), body)
            case "POST", ["tasks", verb]:
                return getattr(self, f"_task_{verb}")(body)  # type: ignore[no-any-return]
        return 404, "404 page not found"

    # -- promises

    def _promise(self, id: str) -> FakePromise | None:
        promise = self.promises.get(id)
        if promise is not None and promise.state == "PENDING":
            promise.touch()
            if promise.state != "PENDING":
                self._completed(promise)
        return promise

    def _read(self, id: str) -> Answer:
        promise = self._promise(id)
        return refusal(404, 40400, "not found") if promise is None else (200, promise.json())

    def _search(self, request: web.Request) -> Answer:
        query = request.rel_url.query
        if "cursor" in query:
            wanted = json.loads(base64.urlsafe_b64decode(query["cursor"]))
        else:
            wanted = {
                "id": query["id"],
                "tags": {k[5:-1]: v for k, v in query.items() if k.startswith("tags[")},
                "state": query.get("state", ""),
                "limit": int(query.get("limit", "100")),
                "at": 0,
            }
        start = wanted["id"].rstrip("*").lower()
        found = [
            promise
            for promise in reversed(self.promises.values())
            if promise.id.lower().startswith(start)
            and all(promise.tags.get(name) == tag for name, tag in wanted["tags"].items())
            and promise.state.lower().startswith(wanted["state"])
        ]
        at, limit = wanted["at"], wanted["limit"]
        cursor = None
        if len(found) >= at + limit:
            wanted["at"] = at + limit
            cursor = base64.urlsafe_b64encode(json.dumps(wanted).encode()).decode()
        page = [promise.json() for promise in found[at : at + limit]]
        return 200, {"promises": page, "cursor": cursor}

    def _is_fenced_out(self, headers: Any) -> bool:
        if not self.fences or "Task-Id" not in headers:
            return False
        task = self.tasks.get(headers["Task-Id"])
        return (
            task is None or task.state != "CLAIMED" or task.counter != int(headers["Task-Counter"])
        )

    def _create(self, body: Any, headers: Any) -> tuple[int, Any, FakePromise | None]:
        if self._is_fenced_out(headers):
            return *refusal(412, 41200, "the task is not claimed"), None
        key = headers.get("Idempotency-Key")
        standing = self._promise(body["id"])
        if standing is not None:
            if self.has_keys and (key is None or standing.create_key != key):
                return *refusal(409, 40900, "exists already"), None
            return 200, standing.json(), None
        promise = FakePromise(
            body["id"], body["timeout"], body.get("param", {}), body.get("tags", {}), key
        )
        self.promises[promise.id] = promise
        if "resonate:invoke" in promise.tags:
            recv = promise.tags["resonate:invoke"]
            task = FakeTask(f"__invoke:{promise.id}", promise.id, recv)
            self.tasks[task.id] = task
            self.send_soon()
        return 201, promise.json(), promise

    def _create_with_task(self, body: Any, headers: Any) -> Answer:
        status, answer, made = self._create(body["promise"], headers)
        if status >= 400:
            return status, answer
        task = None
        if made is not None and f"__invoke:{made.id}" in self.tasks:
            task = self.tasks[f"__invoke:{made.id}"]
            self._claim(task, body["task"]["processId"], body["task"]["ttl"])
        return status, {"promise": answer, "task": None if task is None else task.json()}

    def _complete(self, id: str, body: Any, headers: Any) -> Answer:
        if self._is_fenced_out(headers):
            return refusal(412, 41200, "the task is not claimed")
        promise = self._promise(id)
        if promise is None:
            return refusal(404, 40400, "not found")
        key = headers.get("Idempotency-Key")
        if promise.state == "PENDING":
            promise.state, promise.value = body["state"], body.get("value", {})
            promise.complete_key, promise.completed = key, now_ms()
            self._completed(promise)
            return 201, promise.json()
        if not self.has_keys or promise.state == "REJECTED_TIMEDOUT":
            return 200, promise.json()
        if key is not None and key == promise.complete_key:
            return 200, promise.json()
        return refusal(403, 40301, "already resolved")

    def _completed(self, promise: FakePromise) -> None:
        for task in self.tasks.values():
            if task.root == promise.id and task.state in ("INIT", "ENQUEUED", "CLAIMED"):
                task.state = "COMPLETED"
        for id, callback in list(self.callbacks.items()):
            if callback["promise"] != promise.id:
                continue
            del self.callbacks[id]
            if callback["kind"] == "notify":
                message = {"type": "notify", "promise": promise.json()}
                self.send(callback["recv"], message)  # once, whether it works or not
            else:
                task = FakeTask(id, callback["root"], callback["recv"], "resume")
                self.tasks[id] = task
        self.send_soon()

    # -- callbacks

    def _callback(self, id: str, body: Any, headers: Any) -> Answer:
        if self._is_fenced_out(headers):
            return refusal(412, 41200, "the task is not claimed")
        root = body["rootPromiseId"]
        assert root != id, "the server stops on this"
        return self._register(f"__resume:{root}:{id}", id, "resume", body["recv"], root)

    def _subscribe(self, id: str, body: Any) -> Answer:
        return self._register(f"__notify:{id}:{body['id']}", id, "notify", body["recv"], id)

    def _register(self, name: str, id: str, kind: str, recv: Any, root: str) -> Answer:
        assert isinstance(recv, str), "a physical receiver can stop the server"
        promise = self._promise(id)
        if promise is None:
            return refusal(404, 40400, "not found")
        if promise.state != "PENDING" or name in self.callbacks:
            return 200, {"callback": None, "promise": promise.json()}
        self.callbacks[name] = {"promise": id, "kind": kind, "recv": recv, "root": root}
        return 201, {"callback": {"id": name, "promiseId": id}, "promise": promise.json()}

    # -- tasks

    def _claim(self, task: FakeTask, process: str, ttl: int) -> None:
        task.state, task.process, task.ttl = "CLAIMED", process, ttl
        task.expires = now_ms() + ttl

    def lapse(self, id: str) -> None:
        """The lease of a task runs out unnoticed by its holder."""
        task = self.tasks[id]
        task.state, task.counter, task.process = "INIT", task.counter + 1, None

    def _task_claim(self, body: Any) -> Answer:
        task = self.tasks.get(body["id"])
        if task is None:
            return refusal(404, 40403, "no such task")
        if task.state == "CLAIMED":
            return refusal(403, 40306, "already claimed")
        if task.state == "COMPLETED":
            return refusal(403, 40307, "already completed")
        if task.counter != body["counter"]:
            return refusal(403, 40308, "invalid counter")
        self._claim(task, body["processId"], body["ttl"])
        root = self.promises[task.root].json()
        promises = {"root": {"id": task.root, "href": "http://nowhere.invalid", "data": root}}
        return 201, {"type": task.kind, "promises": promises}

    def _task_complete(self, body: Any) -> Answer:
        task = self.tasks.get(body["id"])
        if task is None:
            return refusal(404, 40403, "no such task")
        if task.state == "COMPLETED":
            return 200, task.json()
        if task.state != "CLAIMED":
            return refusal(403, 40309, "invalid state")
        if task.counter != body["counter"]:
            return refusal(403, 40308, "invalid counter")
        task.state = "COMPLETED"
        self.send_soon()
        return 201, task.json()

    def _task_drop(self, body: Any) -> Answer:
        task = self.tasks.get(body["id"])
        if task is None:
            return refusal(404, 40403, "no such task")
        if task.state != "CLAIMED":
            return 200, None
        if task.counter != body["counter"]:
            return refusal(403, 40308, "invalid counter")
        self.lapse(task.id)
        self.send_soon()
        return 201, None

    def _task_heartbeat(self, body: Any) -> Answer:
        held = [
            task
            for task in self.tasks.values()
            if task.state == "CLAIMED" and task.process == body["processId"]
        ]
        for task in held:
            task.expires = now_ms() + task.ttl
        return 200, {"tasksAffected": len(held)}

    # -- messages

    def send_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.send_tasks)

    def send_tasks(self) -> None:
        """Offer every task that is due; one at a time for each root."""
        busy = {task.root for task in self.tasks.values() if task.state in ("ENQUEUED", "CLAIMED")}
        for task in self.tasks.values():
            if task.state != "INIT" or task.root in busy:
                continue
            if self.send(task.recv, {"type": task.kind, "task": task.json(), "href": {}}):
                task.state = "ENQUEUED"
                busy.add(task.root)

    def send(self, address: str, message: Any) -> bool:
        cast, _, rest = address.removeprefix("poll://").partition("@")
        group, _, pid = rest.partition("/")
        named = self.streams.get((group, pid))
        if named is None and cast == "any":
            named = next((q for (name, _), q in self.streams.items() if name == group), None)
        if named is None:
            return False
        named.put_nowait(json.dumps(message))
        return True

    async def _poll_port(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, request.rel_url.raw_path)

    async def _stream(self, request: web.Request, path: str) -> web.StreamResponse:
        group, _, pid = path[1:].partition("/")
        before = self.streams.pop((group, unquote(pid)), None)
        if before is not None:
            before.put_nowait(None)
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.streams[group, unquote(pid)] = queue
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.send_soon()
        while (data := await queue.get()) is not None:
            await response.write(f"data: {data}\n\n".encode())
        return response
