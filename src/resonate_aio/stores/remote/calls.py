"""One request to a server of the current protocol, and what a lost answer meant (S60).

A request is sent until there is an answer to it. An earlier try, or a copy that a proxy made,
may have been carried out without our hearing of it: then a refusal says nothing, the record
does. This
file knows envelopes; it knows no worker and no waiting.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import Any, Final

import msgspec
import orjson

from ...protocol.envelope import FieldError, reply_from_wire, request_to_wire
from ...protocol.records import Task, TaskState, is_pending
from ...protocol.requests import (
    PromiseGet,
    Reply,
    Request,
    ScheduleDelete,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFulfill,
    TaskGet,
    TaskHeartbeat,
    TaskRelease,
    TaskSuspend,
)
from ..http.answers import REFUSED, TOO_LARGE, Answer, TroubleError, too_large
from ..http.session import HttpSession, Lane

_PATH: Final = "/"
_NOT_SERVED: Final = 501
_CONFLICT: Final = 409
_ABSENT: Final = 404
_DONE: Final = 200
_TOO_MANY: Final = 429


class RemoteCalls:
    """Requests to one server.

    Args:
        http: The session; this object opens and closes nothing.
        is_held: Whether this client holds a task at this version, as far as it knows.
    """

    __slots__ = ("_correlations", "_http", "is_held")

    def __init__(self, http: HttpSession) -> None:
        self._http = http
        start = Random().getrandbits(40)  # noqa: S311  told apart from others, not secret
        self._correlations = itertools.count(start)
        self.is_held: Any = _never

    @property
    def is_away(self) -> bool:
        """Whether the log says that the server does not answer."""
        return self._http.is_away

    async def ask(self, request: Request, *, tries: int | None = None) -> Reply:
        """Carry out one request.

        Args:
            tries: How often to send at most; None: until there is an answer.

        Raises:
            ResonateStoreError: The credentials are refused, or the tries are used up.
        """
        lane = Lane.BEAT if isinstance(request, TaskHeartbeat) else Lane.WORK
        reply, maybe_done = await self._exchange(request, lane, tries)
        if reply.status in {_ABSENT, _CONFLICT}:
            return await self._after_refusal(request, reply, maybe_done=maybe_done)
        return reply

    async def _exchange(
        self, request: Request, lane: Lane, tries: int | None
    ) -> tuple[Reply, bool]:
        """One exchange of envelopes, and whether there may have been an earlier one."""
        sent, sent_bytes = "", 0

        def body(token: str | None) -> bytes:
            # A new number for each try: the answer to an earlier one is told apart.
            nonlocal sent, sent_bytes
            sent = f"{next(self._correlations):x}"
            written = orjson.dumps(request_to_wire(request, sent, auth=token))
            sent_bytes = len(written)
            return written

        def read(answer: Answer) -> Reply:
            return self._read(request, sent, sent_bytes, answer)

        return await self._http.exchange("POST", _PATH, read, body=body, lane=lane, tries=tries)

    def _read(self, request: Request, sent: str, sent_bytes: int, answer: Answer) -> Reply:
        try:
            reply = reply_from_wire(request, sent, orjson.loads(answer.body))
        except (FieldError, orjson.JSONDecodeError, RecursionError) as error:
            fault = too_large(answer, sent_bytes)
            if fault is not None:
                return Reply(TOO_LARGE, error=fault)
            raise TroubleError(
                f"status {answer.status} for {sent_bytes:,} bytes, without an answer of the "
                f"current protocol ({error}); is it a Resonate server?"
            ) from error
        # Some servers answer 200 to every POST and say in the envelope what it came to.
        if reply.status in REFUSED:
            raise self._http.refused(msgspec.structs.replace(answer, status=reply.status))
        if reply.status == _TOO_MANY or (reply.status >= 500 and reply.status != _NOT_SERVED):
            raise TroubleError(
                f"status {reply.status}: {reply.error}", untouched=reply.status == _TOO_MANY
            )
        return reply

    # -- after a refusal

    async def _fulfilled(self, request: TaskFulfill, refused: Reply) -> Reply:
        """A refused fulfil: if the promise is settled, that is the outcome, whoever did it."""
        found = await self.ask(PromiseGet(request.id))
        if found.promise is not None and not is_pending(found.promise):
            return Reply(_DONE, promise=found.promise)
        return refused

    async def _after_refusal(self, request: Request, refused: Reply, *, maybe_done: bool) -> Reply:
        """What the record says. Proxies send twice what we sent once: claims always look."""
        match request:
            case TaskFulfill():
                return await self._fulfilled(request, refused)
            case TaskCreate(pid=pid, action=action):
                return await self._if_ours(action.id, pid, None, refused)
            case TaskAcquire(id=id, version=version, pid=pid):
                return await self._if_ours(id, pid, version + 1, refused)
            case TaskSuspend(id=id, version=version):
                task = await self._task(id)
                given_back = {TaskState.SUSPENDED, TaskState.PENDING}
                is_done = task is not None and task.version == version and task.state in given_back
                return Reply(_DONE) if is_done else refused
            case TaskRelease() | ScheduleDelete() if maybe_done:
                return Reply(_DONE)
            case TaskContinue(id=id) if maybe_done:
                task = await self._task(id)
                is_done = task is not None and task.state is not TaskState.HALTED
                return Reply(_DONE) if is_done else refused
            case _:
                return refused

    async def _if_ours(self, id: str, pid: str, version: int | None, refused: Reply) -> Reply:
        """The claim was refused; it is ours all the same if its first try was carried out.

        The holder's name is never used twice, so a task that is held under it is this one's.
        """
        task = await self._task(id)
        if (
            task is None
            or task.state is not TaskState.ACQUIRED
            or task.pid != pid
            or (version is not None and task.version != version)
            or self.is_held(id, task.version)
        ):
            return refused
        found = await self.ask(PromiseGet(id))
        if found.promise is None:
            return refused
        return Reply(_DONE, promise=found.promise, task=task)

    async def _task(self, id: str) -> Task | None:
        return (await self.ask(TaskGet(id))).task


def _never(id: str, version: int) -> bool:
    return False
