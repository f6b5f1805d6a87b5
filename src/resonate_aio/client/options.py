"""Options that come before calls: `ctx.options(...)`, and what a client's do not reach."""

from __future__ import annotations

import logging
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack
from weakref import WeakSet

from ..execution.call import RUN, CallKind
from ..runtime.awaitables import OPTION_KEYS, DurableCall, DurablePromise
from ..runtime.options import (
    CONTEXT_KEYS,
    NO_OPTIONS,
    PROMISE_KEYS,
    CallOptions,
    ContextOptions,
    change,
)
from ..runtime.time_limits import TimeLimit
from .context import Context

if TYPE_CHECKING:
    from ..runtime.bodies import LiveBody
    from .core import ClientCore

T = TypeVar("T")

logger = logging.getLogger("resonate_aio.client")


class ContextWithOptions(Context):
    """What `ctx.options(...)` gives: the same ctx, whose calls have these options from the start.

    A class of its own, so that calls without options pay nothing for it. The options are checked
    against the kind of call before the call is made: one that is refused takes no id.
    """

    __slots__ = ("_given", "_names")

    def __init__(
        self,
        core: ClientCore,
        body: LiveBody,
        given: CallOptions = NO_OPTIONS,
        names: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(core, body)
        self._given = given
        self._names = names

    def options(self, **options: Unpack[ContextOptions]) -> ContextWithOptions:
        """The same with further options, which win over those given before."""
        given = change(self._given, options, CONTEXT_KEYS)
        names = {name for name, value in options.items() if value is not None}
        return ContextWithOptions(self._core, self._body, given, self._names | names)

    def run(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[Any]:
        """As `Context.run`, with these options."""
        self._check(RUN)
        return self._with(super().run(func, *args, **kwargs), sys._getframe(1))

    def begin_run(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[Any]:
        """As `Context.begin_run`, with these options."""
        self._check(RUN)
        return self._with(super().begin_run(func, *args, **kwargs), sys._getframe(1))

    lfc = run
    lfi = begin_run

    def rpc(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[Any]:
        """As `Context.rpc`, with these options."""
        self._check(CallKind.RPC)
        return self._with(super().rpc(func, *args, **kwargs), sys._getframe(1))

    def begin_rpc(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[Any]:
        """As `Context.begin_rpc`, with these options."""
        self._check(CallKind.RPC)
        return self._with(super().begin_rpc(func, *args, **kwargs), sys._getframe(1))

    rfc = rpc
    rfi = begin_rpc

    def detached(self, func: Any, *args: Any, **kwargs: Any) -> DurableCall[DurablePromise[Any]]:
        """As `Context.detached`, with these options."""
        self._check(CallKind.DETACHED)
        return self._with(super().detached(func, *args, **kwargs), sys._getframe(1))

    def promise(self, **given: Any) -> DurableCall[DurablePromise[Any]]:
        """As `Context.promise`, with these options; its own arguments win."""
        self._check(CallKind.PROMISE)
        call = super().promise(**given)
        given.pop("data", None)
        call.made_at(sys._getframe(1))
        call.take_options(change(self._given, given, PROMISE_KEYS))
        return call

    def sleep(self, *args: Any, **kwargs: Any) -> DurableCall[None]:
        """As `Context.sleep`, with these options."""
        self._check(CallKind.SLEEP)
        return self._with(super().sleep(*args, **kwargs), sys._getframe(1))

    def timeout(self, *args: Any, **kwargs: Any) -> TimeLimit:
        """As `Context.timeout`, which takes no options."""
        self._check(CallKind.TIMEOUT)
        return super().timeout(*args, **kwargs)

    def _inline(self, *args: Any, **kwargs: Any) -> DurableCall[Any]:
        self._check(RUN)
        return self._with(super()._inline(*args, **kwargs), sys._getframe(2))

    def _check(self, kind: CallKind) -> None:
        """Refuse the options that this kind of call does not take (X11, X12)."""
        allowed = OPTION_KEYS.get(kind, frozenset())
        unknown = self._names - allowed
        if unknown:
            raise TypeError(
                f"ctx.{kind} does not take the option {', '.join(sorted(unknown))} that "
                f"ctx.options was given; allowed here: {', '.join(sorted(allowed)) or 'none'}"
            )

    def _with(self, call: DurableCall[T], site: FrameType) -> DurableCall[T]:
        call.made_at(site)
        call.take_options(self._given)
        return call


_told: WeakSet[ClientCore] = WeakSet()
"""The clients whose user was told."""


def tell_of_unsent(core: ClientCore, options: CallOptions, id: str, verb: str) -> None:
    """Say, once in a client's life, that options of its process do not travel with a call.

    It is no error: one set of options may be meant for `run` and `rpc` together, and the SDK
    guide's example is such a one. ctx calls refuse them: there they are given for one call.
    """
    unsent = [
        name
        for name, is_given in (
            ("retry_policy", options.retry_policy is not None),
            ("non_retryable_exceptions", bool(options.non_retryable_exceptions)),
        )
        if is_given
    ]
    if unsent and core not in _told:
        _told.add(core)
        logger.warning(
            "%r: the option %s does not travel with %s, and has no effect: give it where the "
            "function runs, to a step of it, ctx.run(...).options(%s=...) (told once)",
            id,
            ", ".join(unsent),
            verb,
            unsent[0],
            extra={"id": id},
        )
