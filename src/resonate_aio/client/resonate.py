"""`Resonate`: one client in a process (mission table 1.2 to 1.4)."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from ..clock import Clock
from ..errors import ContextMisuseError
from ..protocol.records import Schedule
from ..runtime.options import NO_OPTIONS, ExceptionClasses, seconds
from ..runtime.settings import Settings
from ..runtime.stamps import current_branch
from ..stores.base import BlockingStore, Store
from ..transports.base import BlockingMessageSource, MessageSource
from . import arguments
from .blocking import Blocking
from .dependencies import Dependencies
from .options import tell_of_unsent
from .promises import Promises
from .registering import Registering
from .registry import Registry
from .schedules import Schedules, schedule_function
from .starting import Starting
from .wiring import (
    Synchronous,
    given_store,
    local_server,
    local_store,
    make_core,
    place_of,
    server_store,
)

T = TypeVar("T")


def _called_by_its_name(client: type[T]) -> type[T]:
    """Class decorator: errors of Python's own call methods as users do, not by our bases."""
    for base in client.__bases__:
        for name, method in vars(base).items():
            if inspect.isfunction(method) and not name.startswith(("_", "begin_")):
                method.__qualname__ = f"{client.__name__}.{name}"
    return client


@_called_by_its_name
class Resonate(Registering, Starting):
    """A client: registers functions, starts them durably, runs those that come to this process.

    `Resonate()` and `Resonate.local()` keep promises in memory, `Resonate.local(path=...)`
    in one SQLite file, `Resonate(url=...)` and `Resonate.remote()` on a Resonate server of
    either generation. Constructing starts nothing and needs no event loop; the first call,
    `start()` or `async with` starts the client on the running loop.

    Args:
        url: Of a server; else what `RESONATE_URL`, or `RESONATE_HOST` and `RESONATE_PORT`, say;
            else memory.
        auth: User and password for a server; else `RESONATE_USERNAME`, `RESONATE_PASSWORD`.
        token: Bearer token for a server, or a function that gives it; else `RESONATE_TOKEN`.
            Wins over `auth`.
        group: Worker group, `default`.
        pid: Name of this process in its group; random.
        ttl: Seconds of a lease on a server; in one process a lease ends with the process.
        log_level: Level of the `resonate_aio` logger; None leaves logging alone.
        workers: How many functions execute at a time (None: coroutines unlimited, threads
            min(32, cpus)); a function that waits for something durable does not count (S27).
        store: Where promises live; clients given the same store exchange calls (S53). One of
            SDK release 0.6.7 (`promises`, `tasks`, `schedules` with blocking methods) is accepted
            with its `message_source`; its calls are made on a thread.
        message_source: Where word of work comes from, if not from the store.
        dependencies, registry: May be shared between clients.
        retention: Seconds or a timedelta after which ended executions are deleted, each as a
            whole; for ever where absent. Their ids may run again after that (S45).
        check_arguments: Whether a replay with other arguments is an error (S43).
        non_retryable_exceptions: Error classes (or one) that no function which runs here is tried
            again after, in addition to those of a call's own options.
        stop_timeout: What `stop()` and the end of `async with` use; see `stop`.
        clock: Where the client reads the time (`now_ms()`); a store has its own, to be given the
            same one. The system's where absent; `resonate_aio.testing` has a simulated one.
        settings: The figures of the runtime, all at once, in place of `workers`,
            `check_arguments` and `non_retryable_exceptions`, which are among them.

    Raises:
        TypeError, ValueError: An argument of the wrong kind.
        UsageError: Credentials and no server, or retention and a server.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        auth: tuple[str, str] | None = None,
        token: str | Callable[[], Any] | None = None,
        group: str = "default",
        pid: str | None = None,
        ttl: float | timedelta = 10,
        log_level: int | str | None = None,
        workers: int | None = None,
        store: Store | BlockingStore | None = None,
        message_source: MessageSource | BlockingMessageSource | None = None,
        dependencies: Dependencies | None = None,
        registry: Registry | None = None,
        retention: float | timedelta | None = None,
        check_arguments: bool = True,
        non_retryable_exceptions: ExceptionClasses = (),
        stop_timeout: float | timedelta | None = None,
        clock: Clock | None = None,
        settings: Settings | None = None,
    ) -> None:
        arguments.check_names(group, pid)
        arguments.check_message_source(message_source, store)
        arguments.check_flag(check_arguments, "check_arguments")
        arguments.check_clock(clock)
        arguments.check_settings(settings)
        keep_s = arguments.keep_s(retention)
        grace_s = None if stop_timeout is None else seconds(stop_timeout, "stop_timeout")
        server = arguments.server_arguments(url=url, auth=auth, token=token, ttl=ttl)
        if store is not None and url is not None:
            raise ValueError("give either url= or store=, not both")
        chosen, source = given_store(store, message_source, group=group, ttl_s=server.ttl_s)
        if store is None:
            chosen = server_store(server)
        if chosen is None:
            arguments.refuse_credentials_without_server(auth, token)
            chosen = local_store(None, "FULL")
        self._core = make_core(
            store=chosen,
            group=group,
            pid=pid,
            workers=workers,
            registry=registry,
            dependencies=dependencies,
            clock=clock,
            settings=settings,
            check_arguments=check_arguments,
            non_retryable_exceptions=non_retryable_exceptions,
        )
        self._core.message_source = source
        self._core.retention.limit(keep_s)
        self._core.grace_s = grace_s
        self._options = NO_OPTIONS
        arguments.set_log_level(log_level)

    def __repr__(self) -> str:
        """Where it keeps things, and who it is there: never a secret (law 17)."""
        core = self._core
        return f"<Resonate {place_of(core.store)}, group {core.group!r}, pid {core.pid!r}>"

    @classmethod
    def local(
        cls,
        *,
        path: str | os.PathLike[str] | None = None,
        synchronous: Synchronous = "FULL",
        group: str = "default",
        pid: str | None = None,
        ttl: float | timedelta = 10,
        log_level: int | str | None = None,
        workers: int | None = None,
        dependencies: Dependencies | None = None,
        registry: Registry | None = None,
        retention: float | timedelta | None = None,
        check_arguments: bool = True,
        non_retryable_exceptions: ExceptionClasses = (),
        stop_timeout: float | timedelta | None = None,
        serve: str | None = None,
        token: str | None = None,
    ) -> Self:
        """A client that needs no server: in memory, or in one SQLite file.

        Args:
            path: The SQLite file; memory where absent.
            synchronous: "FULL" survives power cuts, "NORMAL" is faster and survives a killed
                process but may lose the last commits in a power cut.
            serve: `host:port` to serve the same promises at, while the client runs, to workers
                in other processes (`Resonate(url="http://host:port")`); port 0 is any free one,
                see `serving_at`.
            token: The secret that those have to show; needed off loopback.

        Raises:
            TypeError, ValueError: An argument of the wrong kind.
            UsageError: `serve` off loopback without a token, or a token and nothing to serve.
        """
        arguments.check_synchronous(synchronous)
        arguments.check_credentials(None, token)
        store = local_store(path, synchronous)
        if serve is None:
            arguments.refuse_token_without_serve(token)
        server = None if serve is None else local_server(store, serve, token)
        client = cls(
            store=store,
            group=group,
            pid=pid,
            ttl=ttl,
            log_level=log_level,
            workers=workers,
            dependencies=dependencies,
            registry=registry,
            retention=retention,
            check_arguments=check_arguments,
            non_retryable_exceptions=non_retryable_exceptions,
            stop_timeout=stop_timeout,
        )
        client._core.server = server
        return client

    @classmethod
    def remote(
        cls,
        *,
        host: str | None = None,
        store_port: int | str | None = None,
        message_source_port: int | str | None = None,
        auth: tuple[str, str] | None = None,
        token: str | Callable[[], Any] | None = None,
        group: str = "default",
        pid: str | None = None,
        ttl: float | timedelta = 10,
        log_level: int | str | None = None,
        workers: int | None = None,
        dependencies: Dependencies | None = None,
        registry: Registry | None = None,
        check_arguments: bool = True,
        non_retryable_exceptions: ExceptionClasses = (),
        stop_timeout: float | timedelta | None = None,
    ) -> Self:
        """A client of a Resonate server, with the arguments of release 0.6.7.

        Args:
            host: Scheme and host; else what `RESONATE_HOST_STORE` or `RESONATE_HOST` says;
                else `http://localhost`.
            store_port: Else what `RESONATE_PORT_STORE` says; else 8001.
            message_source_port: Of a legacy server that sends its messages from another port;
                else what `RESONATE_PORT_MESSAGE_SOURCE` says; else 8002.

        Raises:
            TypeError, ValueError: An argument of the wrong kind.
        """
        server = arguments.server_arguments(
            host=host,
            store_port=store_port,
            message_source_port=message_source_port,
            auth=auth,
            token=token,
            ttl=ttl,
            is_meant=True,
        )
        return cls(
            store=server_store(server),
            group=group,
            pid=pid,
            ttl=ttl,
            log_level=log_level,
            workers=workers,
            dependencies=dependencies,
            registry=registry,
            check_arguments=check_arguments,
            non_retryable_exceptions=non_retryable_exceptions,
            stop_timeout=stop_timeout,
        )

    # -- life --------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take work: what an earlier process left goes on. Idempotent."""
        await self._core.start()

    async def stop(self, timeout: float | timedelta | None = None) -> None:
        """Stop: steps that run may end, then frames end and everything of ours is closed.

        Nothing new begins. What ends in time is recorded and does not run again; the rest is
        cancelled (a thread cannot be: it is named) and goes on from its last recorded step when
        a client starts again; this object may be the one. Bounded and idempotent; safe to cancel
        (it goes on) and to call from anywhere.

        Args:
            timeout: Seconds or a timedelta that running steps have; else what the client was
                given as `stop_timeout`; else one second. Nobody waits where no step runs.

        Raises:
            TypeError, ValueError: It is not a time.
        """
        await self._core.stop(None if timeout is None else seconds(timeout, "timeout"))

    async def __aenter__(self) -> Self:
        await self._core.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def serving_at(self) -> str | None:
        """The URL that `Resonate.local(serve=...)` serves at; None where it does not."""
        server = self._core.server
        return None if server is None else server.url

    def blocking(self) -> Blocking:
        """This client for code without an event loop: `with resonate.blocking() as client: ...`.

        In a thread beside the event loop that the client runs on, the `with` may be left out.
        """
        return Blocking(self)

    # -- beside starting ---------------------------------------------------------------

    def push(self, message: Any) -> None:
        """Take a message that the server sent to a URL of this process, not over its stream.

        `resonate_aio.aiohttp.push_route` is a route that does so. A message is a hint (S50): a
        task it offers is claimed at the server, a promise it shows is read there. Nothing is
        durable on return, nor need it be: the server offers a task until somebody takes it.

        Args:
            message: The decoded JSON of the body.

        Raises:
            ValueError: It is no message of this kind of server.
            ResonateShutdownError: The client is not started, or stops.
            ResonateStoreError: The server was not found yet.
            UsageError: The client has no server, or this is another thread or event loop.
        """
        self._core.push(message)

    def set_dependency(self, name: str, obj: Any) -> None:
        """Give every durable function of this process an object, by name.

        Raises:
            ContextMisuseError: It is called inside a durable function.
            TypeError: The name is no string, or empty.
        """
        branch = current_branch.get()
        if branch is not None:
            raise ContextMisuseError(
                f"set_dependency({name!r}) was called inside the durable function "
                f"{branch.body.id!r}: dependencies are set before functions run"
            )
        self._core.dependencies.add(name, obj)

    async def schedule(self, id: str, func: Any, cron: Any, *args: Any, **kwargs: Any) -> Schedule:
        """Start a function at every tick of the calendar, with these arguments.

        Each tick is one execution, whose id is `{id}-{milliseconds since the epoch}`: exactly
        one, across restarts and owners; what was missed while no process ran is caught up with.
        Its options (`target`, `timeout`, `tags`, `version`, ...) are those of the client:
        `resonate.options(target="nightly").schedule(...)`. Durable on return.

        Args:
            id: Of the schedule. One that exists stays as it is (see `schedules.create`).
            func: The function, or its registered name.
            cron: Five fields, or six with seconds first, `@daily` and its kin, or
                `@every 1h30m`; in UTC unless it begins with `CRON_TZ=Europe/Berlin`. May also
                stand before the function.

        Raises:
            TypeError, ValueError: An argument of the wrong kind; nothing is stored.
            ResonateStoreError: The id was used with another idempotency key (code 409).
        """
        tell_of_unsent(self._core, self._options, id, "schedule")
        return await schedule_function(self._core, self._options, id, func, cron, args, kwargs)

    async def prune(self, older_than: float | timedelta) -> int:
        """Delete executions that ended longer ago than this, each as a whole (S45).

        What an unsettled execution asked for stays. Ids that were deleted may run again.

        Args:
            older_than: Seconds or a timedelta.

        Returns:
            How many executions were deleted.

        Raises:
            TypeError, ValueError: It is not a time.
            UsageError: The store is a server's: it has a retention of its own.
        """
        older_than_s = seconds(older_than, "older_than")
        await self._core.ensure_started()
        return await self._core.retention.prune(older_than_s)

    @property
    def promises(self) -> Promises:
        """Durable promises by hand."""
        return Promises(self._core)

    @property
    def schedules(self) -> Schedules:
        """Schedules by hand; `schedule` is the short way."""
        return Schedules(self._core)
