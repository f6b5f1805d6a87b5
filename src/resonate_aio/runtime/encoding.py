"""Calls with an encoder of their own (K9): the way of their arguments and outcomes.

Everything here is off the way of an ordinary call, and every encoder may be a coroutine:
outcomes are encoded and decoded in tasks of the worker, arguments of an rpc before it is
asked for. What is stored names the encoder, never anything to import or call. Trouble with
an encoder (a key service that is down) is no outcome: the execution is put aside and tried
again (law 8, S42); only a value that it refuses is the step's failure (S24).

Arguments of a local call are not stored at all: a replay has them from the program. Their
digest is, unless `check_arguments=False`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ..encoders import Encoder, name_of
from ..errors import ResonateError, ValueCodecError
from ..execution.call import CALLED, RUN
from ..execution.execution import ALIVE, Execution
from ..execution.fingerprint import digest, fingerprint_prefix
from ..protocol.failures import rebuild
from ..protocol.records import Promise, PromiseState, Value
from ..protocol.values import Shape, decode, encode
from .awaitables import DurableCall, RootCall
from .endings import ends_process
from .functions import Callee
from .outcomes import ENCODER_HEADER, outcome_of, settlement

if TYPE_CHECKING:
    from .scheduler import Scheduler

R = TypeVar("R")

_PLAIN: Final = (dict, list, str, int, float, bool, type(None))


class EncodedCall(DurableCall[R]):
    """A call whose encoder may have to be awaited before the call is asked for."""

    sealed: str | None = None
    _sealing: Any = None
    _is_sealed: bool = False

    def start(self) -> None:
        """Ask for the call, unless its encoder has to be awaited first."""
        if self._sealed_now() or self.state is not CALLED:
            super().start()
        elif self.home.generator is not None:
            if inspect.iscoroutine(self._sealing):
                self._sealing.close()
            self.home.refused(self)
            raise TypeError(
                f"{self.id!r}: a generator cannot use an encoder whose encode() is awaited; write "
                "the function as async def"
            )

    def __await__(self) -> Generator[Any, Any, R]:
        if not self.home.is_dead and self.state is CALLED and not self._sealed_now():
            try:
                made = yield from self._sealing.__await__()
                self.sealed = _text(made)
            except BaseException:
                self.home.refused(self)
                raise
            self._is_sealed = True
        return (yield from super().__await__())

    def _sealed_now(self) -> bool:
        """Whether the arguments are encoded; encodes them unless that has to be awaited."""
        if self.kind is RUN or self._is_sealed:
            return True
        if self._sealing is None:
            try:
                made = self.options_.encoder.encode({"args": self.args, "kwargs": self.kwargs})
                if not inspect.isawaitable(made):
                    self.sealed = _text(made)
            except BaseException:
                self.home.refused(self)
                raise
            if not inspect.isawaitable(made):
                self._is_sealed = True
            else:
                self._sealing = made
        return self._is_sealed


def describe(call: DurableCall[Any]) -> None:
    """What `Asking._describe` does, for a call with an encoder: nothing is stored in clear.

    Raises:
        TypeError: The function cannot take these arguments.
    """
    callee, options = call.callee, call.options_
    assert callee is not None  # only calls of functions take an encoder
    try:
        data: str | None = encode({"args": call.args, "kwargs": call.kwargs})
    except ValueCodecError:
        data = None  # a value that only the encoder knows: it does not count
    if call.kind is RUN:
        callee.check(call.args, call.kwargs)
        prefix = callee.run_prefix
        if data is not None:
            plain = decode(data)
            args, kwargs = callee.rebuild(plain["args"], plain["kwargs"], (call.args, call.kwargs))
            call.args, call.kwargs = tuple(args), kwargs
        call.variables = copy_context()
    else:
        version = options.version or callee.version
        prefix = fingerprint_prefix(call.kind, callee.name, version)
        assert isinstance(call, EncodedCall)
        # Whoever runs it may be this very process.
        call.home.scheduler.executions.encoders[name_of(options.encoder)] = options.encoder
        call.data = sealed_invocation(callee.name, call.sealed, version, options.encoder)
    is_checked = options.check_arguments and data is not None
    call.fingerprint = prefix + digest(data) if is_checked and data is not None else prefix


def sealed_invocation(name: str, text: str | None, version: int, encoder: Encoder) -> str:
    """What a root or rpc promise carries when an encoder wrote its arguments."""
    sealed: dict[str, Any] = {"func": name, "args": [text], "kwargs": {}}
    if version:
        sealed["version"] = version
    return encode({**sealed, "encoder": name_of(encoder)})


async def seal(encoder: Encoder, args: Any, kwargs: Any) -> str | None:
    """Arguments as the encoder writes them."""
    return _text(await _asked(encoder.encode, {"args": args, "kwargs": kwargs}))


async def open_arguments(root: RootCall, record: Promise, encoders: Mapping[str, Encoder]) -> None:
    """Decode the arguments of an execution that was started with an encoder.

    Raises:
        ValueCodecError: Its encoder is not known in this process, or failed.
    """
    data = record.param.data
    if data is None or '"encoder"' not in data:
        return
    invocation = decode(data)
    name = invocation.get("encoder") if isinstance(invocation, dict) else None
    if not isinstance(name, str):
        return
    encoder = root.options_.encoder or encoders.get(name)
    if encoder is None:
        raise _unknown(record.id, name)
    try:
        opened = await _asked(encoder.decode, root.args[0] if root.args else None)
        args, kwargs = tuple(opened["args"]), dict(opened["kwargs"])
    except Exception as error:
        raise _failed("decode the arguments of", record.id, name, error) from error
    assert root.callee is not None  # an execution has a function
    root.args, root.kwargs = _rebuilt(root.callee, args, kwargs)
    root.data, root.takes_live = None, True
    root.options_ = msgspec.structs.replace(root.options_, encoder=encoder)


async def settle(
    scheduler: Scheduler,
    execution: Execution,
    call: DurableCall[Any] | RootCall,
    value: Any,
    error: BaseException | None,
) -> None:
    """Record the outcome of a function through its encoder; `Scheduler.settled` follows."""
    try:
        state, stored = await _settlement(call, value, error)
    except Exception as trouble:  # noqa: BLE001  a user's encoder; its trouble is no outcome
        failed = _failed("encode the result of", call.id, _name(call), trouble)
        scheduler.soon(scheduler.executions.stopped, execution, failed)
        return
    scheduler.soon(partial(_record, scheduler, execution), call, (state, stored))


def _record(
    scheduler: Scheduler,
    execution: Execution,
    call: DurableCall[Any] | RootCall,
    outcome: tuple[PromiseState, Value],
) -> None:
    """From the scheduler's queue: what follows may step a body (S26)."""
    if execution.life is ALIVE:
        scheduler.asking.settle(call, *outcome)


