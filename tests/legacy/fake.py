"""A legacy server in memory: promises, tasks, callbacks and messages, without a socket.

By legacy-protocol §1 to §4, with switches for what differs by version. Time comes from
outside; who drives it calls `sweep` when something is due. It is written from the fact sheet,
to be believed only as far as the tests that run on it and on a real server say.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

Answer = tuple[int, Any]
Sink = Callable[[str], None]

TTC_MS = 60_000
"""After which a task that was offered and not claimed is offered again."""

TTR_MS = 15_000
"""After which a task that could not be offered is offered again."""


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
    created: int = 0
    completed: int | None = None

    def touch(self, now_ms: int) -> None:
        if self.state == "PENDING" and now_ms >= self.timeout:
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


class FakeLegacy:
    """The server's state and its switches.

    Attributes:
        has_keys: Idempotency keys count (up to v0.8.2).
        fences: Task headers count (v0.7.15 to v0.8.2).
        ttc_ms: How long a task may stay offered without being claimed.
        streams: Who takes the messages of a group and process.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self.has_keys = True
        self.fences = True
        self.ttc_ms = TTC_MS
        self.promises: dict[str, FakePromise] = {}
        self.tasks: dict[str, FakeTask] = {}
        self.callbacks: dict[str, dict[str, Any]] = {}
        self.streams: dict[tuple[str, str], Sink] = {}

    def carry_out(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        headers: Mapping[str, str],
    ) -> Answer:
        """One request: its path still percent-encoded, its body decoded JSON."""
        match method, path.split("/")[1:]:
            case "GET", ["promises"]:
                return self._search(query)
            case "GET", ["promises", id]:
                return self._read(unquote(id))
            case "POST", ["promises"]:
                return self._create(body, headers)[:2]
            case "POST", ["promises", "task"]:
                return self._create_with_task(body, headers)
            case "PATCH", ["promises", id]:
                return self._complete(unquote(id), body, headers)
            case "POST", ["promises", "callback", id]:
                return self._callback(unquote(id), body, headers)
            case "POST", ["promises", "subscribe", id]:
                return self._subscribe(unquote(id), body)
            case "POST", ["tasks", verb]:
                return getattr(self, f"_task_{verb}")(body)  # type: ignore[no-any-return]
        return 404, "404 page not found"

    # -- promises

    def _promise(self, id: str) -> FakePromise | None:
        promise = self.promises.get(id)
        if promise is not None and promise.state == "PENDING":
            promise.touch(self.now_ms())
            if promise.state != "PENDING":
                self._completed(promise)
        return promise

    def _read(self, id: str) -> Answer:
        promise = self._promise(id)
        return refusal(404, 40400, "not found") if promise is None else (200, promise.json())

    def _search(self, query: Mapping[str, str]) -> Answer:
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
            body["id"],
            body["timeout"],
            body.get("param", {}),
            body.get("tags", {}),
            key,
            created=self.now_ms(),
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
            promise.complete_key, promise.completed = key, self.now_ms()
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
        task.expires = self.now_ms() + ttl

    def lapse(self, id: str) -> None:
        """The lease of a task runs out unnoticed by its holder."""
        task = self.tasks[id]
        task.state, task.counter, task.process = "INIT", task.counter + 1, None
        task.expires = 0

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
            task.expires = self.now_ms() + task.ttl
        return 200, {"tasksAffected": len(held)}

    # -- messages

    def send_soon(self) -> None:
        """Something may be due: whoever drives the time sees to it."""

    def send_tasks(self) -> None:
        """Offer every task that is due; one at a time for each root."""
        now_ms = self.now_ms()
        busy = {task.root for task in self.tasks.values() if task.state in ("ENQUEUED", "CLAIMED")}
        for task in self.tasks.values():
            if task.state != "INIT" or task.root in busy or task.expires > now_ms:
                continue
            if self.send(task.recv, {"type": task.kind, "task": task.json(), "href": {}}):
                task.state, task.expires = "ENQUEUED", now_ms + self.ttc_ms
                busy.add(task.root)
            else:
                task.expires = now_ms + TTR_MS

    def sweep(self) -> None:
        """What the server's clock alone brings: deadlines, lapsed leases, unclaimed offers."""
        now_ms = self.now_ms()
        for id in list(self.promises):
            self._promise(id)
        for task in self.tasks.values():
            if task.state in ("ENQUEUED", "CLAIMED") and task.expires <= now_ms:
                self.lapse(task.id)
        self.send_tasks()

    def next_due_ms(self) -> int | None:
        """When `sweep` has something to do, or None."""
        due = [p.timeout for p in self.promises.values() if p.state == "PENDING"]
        live = ("INIT", "ENQUEUED", "CLAIMED")
        due += [task.expires for task in self.tasks.values() if task.state in live]
        return min(due, default=None)

    def send(self, address: str, message: Any) -> bool:
        cast, _, rest = address.removeprefix("poll://").partition("@")
        group, _, pid = rest.partition("/")
        named = self.streams.get((group, pid))
        if named is None and cast == "any":
            named = next((q for (name, _), q in self.streams.items() if name == group), None)
        if named is None:
            return False
        named(json.dumps(message))
        return True
