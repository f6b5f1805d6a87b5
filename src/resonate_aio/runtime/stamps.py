"""Which body an asyncio task belongs to (S2, S23).

A context variable holds the branch of the running task. Tasks that a body creates get a
branch of their own when they are created, through a task factory that chains to the one
already installed, so that interleaving never changes an id.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context as ContextVars
from contextvars import ContextVar, copy_context
from types import CellType, CodeType, CoroutineType, FrameType, TracebackType
from typing import Any, Final

from ..errors import ContextMisuseError
from ..execution.body import Branch
from .endings import contained, ends_process

current_branch: ContextVar[Branch | None] = ContextVar("resonate_aio_branch", default=None)
branch_here = current_branch.get  # bound once, for what is called at every step

TaskFactory = Callable[..., "asyncio.Future[Any]"]
Create = Callable[[asyncio.AbstractEventLoop, Any, dict[str, Any]], "asyncio.Future[Any]"]

_EAGER_CODE: Final[CodeType | None] = getattr(
    getattr(asyncio, "eager_task_factory", None), "__code__", None
)
"""What all eager task factories have in common; they came with Python 3.12."""


class BranchFactory:
    """A task factory that stamps the tasks created inside a body.

    Every client installs one over whatever is there. The first that is called stamps, for the
    client that runs the body; the others let the task pass, so that ids do not tell how many
    clients there are (S2).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chained: TaskFactory | None = loop.get_task_factory()
        self._later: Callable[..., asyncio.Future[Any]] | None = None
        if _EAGER_CODE is not None and getattr(self._chained, "__code__", None) is _EAGER_CODE:
            # anyio goes round an eager factory, which it knows by its code, to what is in its
            # closure: it has to find one here, too, or its groups break.
            self._later = getattr(self._chained, "__closure__")[0].cell_contents  # noqa: B009
            self.__code__ = _EAGER_CODE
            self.__closure__ = (CellType(self._make_later),)

    def install(self) -> None:
        """Become the loop's task factory."""
        self._loop.set_task_factory(self)

    def uninstall(self) -> None:
        """Give the loop its former factory back, unless somebody replaced ours meanwhile."""
        if self._loop.get_task_factory() is self:
            self._loop.set_task_factory(self._chained)

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **kwargs: Any,
    ) -> asyncio.Future[Any]:
        """Make a task; one made inside a body runs in a branch of its own (S2)."""
        return self._make(self._create, loop, coro, kwargs)

    def _make_later(
        self, coro: Any, *, loop: asyncio.AbstractEventLoop, **kwargs: Any
    ) -> asyncio.Future[Any]:
        """The same, for who wants a task that does not begin at once."""
        return self._make(self._create_later, loop, coro, kwargs)

    def _make(
        self, create: Create, loop: asyncio.AbstractEventLoop, coro: Any, kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        context: ContextVars | None = kwargs.get("context")
        branch = current_branch.get() if context is None else context.get(current_branch)
        if branch is None or branch.made_for is coro:
            return create(loop, coro, kwargs)
        begin_branch = getattr(coro, "begin_branch", None)  # a ctx call has it
        if begin_branch is None and _is_under_as_completed():
            forked = branch.fork_unordered()
            task = self._create_stamped(create, loop, coro, kwargs, branch, forked)
            task.add_done_callback(_refusal_seen)
            return task
        name = getattr(coro, "__qualname__", None) if begin_branch is None else begin_branch()
        forked = branch.fork(name or type(coro).__qualname__)
        return self._create_stamped(create, loop, coro, kwargs, branch, forked)

    @staticmethod
    def _create_stamped(
        create: Create,
        loop: asyncio.AbstractEventLoop,
        coro: Any,
        kwargs: dict[str, Any],
        branch: Branch,
        forked: Branch,
    ) -> asyncio.Future[Any]:
        context: ContextVars | None = kwargs.get("context")
        context = copy_context() if context is None else context.copy()
        context.run(current_branch.set, forked)
        kwargs["context"] = context
        made_of = Contained(coro) if type(coro) is CoroutineType else coro
        forked.made_for = made_of
        try:
            task = create(loop, made_of, kwargs)
        finally:
            forked.made_for = None
        body: Any = branch.body  # a live one
        if isinstance(task, asyncio.Task) and body is not None:
            body.scheduler.adopt_task(task, body, forked, coro)
        return task

    def _create(
        self, loop: asyncio.AbstractEventLoop, coro: Any, kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        if self._chained is not None:
            return self._chained(loop, coro, **kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)

    def _create_later(
        self, loop: asyncio.AbstractEventLoop, coro: Any, kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        assert self._later is not None  # only then is it to be found
        return self._later(coro, loop=loop, **kwargs)


class Contained(Coroutine[Any, Any, Any]):
    """A helper coroutine of a body: the `SystemExit` it raises is a failure, as a body's is.

    An asyncio task lets `SystemExit` and `KeyboardInterrupt` through to the loop, which would
    end the process, and again at every restart (law 14).
    """

    __slots__ = ("_coro",)

    def __init__(self, coro: CoroutineType[Any, Any, Any]) -> None:
        self._coro = coro

    def send(self, value: Any) -> Any:
        """Step it."""
        try:
            return self._coro.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            if ends_process(error):
                raise
            raise contained(error) from error

    def throw(
        self,
        typ: Any,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        """Throw into it."""
        try:
            return self._coro.throw(typ if val is None else val)  # type: ignore[arg-type]
        except (SystemExit, KeyboardInterrupt) as error:
            if ends_process(error):
                raise
            raise contained(error) from error

    def close(self) -> None:
        """Close it."""
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)  # its frame and names, for whoever looks at the task

    def __repr__(self) -> str:
        return repr(self._coro)


def _refusal_seen(task: asyncio.Future[Any]) -> None:
    """The first helper that is refused tells the function; the others need not be looked at."""
    # Only looked at by its private name: asking for it would silence the helper's own errors, too.
    if isinstance(getattr(task, "_exception", None), ContextMisuseError):
        task.exception()


_FRAMES_ABOVE = 8


def _is_under_as_completed() -> bool:
    """Whether asyncio.as_completed is making this task, in the order of a set (S3)."""
    frame: FrameType | None = sys._getframe(3)  # whoever asks the factory
    for _ in range(_FRAMES_ABOVE):
        if frame is None or frame.f_code.co_filename == __file__:
            return False
        if frame.f_code.co_filename == asyncio.tasks.__file__ and (
            frame.f_code.co_name == "as_completed"
            or type(frame.f_locals.get("self")).__name__ == "_AsCompletedIterator"
        ):
            return True
        frame = frame.f_back
    return False