async def _settlement(
    call: DurableCall[Any] | RootCall, value: Any, error: BaseException | None
) -> tuple[PromiseState, Value]:
    encoder: Encoder = call.options_.encoder
    callee = call.callee
    assert callee is not None
    headers = {ENCODER_HEADER: name_of(encoder)}
    if error is None:
        try:
            text = _text(await _asked(encoder.encode, value))
            # The waiter gets what a replay would read (law 3).
            call.value = _fitted(callee.result, await _asked(encoder.decode, text))
        except (TypeError, ValueError, ValueCodecError) as refused:
            error = ValueCodecError(
                f"the result of {callee.name!r} ({call.id!r}) cannot be recorded: {refused}"
            )
        else:
            call.settled_text = text
            return PromiseState.RESOLVED, Value(headers, text)
    call.value = error
    state, plain, _ = settlement(None, error, callee.result, callee.name, call.id)
    try:
        text = _text(await _asked(encoder.encode, decode(plain.data)))
    except (TypeError, ValueError, ValueCodecError):
        return state, plain
    return state, Value(headers, text)


async def read(scheduler: Scheduler, call: DurableCall[Any], record: Promise) -> None:
    """Decode the settled promise of a call, then let it arrive."""
    name = (record.value.headers or {}).get(ENCODER_HEADER, "")
    encoder = call.options_.encoder or scheduler.executions.encoders.get(name)
    shape = call.callee.result if call.callee is not None else Shape(Any)
    try:
        decoded = await encoded_outcome(record, shape, encoder)
    except ResonateError as error:
        scheduler.soon(scheduler.executions.stopped, call.home.execution, error)
        return
    call.decoded = decoded
    scheduler.soon(scheduler.settled, call, record)


async def encoded_outcome(
    record: Promise, shape: Shape, encoder: Encoder | None
) -> tuple[Any, bool]:
    """What waiters of a settled promise get: (value, False) or (error, True).

    Raises:
        ValueCodecError: The encoder is not known in this process, or failed.
    """
    name = (record.value.headers or {}).get(ENCODER_HEADER)
    if name is None:
        return outcome_of(record, shape)
    if encoder is None:
        raise _unknown(record.id, name)
    try:
        data = await _asked(encoder.decode, record.value.data)
    except Exception as error:
        raise _failed("decode the outcome of", record.id, name, error) from error
    if record.state is PromiseState.RESOLVED:
        return _fitted(shape, data), False
    return rebuild(data), True


def _fitted(shape: Shape, value: Any) -> Any:
    """Plain JSON data is rebuilt as annotated; what is more than that is what it is."""
    return shape.rebuild(value) if type(value) in _PLAIN else value


def _rebuilt(
    callee: Callee, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    positional = tuple(_fitted(callee.shape_of(index), value) for index, value in enumerate(args))
    named = {key: _fitted(callee.shape_of(key), value) for key, value in kwargs.items()}
    return positional, named


async def _asked(method: Callable[[Any], Any], value: Any) -> Any:
    """What a method of a user's encoder gives; awaited if need be.

    Whatever it raises is its failure: an exit or a cancel of its own making ends nothing else
    (law 14). A cancel of the asyncio task it runs in, and a signal, are what they always are.
    """
    try:
        made = method(value)
        return await made if inspect.isawaitable(made) else made
    except Exception:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        is_cancelled = task is not None and task.cancelling() > 0
        if ends_process(error) or (isinstance(error, asyncio.CancelledError) and is_cancelled):
            raise
        raise RuntimeError(f"it raised {type(error).__name__}") from error


def _text(made: Any) -> str | None:
    if made is not None and not isinstance(made, str):
        raise TypeError(f"an encoder's encode() gives text or None, got {type(made).__name__}")
    return None if made is None else str.__str__(made)


def _name(call: DurableCall[Any] | RootCall) -> str:
    return name_of(call.options_.encoder)


def _failed(verb: str, id: str, name: str, error: Exception) -> ValueCodecError:
    failed = ValueCodecError(f"the encoder {name!r} failed to {verb} {id!r}: {error!r}")
    failed.__cause__ = error
    return failed


def _unknown(id: str, name: str) -> ValueCodecError:
    return ValueCodecError(
        f"{id!r} was written by the encoder {name!r}, which this process does not know: give "
        "that encoder to resonate.options(encoder=...) before the client starts"
    )
