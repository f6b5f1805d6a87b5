"""What a call says of itself when it is created: arguments, fingerprint, deadline, tags."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from ..errors import ContextMisuseError
from ..execution.call import DETACHED, RUN, TIMEOUT, CallKind
from ..execution.fingerprint import fingerprint, fingerprint_prefix, function_of
from ..execution.log import FINGERPRINT_HEADER
from ..protocol.idempotency import key_for, tagged
from ..protocol.records import Promise
from ..protocol.values import are_plain, encode
from . import encoding
from .functions import INLINE
from .options import NO_OPTIONS, with_key

if TYPE_CHECKING:
    from .awaitables import DurableCall

logger = logging.getLogger("resonate_aio.runtime")

NO_TAGS: Final[dict[str, str]] = {}
_TIMER_TAGS: Final = {"resonate:timer": "true", "resonate:scope": "global"}
_EXTERNAL_TAGS: Final = {"resonate:external": "true", "resonate:scope": "global"}


def describe(call: DurableCall[Any], arguments_count: bool) -> None:
    """Encode the arguments of a call and take its fingerprint.

    Args:
        arguments_count: Whether they do unless an option of the call says otherwise (S43).
    """
    callee = call.callee
    options = call.options_
    if options is not NO_OPTIONS and options.encoder is not None:
        encoding.describe(call)
    elif call.kind is RUN and callee is not None:
        args = call.args
        if call.kwargs or not callee.fewest <= len(args) <= callee.most:
            callee.check(args, call.kwargs)
        if call.kwargs:
            call.data = encode({"args": args, "kwargs": call.kwargs})
        elif args or callee.kind is not INLINE:
            call.data = encode(args)
            call.takes_live = callee.takes_plain and are_plain(args)
        call.variables = copy_context()
        call.fingerprint = fingerprint(callee.run_prefix, call.data)
    elif callee is not None:
        version = options.version or callee.version
        call.data = callee.invocation(call.args, call.kwargs, version)
        prefix = fingerprint_prefix(call.kind, callee.name, version)
        call.fingerprint = fingerprint(prefix, call.data)
    else:
        if call.args:
            call.data = encode(call.args[0])
        call.fingerprint = fingerprint(fingerprint_prefix(call.kind, "", 1), call.data)
    if options is not NO_OPTIONS:
        call.arguments_count = options.check_arguments
        call.durable = options.durable
        if options.id is not None:
            _refuse_own_id(call, options.id)
            call.promise_id = options.id
        if options.idempotency_key is not None:
            call.options_ = with_key(options, call.promise_id)
    if not arguments_count:
        call.arguments_count = False


def deadline_ms(call: DurableCall[Any], now_ms: int, default_s: float) -> int:
    """When the promise of a call times out: not after its body's, `detached` excepted (law 10)."""
    parent_ms = call.home.call.timeout_at_ms
    limit_s = call.delay_s if call.delay_s is not None else call.options_.timeout_s
    if call.kind is DETACHED:
        return now_ms + int((limit_s if limit_s is not None else default_s) * 1000)
    if limit_s is None:
        return parent_ms
    return min(parent_ms, now_ms + int(limit_s * 1000))


def tags_of(call: DurableCall[Any], target: Callable[[str | None], str]) -> dict[str, str]:
    """The tags of a call's promise.

    Args:
        target: Makes an address of a target, or of none (S65).
    """
    kind = call.kind
    given = call.options_.tags
    key = call.options_.idempotency_key
    if key is not None:
        given = tagged(given or {}, key_for(key, call.promise_id), call.promise_id)
    if kind is RUN:
        return given if given is not None else NO_TAGS
    if kind is CallKind.SLEEP or kind is TIMEOUT:
        return _TIMER_TAGS
    tags = dict(_EXTERNAL_TAGS) if kind is CallKind.PROMISE else {"resonate:scope": "global"}
    if given:
        tags.update(given)
    if kind is not CallKind.PROMISE:
        tags["resonate:target"] = target(call.options_.target)
    return tags


def global_to(target: str) -> dict[str, str]:
    """The tags of a promise that is to run at an address."""
    return {"resonate:scope": "global", "resonate:target": target}


def warn_if_other(call: DurableCall[Any], standing: Promise) -> None:
    """An explicit id that was used for something else: its outcome counts (S29a)."""
    recorded = (standing.param.headers or {}).get(FINGERPRINT_HEADER)
    begun = function_of(standing) if recorded is None else None
    if begun is not None and (call.callee is None or call.callee.name != begun):
        recorded = f"an execution of {begun!r}"
    if recorded is not None and recorded != call.fingerprint:
        logger.warning(
            "promise %r exists already and is joined: it was made by %s, now asked for by %s",
            call.promise_id,
            recorded,
            call.fingerprint,
            extra={"id": call.promise_id},
        )


def _refuse_own_id(call: DurableCall[Any], id: str) -> None:
    """A call cannot have the id of a function that waits for it."""
    above: Any = call.home
    while above is not None:
        if above.id == id:
            raise ContextMisuseError(
                f"a call of {call.home.id!r} was given the id {id!r}, which is that of a function "
                "it runs in: it would wait for itself; choose another id"
            )
        above = above.call.body
