"""One call of a client on its way through the store, without a task of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..errors import ResonateShutdownError, ValueCodecError
from ..protocol.records import Promise, is_pending
from ..protocol.requests import PromiseGet, Reply, Request, TaskCreate, TaskRelease
from ..protocol.values import decode
from ..runtime.functions import Callee
from ..runtime.options import CallOptions
from ..runtime.worker import FOREVER_MS
from .handle import Handle

if TYPE_CHECKING:
    from .core import ClientCore

_IN_USE: Final = frozenset({409, 422})
"""The id is joined (law 1): its task is held elsewhere, or it has none, as a local call's."""


class Begin:
    """One `begin_run` or `begin_rpc` on its way through the store, without a task of its own."""

    __slots__ = ("_callee", "_core", "_create", "_data", "_handle", "_here", "_options", "args")

    def __init__(
        self,
        core: ClientCore,
        handle: Handle[Any],
        callee: Callee,
        options: CallOptions,
        data: str,
        *,
        here: bool,
    ) -> None:
        self._core = core
        self._handle = handle
        self._callee = callee
        self._options = options
        self._data = data
        self._here = here
        self.args: tuple[Any, ...] | None = None

    def send(self) -> None:
        """Create the promise; here, with its task held by this process."""
        core, handle = self._core, self._handle
        create = core.create_request(handle._id, self._data, self._options, here=self._here)
        self._create = create
        if self._here:
            self._post(TaskCreate(core.pid, FOREVER_MS, create), self._task_created)
        else:
            self._post(create, self._joined)

    def _post(self, request: Request, then: Callable[[Reply], None]) -> None:
        core = self._core
        try:
            reply = core.store.post(request, self._answered, then)
        except Exception as error:  # noqa: BLE001  it belongs to those who await the handle
            self._handle._failed(error)
            return
        if reply is not None:
            then(reply)
        else:
            core.asked.add(self)

    def _answered(self, then: Callable[[Reply], None], reply: Reply | BaseException) -> None:
        self._core.has_answer(self)
        if not isinstance(reply, Reply):
            if self._core._worker is None:
                reply = ResonateShutdownError(
                    f"the client was stopped while {self._handle.id!r} was starting"
                )
            self._handle._failed(reply)
        elif self._core._worker is None:
            self._stopped_meanwhile(reply)
        else:
            then(reply)

    def _stopped_meanwhile(self, reply: Reply) -> None:
        """The client was stopped while the store was asked: nobody here hears how it ends."""
        handle = self._handle
        if reply.status == 200:
            handle._stored()
        handle._failed(
            ResonateShutdownError(
                f"the client was stopped while {handle.id!r} was starting; what was stored goes on "
                "when a client that knows its function starts again"
            )
        )
        if reply.task is not None and reply.promise is not None and is_pending(reply.promise):
            # Another client may have the same store open: it must not wait for us.
            self._post(TaskRelease(handle.id, reply.task.version), _nothing)

    def _task_created(self, reply: Reply) -> None:
        core, handle = self._core, self._handle
        if reply.status in _IN_USE:
            self._post(PromiseGet(handle.id), self._joined)
            return
        promise, worker = reply.promise, core._worker
        if promise is not None and promise.param.data is not self._data and self._is_other(reply):
            return
        if promise is not None and is_pending(promise) and worker is not None:
            core.held_here(handle)
            worker.begin(reply, self._callee, self._options, self.args, core.on_ended)
        else:
            core.stored(handle, reply)

    def _is_other(self, reply: Reply) -> bool:
        """Whether the id stands for another call: it is given back, and joined if we may."""
        core, handle, promise = self._core, self._handle, reply.promise
        assert promise is not None
        is_refused = core.is_refused(handle, promise, self._options.idempotency_key)
        if not is_refused and _is_same(promise.param.data, self._data):
            return False
        if is_pending(promise) and reply.task is not None:
            self._post(TaskRelease(handle.id, reply.task.version), _nothing)
        if not is_refused:
            core.stored(handle, reply)
            self._warn_of_other(promise)
        return True

    def _joined(self, reply: Reply) -> None:
        core, handle, promise = self._core, self._handle, reply.promise
        if core.is_refused(handle, promise, self._options.idempotency_key):
            return
        core.stored(handle, reply)
        if promise is not None and not _is_same(promise.param.data, self._data):
            self._warn_of_other(promise)

    def _warn_of_other(self, promise: Promise) -> None:
        """Say that the id stands for another call, unless a release alone made it another.

        Who names no version means the newest, which changes: a request that is repeated after a
        release asks for what it asked for before.
        """
        if self._options.version or not _is_other_version(promise.param.data, self._data):
            self._core.warn_of_other(promise, self._create)


def _is_same(recorded: str | None, asked: str) -> bool:
    """Whether both are the same call; what an encoder wrote may differ each time (K9)."""
    if recorded == asked:
        return True
    if recorded is None:
        return False
    if '"encoder"' not in recorded or '"encoder"' not in asked:
        return recorded == f'{asked[:-1]},"version":0}}'  # as legacy servers hold it
    return bool(_without_arguments(recorded) == _without_arguments(asked))


def _is_other_version(recorded: str | None, asked: str) -> bool:
    """Whether the version is all in which two calls differ."""
    if recorded is None:
        return False
    calls = []
    for data in (recorded, asked):
        try:
            call = decode(data)
        except ValueCodecError:
            return False
        if not isinstance(call, dict):
            return False
        call["version"] = 0
        if "encoder" in call:  # what it wrote may differ each time (K9)
            call["args"] = call["kwargs"] = None
        calls.append(call)
    return bool(calls[0] == calls[1])


def _without_arguments(data: str) -> Any:
    try:
        invocation = decode(data)
    except ValueCodecError:
        return data
    if not isinstance(invocation, dict):
        return invocation
    return [invocation.get("func"), invocation.get("version", 0), invocation.get("encoder")]


def _nothing(_: Reply) -> None:
    """Nobody waits for this answer."""
