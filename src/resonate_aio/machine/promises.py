"""The promise.* requests, guard by guard (current-protocol §5).

Schema faults are answered before these run. Every named id is touched first, so what is
stored is what a reader may see.
"""

from __future__ import annotations

from ..protocol.records import EMPTY, Promise, is_external
from ..protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    Reply,
    Unblock,
)
from .search import after, search_promises
from .state import WATCHED, State
from .transitions import PENDING, TASK_ACQUIRED, create, settle, touch


def promise_get(state: State, request: PromiseGet, now_ms: int) -> Reply:
    """Read one promise."""
    promise = touch(state, request.id, now_ms)
    return absent("promise", request.id) if promise is None else Reply(200, promise)


def promise_create(state: State, request: PromiseCreate, now_ms: int) -> Reply:
    """Create a promise; an existing id is answered as it stands, nothing is compared."""
    promise = touch(state, request.id, now_ms)
    if promise is None:
        promise = create(state, asked(request, now_ms), now_ms, now_ms)
    return Reply(200, promise)


def promise_settle(state: State, request: PromiseSettle, now_ms: int) -> Reply:
    """Settle a live promise; a settled one is answered as it stands, whatever was asked."""
    promise = touch(state, request.id, now_ms)
    if promise is None:
        return absent("promise", request.id)
    if promise.state is PENDING:
        promise = settle(state, promise, request.state, request.value, now_ms)
        _tell_owner(state, promise)
    return Reply(200, promise)


def _tell_owner(state: State, promise: Promise) -> None:
    """Whoever drives the execution that a call belongs to hears that others settled it (S13).

    What owns it may be a call with an explicit id, of which only its shell knows where it runs.
    """
    owner = state.tasks.get(promise.owner)
    if promise.owner and (owner is None or owner.state is TASK_ACQUIRED):
        state.outbox["held", promise.id] = (WATCHED, Unblock(promise))


def promise_register_callback(state: State, request: PromiseRegisterCallback, now_ms: int) -> Reply:
    """Let the awaited promise wake the awaiter's task; no write unless both are live."""
    awaited = touch(state, request.awaited, now_ms)
    if awaited is None:
        return absent("promise", request.awaited)
    awaiter = touch(state, request.awaiter, now_ms)
    if awaiter is None:
        return Reply(422, error=f"awaiter {request.awaiter!r} does not exist")
    if "resonate:target" not in awaiter.tags:
        return Reply(422, error=f"awaiter {request.awaiter!r} has no target and so no task")
    if not is_external(awaited):
        return internal(request.awaited)
    if awaited.state is PENDING and awaiter.state is PENDING:
        add_callback(state, request.awaited, request.awaiter)
    return Reply(200, awaited)


def promise_register_listener(state: State, request: PromiseRegisterListener, now_ms: int) -> Reply:
    """Let the awaited promise notify an address; a settled one notifies nobody any more."""
    awaited = touch(state, request.awaited, now_ms)
    if awaited is None:
        return absent("promise", request.awaited)
    if not is_external(awaited):
        return internal(request.awaited)
    if awaited.state is PENDING:
        addresses = state.listeners.setdefault(request.awaited, {})
        if request.address not in addresses:
            addresses[request.address] = None
            state.changed[request.awaited] = None
    return Reply(200, awaited)


def promise_search(state: State, request: PromiseSearch, now_ms: int) -> Reply:
    """List the promises in memory by state and tags."""
    return search_promises(after(state, request.cursor), request, now_ms)


def asked(request: PromiseCreate, now_ms: int) -> Promise:
    """The record that a create asks for, before its deadline is judged."""
    return Promise(
        request.id,
        PENDING,
        request.timeout_at_ms,
        now_ms,
        request.param,
        EMPTY,
        request.tags,
        None,
        request.owner,
    )


def add_callback(state: State, awaited: str, awaiter: str) -> None:
    """Register a callback once; both promises are known to be live."""
    awaiters = state.callbacks.setdefault(awaited, {})
    if awaiter not in awaiters:
        awaiters[awaiter] = None
        state.changed[awaited] = None


def absent(what: str, id: str) -> Reply:
    """404 naming the id."""
    return Reply(404, error=f"{what} {id!r} does not exist")


def internal(id: str) -> Reply:
    """422 for waiting on a promise that nobody else may wait for (C2, C3)."""
    return Reply(
        422,
        error=f"promise {id!r} is internal and cannot be waited for: it has none of the tags "
        "resonate:target, resonate:timer, resonate:external, resonate:scope=global",
    )
