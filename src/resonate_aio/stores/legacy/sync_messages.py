"""A message source of SDK release 0.6.7: `next()` blocks, so a thread of its own asks it.

A message is a hint (S50). What it says of a promise is not believed: the promise is read. Tasks
that resume an execution are named `__resume:{root}:{awaited}` there, without the root, and both
may hold colons: the root is looked for in the store.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from ...errors import ResonateStoreError
from ...protocol.requests import Execute, Message
from ...uncut import uncut
from . import codec
from .messages import Decode
from .sync_records import promise_to_rest, status_of
from .sync_session import SyncSession

logger = logging.getLogger("resonate_aio.stores.legacy")

_END_S: Final = 5.0
_EMPTY_S: Final = 0.05
"""Between two looks at a source that gives nothing at once: `next` may, and must not spin."""

_AGAIN_S: Final = 1.0
_NOBODY: Final = "resonate-aio-"
"""The group of a worker that takes no tasks (see `Messages.join`)."""


class Addresses:
    """The names of this process in the store: its source may call them otherwise than we do."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._ours: dict[str, str] = {}

    def known_as(self, group: str, pid: str) -> None:
        """Our own names from now on."""
        self._ours = {
            f"poll://uni@{group}/{pid}": str(self._source.unicast),
            f"poll://any@{group}/{pid}": str(self._source.anycast),
        }

    def __call__(self, address: str) -> str:
        """What the store is to be told: our own addresses by its names for them."""
        return self._ours.get(address, address)


class SyncMessages:
    """The message source of one worker, over an object of release 0.6.7.

    Args:
        source: `start`, `stop` and a blocking `next`, which gives None when it was stopped.
        store: The object of that release.
        session: Where calls of both are made.
        decode: Reads a message of the legacy server.
    """

    def __init__(
        self,
        source: Any,
        store: Any,
        session: SyncSession,
        addresses: Addresses,
        decode: Decode,
    ) -> None:
        self._source = source
        self._store = store
        self._session = session
        self._addresses = addresses
        self._decode = decode
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._following: set[asyncio.Task[None]] = set()
        self._end: asyncio.Task[None] | None = None

    async def start(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        connected: Callable[[], None] | None = None,
    ) -> None:
        """Begin to deliver, from the event loop: see `MessageSource`."""
        self._session.before_close(self.stop)
        self._addresses.known_as(group, pid)
        loop = asyncio.get_running_loop()
        takes_tasks = not group.startswith(_NOBODY)

        def heard(said: Mapping[str, Any]) -> None:
            task = loop.create_task(self._follow(said, deliver, takes_tasks=takes_tasks))
            self._following.add(task)
            task.add_done_callback(self._following.discard)

        def listen() -> None:
            self._listen(lambda said: loop.call_soon_threadsafe(heard, said))

        while True:
            try:
                await self._session.in_thread(self._source.start)
                break
            except Exception:
                logger.warning("the message source did not start; tried again", exc_info=True)
                await asyncio.sleep(_AGAIN_S)
        self._thread = threading.Thread(target=listen, name="resonate_aio messages", daemon=True)
        self._thread.start()
        if connected is not None:
            connected()

    async def stop(self) -> None:
        """Stop the source; its thread has ended on return, or is named in a warning.

        Cancelling does not cancel it: it is over when the session is closed.
        """
        if self._end is None:
            self._end = uncut(asyncio.get_running_loop(), self._stop)
        await asyncio.shield(self._end)

    async def _stop(self) -> None:
        self._stopping.set()
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        thread = self._thread
        if thread is None:
            return
        with suppress(ResonateStoreError):
            await self._session.in_thread(lambda: self._stop_source(thread))
        self._thread = None  # not before: it may be cut

    def _stop_source(self, thread: threading.Thread) -> None:
        try:
            self._source.stop()
        except Exception:
            logger.warning("the message source did not stop as it should", exc_info=True)
        thread.join(_END_S)
        if thread.is_alive():
            logger.warning(
                "next() of the message source %s did not return after stop(); its thread is left",
                type(self._source).__qualname__,
            )

    # -- on the thread

    def _listen(self, heard: Callable[[Mapping[str, Any]], Any]) -> None:
        while not self._stopping.is_set():
            try:
                said = self._source.next()
            except Exception:
                logger.warning("next() of the message source failed", exc_info=True)
                self._stopping.wait(_AGAIN_S)
                continue
            if said is None:
                self._stopping.wait(_EMPTY_S)
                continue
            with suppress(RuntimeError):  # the loop was closed under us
                heard(said)

    # -- on the loop

    async def _follow(
        self, said: Any, deliver: Callable[[Message], None], *, takes_tasks: bool
    ) -> None:
        try:
            complete = await self._session.in_thread(lambda: self._complete(said))
            message = None if complete is None else self._decode(complete)
        except Exception as error:  # noqa: BLE001  a hint is lost, the store says it again
            logger.warning("a message that is of no use: %r", error)
            return
        if message is not None and (takes_tasks or not isinstance(message, Execute)):
            deliver(message)

    def _complete(self, said: Any) -> dict[str, Any] | None:
        """The message as the legacy server would send it, with what it leaves out."""
        if said["type"] == "notify":
            promise = self._store.promises.get(said["promise"]["id"])
            return {"type": "notify", "promise": promise_to_rest(promise)}
        task = dict(said["task"])
        if not task.get("rootPromiseId"):
            root = self._root_of(task["id"])
            if root is None:
                raise ValueError(f"no promise is known that task {task['id']!r} executes")
            task["rootPromiseId"] = root
        return {"type": said["type"], "task": task}

    def _root_of(self, task_id: str) -> str | None:
        if task_id.startswith(codec.INVOKE):
            return task_id.removeprefix(codec.INVOKE)
        if not task_id.startswith(codec.RESUME):
            return None
        parts = task_id.removeprefix(codec.RESUME).split(":")
        pairs = ((":".join(parts[:n]), ":".join(parts[n:])) for n in range(1, len(parts)))
        found = [root for root, awaited in pairs if self._is_target(root) and self._is(awaited)]
        return found[0] if len(found) == 1 else None

    def _is_target(self, id: str) -> bool:
        promise = self._get(id)
        return promise is not None and "resonate:invoke" in (promise.tags or {})

    def _is(self, id: str) -> bool:
        return self._get(id) is not None

    def _get(self, id: str) -> Any:
        try:
            return self._store.promises.get(id)
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise
