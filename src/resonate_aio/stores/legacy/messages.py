"""What a legacy server says unasked: tasks that want a worker, promises that settled.

Each worker of the store has a stream of its own. Messages are hints (S50): a task is claimed
before anything is done about it, and of a promise only the record counts that came over the
server's own stream. Workers are told from the loop, never from inside a task of ours, for
they let bodies go on in place.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context as ContextVars
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ...protocol.records import Promise, is_pending
from ...protocol.requests import Execute, Message, Unblock
from ..http.session import HttpSession, OpenStream
from ..remote.watches import RemoteWatches
from . import codec
from .answers import Fence
from .holding import Holding, Spawn
from .leases import Leases

if TYPE_CHECKING:
    from ...transports.base import MessageSource

logger = logging.getLogger("resonate_aio.stores.legacy")

Decode = Callable[[Any], Message | None]
"""Reads one event of the poll stream, as decoded JSON; raises ValueError."""

Endpoint = Callable[[str, str], AbstractAsyncContextManager[OpenStream]]
"""Opens the stream of a group and pid."""

_FIRST_CONNECT_S: Final = 1.0
"""How long the first task waits for the message stream: one that finds no worker connected is
tried again after 15 s only (hazard 12)."""


_FAREWELL_S: Final = 0.1
"""How long a server takes to notice that a stream was closed."""


class Member:
    """One worker that hears messages.

    Args:
        deliver: Called with each message that offers a task.
        taken: Called with the settled promise of a task that was held.
        lost: Called as lost(id, version) when a task is not held any more.
    """

    __slots__ = ("deliver", "group", "is_public", "lost", "pid", "taken")

    def __init__(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        taken: Callable[[Promise], None] | None,
        lost: Callable[[str, int], None] | None,
    ) -> None:
        self.is_public = "\0" not in group
        self.group = group
        self.pid = pid
        self.deliver = deliver
        self.taken = taken
        self.lost = lost


class Messages:
    """The streams of a store.

    Args:
        make_source: Makes a source of messages, given what reads an event.
        spawn: Runs a coroutine in a task that the store owns.
    """

    def __init__(
        self,
        make_source: Callable[[Decode], MessageSource],
        leases: Leases,
        holding: Holding,
        watches: RemoteWatches,
        spawn: Spawn,
    ) -> None:
        self._make_source = make_source
        self._leases = leases
        self._holding = holding
        self._watches = watches
        self._spawn = spawn
        self._members: list[Member] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._open: dict[MessageSource, None] = {}
        """The sources that were not stopped yet."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connected = asyncio.Event()
        self._has_waited = False
        holding.taken = self._taken
        holding.lost = self._lost

    # -- addresses

    @property
    def unicast(self) -> str | None:
        """The address of this process alone, or None where it hears nothing."""
        member = self._members[0] if self._members else None
        return None if member is None else f"poll://uni@{member.group}/{member.pid}"

    @property
    def anycast(self) -> str | None:
        """The address of this process, or of another of its group where it is gone."""
        member = self._members[0] if self._members else None
        return None if member is None else f"poll://any@{member.group}/{member.pid}"

    # -- life

    def start(self) -> None:
        """Live on the running loop; nobody has joined."""
        self._loop = asyncio.get_running_loop()
        self._members.clear()
        self._leaving.clear()
        self._open.clear()
        self._connected = asyncio.Event()
        self._has_waited = False

    async def stop(self) -> None:
        """Close every stream; nobody is told anything any more."""
        self._loop = None
        self._members.clear()
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for source in list(self._open):
            await self._end(source)

    async def _end(self, source: MessageSource) -> None:
        await source.stop()
        self._open.pop(source, None)  # not before: it may be cut

    def join(self, member: Member) -> Callable[[], None]:
        """Open a stream for this worker; the function that is returned closes it."""
        if not member.is_public:
            # No address can name it: a worker that wants no tasks, only to hear of promises.
            member.group = f"resonate-aio-{secrets.token_hex(4)}"
        source = self._make_source(self._decode)
        self._open[source] = None
        self._members.append(member)
        self._watches.listen_at(self.unicast)

        def receive(message: Message) -> None:
            self._receive(member, message)

        start = source.start(member.group, member.pid, receive, self._is_connected)
        started = self._spawn(start, "connect")

        async def end() -> None:
            try:
                started.cancel()
                await asyncio.wait([started])
            finally:
                await self._end(source)
            await asyncio.sleep(_FAREWELL_S)

        def leave() -> None:
            if member in self._members:
                self._members.remove(member)
                self._watches.listen_at(self.unicast)
                leaving = self._spawn(end(), "disconnect")
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)

        return leave

    async def farewell(self) -> None:
        """Return when no stream is being closed.

        A task that is given back goes to the worker it was made for, if that still seems to
        be connected; then nobody hears of it for a minute.
        """
        if self._leaving:
            await asyncio.wait(list(self._leaving))

    async def first_connect(self) -> None:
        """Let the stream come up before the first task is made, but not for long."""
        if self._has_waited or not self._members:
            return
        try:
            async with asyncio.timeout(_FIRST_CONNECT_S):
                await self._connected.wait()
        except TimeoutError:
            logger.debug("no message stream yet: tasks may be delivered late")
        self._has_waited = True

    # -- what is heard

    def _is_connected(self) -> None:
        self._connected.set()
        self._watches.listen_at(self.unicast)  # what was sent meanwhile is lost (hazard 1)

    def _decode(self, data: Any) -> Message | None:
        """One event as a message of the current protocol.

        Raises:
            FieldError: It is none the server sends.
        """
        said = codec.message_from_rest(data)
        match said:
            case codec.TaskNotice(task_id=task_id, counter=counter, root=root):
                self._holding.heard(root, Fence(task_id, counter))
                return Execute(root, self._leases.notice(said))
            case Promise():
                return Unblock(said)
            case None:
                return None

    def hint(self, data: Any) -> None:
        """Follow a message that was pushed to a URL: see `HintedStore`.

        Unlike what comes over a stream it ends no lease: whoever sent it may know nothing.
        """
        said = codec.message_from_rest(data)
        if isinstance(said, Promise):
            self._watches.look_again(said.id)
        elif said is not None:
            member = next((member for member in self._members if member.is_public), None)
            if member is not None:
                self._soon(member.deliver, Execute(said.root, self._leases.notice(said)))

    def _receive(self, member: Member, message: Message) -> None:
        if isinstance(message, Execute):
            self._soon(member.deliver, message)
            return
        promise = message.promise
        if not is_pending(promise):
            self._watches.settled(promise)
            self._holding.seen(promise)

    def _taken(self, promise: Promise) -> None:
        for member in self._members:
            if member.taken is not None:
                self._soon(member.taken, promise)

    def _lost(self, id: str, version: int) -> None:
        for member in self._members:
            if member.lost is not None:
                self._soon(member.lost, id, version)

    def _soon(self, tell: Callable[..., None], *what: Any) -> None:
        if self._loop is not None:
            self._loop.call_soon(tell, *what, context=ContextVars())


def poll_endpoints(http: HttpSession, poll: HttpSession | None) -> list[Endpoint]:
    """Ways to the server's stream of messages; where one is not there, the next may be.

    The API port has it since v0.7.15, under `/poll`; the poll port has always had it.
    """
    endpoints = [_endpoint(http, "/poll")]
    if poll is not None:
        endpoints.append(_endpoint(poll, ""))
    return endpoints


def _endpoint(session: HttpSession, prefix: str) -> Endpoint:
    return lambda group, pid: session.stream(
        f"{prefix}/{quote(group, safe='')}/{quote(pid, safe='')}"
    )
