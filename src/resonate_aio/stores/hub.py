"""Message routing inside one process: from addresses to the subscribers that take them.

The semantics are those of the server's poll transport (current-protocol §9.2): unicast to
one pid, anycast to a preferred pid or else round the group. What nobody takes is dropped;
the retry timer of the task (R6) or the waiter's own re-check recovers it. Deliveries run
from the loop, in order, never inside the call that caused them. This file knows no machine:
whether an execute still holds is asked when it is about to be delivered.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from ..machine.state import WATCHED
from ..protocol.records import Promise
from ..protocol.requests import Execute, Message, Unblock

_log = logging.getLogger("resonate_aio.stores")

_DELIVERIES_PER_PASS: Final = 64

Deliver = Callable[[Message], None]
Takes = Callable[[str], bool]
Forward = Callable[[str, Message], None]
Settled = Callable[[Promise], None]


@lru_cache(maxsize=1024)
def parse_address(address: str) -> tuple[bool, str, str] | None:
    """The parts (is unicast, group, pid or "") of a poll address, or None for another kind.

    Lenient: `poll://group`, `poll://group/pid` and a bare `group` are anycast.
    """
    rest = address
    if "://" in address:
        scheme, _, rest = address.partition("://")
        if scheme != "poll":
            return None
    cast, at, member = rest.rpartition("@")
    group, _, pid = member.partition("/")
    if not group or (at and cast not in {"uni", "any"}):
        return None
    return cast == "uni", group, pid


class Member:
    """One subscriber: a group, a pid and where its messages go."""

    __slots__ = ("deliver", "group", "is_live", "pid", "taken")

    def __init__(
        self, group: str, pid: str, deliver: Deliver, taken: Settled | None = None
    ) -> None:
        self.group = group
        self.pid = pid
        self.deliver = deliver
        self.taken = taken
        self.is_live = True


class Hub:
    """Routes messages to members and hands them over from the loop.

    Args:
        is_current: Whether an execute is still worth delivering.
        untaken: Told of the address and the execute that nobody takes.
    """

    __slots__ = (
        "_forwarders",
        "_groups",
        "_is_current",
        "_is_scheduled",
        "_loop",
        "_queue",
        "_turns",
        "_untaken",
        "_watchers",
    )

    def __init__(
        self,
        is_current: Callable[[Execute], bool],
        untaken: Callable[[str, Execute], None] = lambda address, message: None,
    ) -> None:
        self._is_current = is_current
        self._untaken = untaken
        self._forwarders: list[tuple[Takes, Forward]] = []
        self._groups: dict[str, list[Member]] = {}
        self._turns: dict[str, int] = {}
        self._watchers: dict[str, tuple[Settled, ...]] = {}
        self._queue: deque[tuple[str, Message]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_scheduled = False

    def bind(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Deliver from this loop from now on; None drops what is queued and delivers nothing."""
        self._loop = loop
        self._queue.clear()
        self._is_scheduled = False

    def clear(self) -> None:
        """Nobody who joined or watches is there any more."""
        self._forwarders.clear()
        self._groups.clear()
        self._turns.clear()
        self._watchers.clear()

    def join(self, member: Member) -> None:
        """Let the member take part."""
        self._groups.setdefault(member.group, []).append(member)

    def leave(self, member: Member) -> None:
        """Take the member out. Idempotent."""
        if not member.is_live:
            return
        member.is_live = False
        members = self._groups.get(member.group, [])
        if member in members:
            members.remove(member)
        if not members:
            self._groups.pop(member.group, None)
            self._turns.pop(member.group, None)

    def forward(self, takes: Takes, send: Forward) -> Callable[[], None]:
        """Give what no member takes to `send`, if its address satisfies `takes`.

        Returns:
            A function that ends this; calling it twice does no harm.
        """
        forwarder = (takes, send)
        self._forwarders.append(forwarder)

        def end() -> None:
            if forwarder in self._forwarders:
                self._forwarders.remove(forwarder)

        return end

    def watch(self, id: str, settled: Settled) -> None:
        """Call the function with the promise's settled record, soon after it is recorded."""
        self._watchers[id] = (*self._watchers.get(id, ()), settled)

    def unwatch(self, id: str, settled: Settled) -> bool:
        """Do not call it any more; whether nobody watches the id now."""
        left = [*self._watchers.get(id, ())]
        if settled in left:
            left.remove(settled)
        if left:
            self._watchers[id] = tuple(left)
            return False
        self._watchers.pop(id, None)
        return True

    def takes(self, member: Member, address: str) -> bool:
        """Whether a message to the address may go to this member as things stand."""
        parts = parse_address(address)
        if parts is None or parts[1] != member.group:
            return False
        is_unicast, _, pid = parts
        if pid == member.pid:
            return True
        return not is_unicast and (not pid or self._named(member.group, pid) is None)

    def is_taken(self, address: str) -> bool:
        """Whether somebody takes messages to the address as things stand."""
        members = [member for group in self._groups.values() for member in group]
        return any(self.takes(member, address) for member in members) or any(
            takes(address) for takes, _ in self._forwarders
        )

    def send(self, address: str, message: Message) -> None:
        """Deliver the message to one member soon; it is dropped if nobody takes it then."""
        if self._loop is None:
            return
        self._queue.append((address, message))
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._drain, self._loop)

    @staticmethod
    def _hand_over(member: Member, message: Message) -> None:
        try:
            member.deliver(message)
        except Exception:  # noqa: BLE001  one subscriber's fault must not stop the others
            _log.exception("subscriber %s/%s failed on a message", member.group, member.pid)

    def _pass_on(self, address: str, message: Message) -> None:
        for takes, send in self._forwarders:
            if not takes(address):
                continue
            try:
                send(address, message)
            except Exception:  # noqa: BLE001  one forwarder's fault must not stop the others
                _log.exception("a message to %r could not be passed on", address)
            return
        _log.debug("nobody here takes messages to %r: dropped", address)
        if isinstance(message, Execute) and not self._forwarders:
            self._untaken(address, message)

    def _tell_watchers(self, message: Message) -> None:
        if not isinstance(message, Unblock):
            return  # a promise whose target tag is this address has no worker
        promise = message.promise
        watchers = [*self._watchers.pop(promise.id, ())]
        if "resonate:target" in promise.tags or promise.owner:
            members = [member for group in self._groups.values() for member in group]
            watchers += [member.taken for member in members if member.taken is not None]
        for settled in watchers:
            try:
                settled(promise)
            except Exception:  # noqa: BLE001  one watcher's fault must not stop the others
                _log.exception("a watcher of %r failed", promise.id)

    def _route(self, address: str) -> Member | None:
        parts = parse_address(address)
        if parts is None:
            return None
        is_unicast, group, pid = parts
        members = self._groups.get(group)
        if not members:
            return None
        if pid:
            named = self._named(group, pid)
            if named is not None or is_unicast:
                return named
        elif is_unicast:
            return None
        turn = self._turns.get(group, 0) % len(members)
        self._turns[group] = turn + 1
        return members[turn]

    def _named(self, group: str, pid: str) -> Member | None:
        # The latest: of two connections of one worker the older one may be dead.
        for member in reversed(self._groups.get(group, [])):
            if member.pid == pid:
                return member
        return None

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        for _ in range(_DELIVERIES_PER_PASS):
            if not self._queue:
                break
            address, message = self._queue.popleft()
            if address == WATCHED:
                self._tell_watchers(message)
                continue
            if isinstance(message, Execute) and not self._is_current(message):
                continue
            member = self._route(address)
            if member is None:
                self._pass_on(address, message)
            else:
                self._hand_over(member, message)
        if self._queue and self._loop is loop:
            loop.call_soon(self._drain, loop)
        else:
            self._is_scheduled = False
