"""A store object of SDK release 0.6.7 in the place of a legacy server (mission C16).

The `Store` of that release is the legacy server's REST interface as blocking Python methods:
`promises.create`, `promises.resolve`, `tasks.claim`, `tasks.heartbeat` and so on. So the whole of
`LegacyStore` is used as it is, and this file takes the place of its connection: each request
becomes one call of the object, on a thread of its own, one at a time. What the object raises
with a `code` of the server (404.., 403.., 409..) is its answer; anything else is trouble, and it is
asked again (law 8).

What that release's interface has not got is made up for here as far as it goes:

* no `drop`: each task is claimed under a process id of its own, and one that is given back is
  no longer beaten for, so that its lease runs out;
* no search: what an execution recorded is found by asking for its ids one after the other, and
  the names of its helper tasks' branches are kept in small promises of their own;
* no fences: the first write wins, as on the legacy servers that cannot fence (S66).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, unquote

import orjson

from ...backoff import Backoff
from ...errors import ResonateStoreError
from ...outage import Outage
from ...protocol.wire_records import data_from_wire
from ..http.answers import REFUSED, Answer, TroubleError
from ..http.session import Lane
from .sync_records import callback_to_rest, promise_to_rest, schedule_to_rest, status_of
from .sync_search import Finder

logger = logging.getLogger("resonate_aio.stores.legacy")

T = TypeVar("T")

_FIRST_S: Final = 0.1
_MOST_S: Final = 10.0
_CLOSE_S: Final = 5.0
_FORBIDDEN: Final = 403
_CONFLICT: Final = 409
_VERBS: Final = {
    "RESOLVED": "resolve",
    "REJECTED": "reject",
    "REJECTED_CANCELED": "cancel",
}

Rest = dict[str, Any]


class SyncSession:
    """Stands where `LegacyStore` has its session with a server.

    Args:
        store: The object: `promises`, `tasks` and `schedules` with blocking methods.
        addresses: What this process's own addresses are called by its message source.
        rng: Where the jitter comes from.
    """

    def __init__(
        self, store: Any, addresses: Callable[[str], str], *, rng: Random | None = None
    ) -> None:
        self.rng = rng if rng is not None else Random()  # noqa: S311  jitter is no secret
        self._store = store
        self._addresses = addresses
        self._finder = Finder(store)
        self._threads: ThreadPoolExecutor | None = None
        self._outage = Outage()
        self._stops: list[Callable[[], Awaitable[None]]] = []
        self._pids: dict[str, dict[tuple[str, int], str]] = {}
        """Holder -> the process id of each of its claims, by the task's id and counter."""
        self._claims = 0

    @property
    def url(self) -> str:
        """What messages call it."""
        return f"<{type(self._store).__qualname__}>"

    # -- life

    async def open(self) -> None:
        """Begin to carry out requests."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="resonate_aio store")

    async def close(self) -> None:
        """Carry out no more; a call that does not return is named and left."""
        while self._stops:
            await self._stops[0]()
            self._stops.pop(0)  # not before: it may be cut
        threads = self._threads
        if threads is None:
            return
        is_idle = asyncio.get_running_loop().run_in_executor(threads, int)
        done, _ = await asyncio.wait([is_idle], timeout=_CLOSE_S)
        if not done:
            logger.warning("a call of the store %s does not return; its thread is left", self.url)
        threads.shutdown(wait=bool(done), cancel_futures=True)
        self._threads = None

    def before_close(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Do this before the session closes: what was started needs its thread to end."""
        self._stops.append(stop)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """What a call of the object gives, made on the thread; it raises TroubleError.

        Raises:
            ResonateStoreError: The session is closed.
        """
        if self._threads is None:
            raise ResonateStoreError("the store is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, call)

    async def exchange(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        lane: Lane = Lane.WORK,
        refusals: frozenset[int] = REFUSED,
    ) -> tuple[T, bool]:
        """Carry a request out until there is an answer: see `HttpSession.exchange`."""
        key = (headers or {}).get("Idempotency-Key")
        call = partial(self._answer, method, path, orjson.loads(body or b"{}"), key)
        backoff = Backoff(_FIRST_S, _MOST_S, self.rng)
        maybe_done = False
        while True:
            try:
                result = read(await self.in_thread(call))
            except TroubleError as trouble:
                maybe_done = True
                if self._outage.failed(asyncio.get_running_loop().time()):
                    told = trouble.told(self.url, f"{method} {path}")
                    logger.warning("%s; asked again until it answers", told)
                await asyncio.sleep(backoff.next_s())
            else:
                if self._outage.worked():
                    logger.info("%s answers again", self.url)
                return result, maybe_done

    # -- on the thread

    def _answer(self, method: str, path: str, body: Rest, key: str | None) -> Answer:
        try:
            status, data = 200, self._carry_out(method, path, body, key)
        except TroubleError:
            raise
        except Exception as error:
            found = status_of(error)
            if found is None:
                raise TroubleError(f"{type(error).__name__}: {error}") from error
            # That release says "forbidden" of a promise or schedule created with another key.
            is_create = method == "POST" and path in {"/promises", "/promises/task", "/schedules"}
            status = _CONFLICT if is_create and found == _FORBIDDEN else found
            data = {"error": {"message": str(error)}}
        return Answer(status, {}, orjson.dumps(data))

    def _carry_out(self, method: str, path: str, body: Rest, key: str | None) -> Any:
        path, _, query = path.partition("?")
        _, kind, *names = path.split("/", 3)
        if query:
            return self._finder.page(kind, parse_qs(query))
        if kind == "tasks":
            return getattr(self, f"_{names[0]}")(body)
        if kind == "schedules":
            return self._schedule(method, unquote(names[0]) if names else None, body, key)
        if method == "GET":
            return promise_to_rest(self._store.promises.get(unquote(names[0])))
        if method == "PATCH":
            return self._settle(unquote(names[0]), body, key)
        if not names:
            return self._create(body, key)
        if names[0] == "task":
            return self._create_with_task(body, key)
        return self._register(names[0], unquote(names[1]), body)

    # -- promises

    def _create(self, body: Rest, key: str | None) -> Rest:
        self._finder.keep_branch(body)
        return promise_to_rest(self._store.promises.create(**self._asked(body), ikey=key))

    def _create_with_task(self, body: Rest, key: str | None) -> Rest:
        holder, ttl_ms = body["task"]["processId"], body["task"]["ttl"]
        asked, pid = self._asked(body["promise"]), self._new_pid(holder)
        promise, task = self._store.promises.create_with_task(
            **asked, pid=pid, ttl=ttl_ms, ikey=key
        )
        if task is not None:
            self._claimed(holder, task.id, task.counter, pid)
        return {"promise": promise_to_rest(promise), "task": None if task is None else {}}

    def _asked(self, body: Rest) -> dict[str, Any]:
        param, tags = body.get("param", {}), dict(body.get("tags", {}))
        if "resonate:invoke" in tags:
            tags["resonate:invoke"] = self._addresses(tags["resonate:invoke"])
        return {"id": body["id"], "timeout": body["timeout"], "tags": tags, **_value(param)}

    def _settle(self, id: str, body: Rest, key: str | None) -> Rest:
        settle = getattr(self._store.promises, _VERBS[body["state"]])
        return promise_to_rest(settle(id=id, ikey=key, **_value(body.get("value", {}))))

    def _register(self, verb: str, awaited: str, body: Rest) -> Rest:
        recv, timeout = self._addresses(body["recv"]), body["timeout"]
        if verb == "subscribe":
            promise, made = self._store.promises.subscribe(
                id=body["id"], promise_id=awaited, recv=recv, timeout=timeout
            )
        else:
            root = body["rootPromiseId"]
            promise, made = self._store.promises.callback(
                promise_id=awaited, root_promise_id=root, recv=recv, timeout=timeout
            )
        return {"promise": promise_to_rest(promise), "callback": callback_to_rest(made)}

    # -- tasks

    def _claim(self, body: Rest) -> Rest:
        task_id, counter, holder = body["id"], body["counter"], body["processId"]
        pid = self._new_pid(holder)
        root, _ = self._store.tasks.claim(id=task_id, counter=counter, pid=pid, ttl=body["ttl"])
        self._claimed(holder, task_id, counter, pid)
        return {"promises": {"root": {"data": promise_to_rest(root)}}}

    def _complete(self, body: Rest) -> None:
        self._store.tasks.complete(id=body["id"], counter=body["counter"])
        self._forget(body)

    def _drop(self, body: Rest) -> None:
        """Let the lease run out, which is all that can be done; a store that can drop, does."""
        self._forget(body)
        drop = getattr(self._store.tasks, "drop", None)
        if callable(drop):
            drop(id=body["id"], counter=body["counter"])

    def _heartbeat(self, body: Rest) -> Rest:
        claims = self._pids.get(body["processId"], {})
        count = 0
        for task, pid in list(claims.items()):
            if self._store.tasks.heartbeat(pid=pid):
                count += 1
            else:
                del claims[task]  # completed, or run out
        return {"tasksAffected": count}

    def _new_pid(self, holder: str) -> str:
        self._claims += 1
        return f"{holder}~{self._claims}"

    def _claimed(self, holder: str, task_id: str, counter: int, pid: str) -> None:
        self._pids.setdefault(holder, {})[task_id, counter] = pid

    def _forget(self, body: Rest) -> None:
        for claims in self._pids.values():
            claims.pop((body["id"], body["counter"]), None)

    # -- schedules

    def _schedule(self, method: str, id: str | None, body: Rest, key: str | None) -> Any:
        schedules = self._store.schedules
        if method == "GET":
            return schedule_to_rest(schedules.get(id))
        if method == "DELETE":
            schedules.delete(id)
            return None
        param = _value(body.get("promiseParam", {}))
        return schedule_to_rest(
            schedules.create(
                id=body["id"],
                cron=body["cron"],
                promise_id=body["promiseId"],
                promise_timeout=body["promiseTimeout"],
                ikey=key,
                tags=body.get("tags"),
                promise_headers=param["headers"],
                promise_data=param["data"],
                promise_tags=body.get("promiseTags"),
            )
        )


def _value(value: Rest) -> dict[str, Any]:
    data = value.get("data")
    return {
        "headers": value.get("headers"),
        "data": None if data is None else data_from_wire(data),
    }
