"""A store and a message source with the shape that SDK release 0.6.7 asks for, in memory.

Blocking methods, its own error class with the server's digits behind a point, records that are
plain objects, messages from a blocking `next`. Behind it is the fake legacy server.
"""

from __future__ import annotations

import queue
import threading
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from tests.legacy.fake import FakeLegacy

from resonate_aio.protocol.wire_records import data_from_wire, data_to_wire


class OldStoreError(Exception):
    """As `ResonateStoreError` of that release: 100.40400 is the server's 404."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = float(f"100.{code}")


class OldStore:
    """`promises`, `tasks` and `schedules`.

    Attributes:
        fails: So many of the next calls end in an OSError.
        called: The names of the methods that were called.
        pids: Which process ids were ever beaten for.
    """

    def __init__(self) -> None:
        self.server = FakeLegacy(lambda: int(time.time() * 1000))
        self.server.fences = False
        self.lock = threading.Lock()
        self.threads: set[str] = set()
        self.fails = 0
        self.called: list[str] = []
        self.pids: set[str] = set()
        self.promises = OldPromises(self)
        self.tasks = OldTasks(self)
        self.schedules = OldSchedules(self)

    def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        with self.lock:
            self.threads.add(threading.current_thread().name)
            self.called.append(path)
            if self.fails:
                self.fails -= 1
                raise OSError("the disk is away")
            status, data = self.server.carry_out(method, path, {}, body, headers)
            self.server.sweep()
        if status >= 400:
            # That release knows of no conflict: a transition that cannot be is "forbidden".
            code = 40399 if status == 409 else data["error"]["code"]
            raise OldStoreError(data["error"]["message"], code)
        return data


class OldPromises:
    def __init__(self, store: OldStore) -> None:
        self._store = store

    def get(self, id: str) -> Any:
        return _promise(self._store.ask("GET", f"/promises/{quote(id, safe='')}"))

    def create(self, id: str, timeout: int, *, ikey: str | None = None, **more: Any) -> Any:
        return _promise(self._store.ask("POST", "/promises", _body(id, timeout, **more), ikey))

    def create_with_task(
        self, id: str, timeout: int, pid: str, ttl: int, *, ikey: str | None = None, **more: Any
    ) -> Any:
        body = {"promise": _body(id, timeout, **more), "task": {"processId": pid, "ttl": ttl}}
        made = self._store.ask("POST", "/promises/task", body, ikey)
        task = made["task"]
        return _promise(made["promise"]), None if task is None else SimpleNamespace(**task)

    def resolve(self, id: str, **more: Any) -> Any:
        return self._settle(id, "RESOLVED", **more)

    def reject(self, id: str, **more: Any) -> Any:
        return self._settle(id, "REJECTED", **more)

    def cancel(self, id: str, **more: Any) -> Any:
        return self._settle(id, "REJECTED_CANCELED", **more)

    def _settle(self, id: str, state: str, *, ikey: str | None = None, **more: Any) -> Any:
        body = {"state": state, "value": _value(**more)}
        return _promise(self._store.ask("PATCH", f"/promises/{quote(id, safe='')}", body, ikey))

    def callback(self, promise_id: str, root_promise_id: str, recv: str, timeout: int) -> Any:
        body = {"rootPromiseId": root_promise_id, "recv": recv, "timeout": timeout}
        return self._registered("callback", promise_id, body)

    def subscribe(self, id: str, promise_id: str, recv: str, timeout: int) -> Any:
        return self._registered(
            "subscribe", promise_id, {"id": id, "recv": recv, "timeout": timeout}
        )

    def _registered(self, verb: str, id: str, body: Any) -> Any:
        told = self._store.ask("POST", f"/promises/{verb}/{quote(id, safe='')}", body)
        return _promise(told["promise"]), told["callback"]


class OldTasks:
    def __init__(self, store: OldStore) -> None:
        self._store = store

    def claim(self, id: str, counter: int, pid: str, ttl: int) -> Any:
        body = {"id": id, "counter": counter, "processId": pid, "ttl": ttl}
        told = self._store.ask("POST", "/tasks/claim", body)
        return _promise(told["promises"]["root"]["data"]), None

    def complete(self, id: str, counter: int) -> bool:
        self._store.ask("POST", "/tasks/complete", {"id": id, "counter": counter})
        return True

    def heartbeat(self, pid: str) -> int:
        self._store.pids.add(pid)
        told = self._store.ask("POST", "/tasks/heartbeat", {"processId": pid})
        return int(told["tasksAffected"])


class OldSchedules:
    def __init__(self, store: OldStore) -> None:
        self._kept: dict[str, Any] = {}

    def create(self, id: str, cron: str, promise_id: str, promise_timeout: int, **more: Any) -> Any:
        if id in self._kept and self._kept[id].ikey != more["ikey"]:
            raise OldStoreError("exists already", 40399)
        made = SimpleNamespace(
            id=id,
            cron=cron,
            promise_id=promise_id,
            promise_timeout=promise_timeout,
            promise_param=SimpleNamespace(
                headers=more["promise_headers"], data=more["promise_data"]
            ),
            promise_tags=more["promise_tags"],
            created_on=1,
            last_runtime=None,
            next_runtime=2,
            ikey=more["ikey"],
        )
        return self._kept.setdefault(id, made)

    def get(self, id: str) -> Any:
        if id not in self._kept:
            raise OldStoreError("not found", 40401)
        return self._kept[id]

    def delete(self, id: str) -> None:
        self.get(id)
        del self._kept[id]


class OldSource:
    """A message source; its addresses have a scheme of their own."""

    def __init__(self, store: OldStore, group: str, id: str) -> None:
        self._store = store
        self._group, self._id = group, id
        self._messages: queue.Queue[Any] = queue.Queue()

    @property
    def unicast(self) -> str:
        return f"post://uni@{self._group}/{self._id}"

    @property
    def anycast(self) -> str:
        return f"post://any@{self._group}/{self._id}"

    def start(self) -> None:
        with self._store.lock:
            self._store.server.send = self._receive  # type: ignore[method-assign]

    def stop(self) -> None:
        with self._store.lock:
            self._store.server.send = lambda address, message: False  # type: ignore[method-assign]
        self._messages.put(None)

    def _receive(self, address: str, message: Any) -> bool:
        """The roots of tasks are left out there, and a promise is shown in short."""
        group = address.partition("@")[2].partition("/")[0]
        if group != self._group:
            return False
        if message["type"] == "notify":
            message = {"type": "notify", "promise": {"id": message["promise"]["id"]}}
        else:
            task = message["task"]
            message = {**message, "task": {"id": task["id"], "counter": task["counter"]}}
        self._messages.put(message)
        return True

    def enqueue(self, message: Any) -> None:
        self._messages.put(message)

    def next(self) -> Any:
        while True:
            try:
                return self._messages.get(timeout=0.02)
            except queue.Empty:
                with self._store.lock:
                    self._store.server.sweep()


def _body(id: str, timeout: int, *, tags: Any = None, **value: Any) -> dict[str, Any]:
    return {"id": id, "timeout": timeout, "tags": tags or {}, "param": _value(**value)}


def _value(*, headers: Any = None, data: str | None = None, strict: bool = False) -> Any:
    return {"headers": headers, "data": None if data is None else data_to_wire(data)}


def _promise(rest: Any) -> Any:
    return SimpleNamespace(
        id=rest["id"],
        state=rest["state"],
        timeout=rest["timeout"],
        param=_read(rest.get("param")),
        value=_read(rest.get("value")),
        tags=rest.get("tags"),
        created_on=rest["createdOn"],
        completed_on=None if rest["state"] == "REJECTED_TIMEDOUT" else rest.get("completedOn"),
    )


def _read(value: Any) -> Any:
    data = (value or {}).get("data")
    return SimpleNamespace(
        headers=(value or {}).get("headers"), data=None if data is None else data_from_wire(data)
    )
