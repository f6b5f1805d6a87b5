"""Which `KeyboardInterrupt` and `SystemExit` mean the process, and which only a function.

Ctrl-C and signal handlers that call `sys.exit` raise in whatever frame happens to run: that
is the end of the process, no outcome of anything (law 8), and must reach whoever runs the
loop. The same classes raised by a function itself are its own failure: let through, they
would end the process again at every restart (law 14).

They can be told apart, but for one case: a library that reads the terminal itself and raises
`KeyboardInterrupt` by a `raise` statement of its own looks like a function that does so.
"""

from __future__ import annotations

import dis
import functools
import signal
import threading
from types import CodeType, TracebackType
from typing import Any, Final

from ..errors import ApplicationError
from ..protocol.failures import shown_error

_RAISE: Final = dis.opmap["RAISE_VARARGS"]


def ends_process(error: BaseException) -> bool:
    """Whether a signal raised this, rather than the code it was raised in."""
    if not isinstance(error, KeyboardInterrupt | SystemExit):
        return False
    if threading.current_thread() is not threading.main_thread():
        return False  # signals are handled on the main thread only
    innermost: TracebackType | None = None
    trace = error.__traceback__
    handlers = _handlers()
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        innermost, trace = trace, trace.tb_next
    if innermost is None or isinstance(error, SystemExit):
        return False
    # Python's own handler is no frame: it raises between two instructions, or out of a call.
    return innermost.tb_frame.f_code.co_code[innermost.tb_lasti] != _RAISE


def contained(error: BaseException) -> ApplicationError:
    """What a function's own `KeyboardInterrupt` or `SystemExit` is to those who await it."""
    made = ApplicationError(type(error).__name__, f"raised as {shown_error(error)}")
    made.__cause__ = error
    return made


def is_led_to_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether it is such an error, holds one in a group, or was raised because of one."""
    seen: set[int] = set()
    found: list[BaseException | None] = [error]
    while found:
        one = found.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, kind):
            return True
        seen.add(id(one))
        found += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            found += one.exceptions
    return False


def _handlers() -> set[CodeType]:
    """The code of the signal handlers that are written in Python."""
    found = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if code is not None:
            found.add(code)
    return found
