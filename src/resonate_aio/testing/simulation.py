"""Run durable functions in a test on virtual time: a year's sleep costs nothing.

    from resonate_aio.testing import simulated

    @simulated
    async def test_reminder_comes_after_a_week(resonate):
        resonate.register(remind)
        handle = resonate.begin_run("r", remind, "Ada")
        await asyncio.sleep(6 * 24 * 3600)
        assert not handle.done()
        await asyncio.sleep(24 * 3600 + 1)
        assert await handle == "reminded Ada"

The client is new, in memory, and stopped at the end; a test that waits for what can never
come fails at once (`SimDeadlock`) and names who waits. Sockets do not exist on this event
loop: give functions stand-ins with `resonate.set_dependency`. This is no pytest plugin: a
decorator needs no configuration, and works wherever a test is a function.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ..client.resonate import Resonate
from ..runtime.settings import Settings
from .theatre import MemoryStage, Theatre, refuse_what_is_no_program

T = TypeVar("T")
_CLIENT = "resonate"


def simulate(
    main: Callable[[Resonate], Awaitable[T]],
    *,
    limit_s: float | None = None,
    settings: Settings | None = None,
) -> T:
    """Run an async function once, with a client in memory, on virtual time.

    `asyncio.sleep` in it passes time; `asyncio.get_running_loop().time()` is the time in
    seconds. Call this from ordinary code, not from inside a running event loop.

    Args:
        main: Called with the client, which it need neither start nor stop.
        limit_s: Virtual seconds that it may take; None: as long as it likes.
        settings: The worker's settings.

    Returns:
        What `main` returned.

    Raises:
        SimDeadlock: Everybody waits for somebody; the message names them. So it is if all that
            is left to come is the end of a time limit that nobody chose (a year).
        FaultError: It took longer than `limit_s`, left tasks behind, or an error reached the
            event loop.
        TypeError: `main` is no async function.
        Exception: What `main` raised.
    """
    refuse_what_is_no_program(main, "simulate")
    stage = MemoryStage()
    theatre = Theatre(main, stage, settings=settings, limit_s=limit_s, refuses_forgotten=True)
    try:
        result: T = theatre.play(()).result
    finally:
        stage.close()
    return result


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of an async function with a parameter `resonate`; see `simulate`.

    Other parameters stay: pytest's fixtures and parametrised arguments arrive as usual.

    Raises:
        TypeError: It is not an async function, or has no parameter `resonate`.
    """
    signature = inspect.signature(test)
    if not inspect.iscoroutinefunction(test) or _CLIENT not in signature.parameters:
        name = getattr(test, "__qualname__", test)
        raise TypeError(f"@simulated takes an `async def` with a parameter `resonate`, got {name}")

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        simulate(lambda resonate: test(*args, resonate=resonate, **kwargs))

    others = [item for name, item in signature.parameters.items() if name != _CLIENT]
    run.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return run
