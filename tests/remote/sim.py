"""A Resonate server and a network on virtual time, for stores that believe they use sockets.

`SimServer` is the promise machine behind envelopes and message streams, with the rules in
which real servers differ as switches. It outlives its clients: a client's crash leaves its
leases standing until they lapse. `SimHttp` is the HTTP session whose requests are carried by
`SimNet`, which delays them, loses them, loses their answers, sends them twice, or answers
what no server said.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import orjson
from tests.remote.rules import LENIENT, SimRules

from resonate_aio.clock import Clock
from resonate_aio.machine.deadlines import PROMISE
from resonate_aio.machine.machine import PromiseMachine
from resonate_aio.protocol.dialects import TARGET, Dialect, origin_of
from resonate_aio.protocol.envelope import (
    message_from_wire,
    message_to_wire,
    opened,
    refusal_to_wire,
    reply_to_wire,
    request_from_wire,
)
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseRegisterCallback,
    PromiseSearch,
    Reply,
    Request,
    TaskCreate,
    TaskFence,
    TaskHeartbeat,
    TaskSuspend,
)
from resonate_aio.stores.http.answers import Answer, TroubleError
from resonate_aio.stores.http.session import HttpSession, Patience
from resonate_aio.stores.hub import parse_address
from resonate_aio.stores.remote import RemoteStore
from resonate_aio.transports.sse import SseMessages, SsePatience

URL = "http://sim.invalid"


class SimServer:
    """A server of the current protocol that lives beside the event loops of its clients."""

    def __init__(self, rules: SimRules = LENIENT) -> None:
        self.rules = rules
        self.machine = PromiseMachine(retry_timeout_ms=5_000)
        self.requests: list[tuple[str, Any]] = []
        self.refuse: Callable[[Request], Reply | None] = lambda _: None
        """Asked first: a refusal of this server's own."""
        self.streams: dict[tuple[str, str], SimStream] = {}
        self.skew_ms = 0
        """How far its clock is ahead of its clients'."""
        self._clock: Clock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rng = Random(7)

    def attach(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        """Live on this loop from now on; streams of the one before are gone."""
        self._loop, self._clock = loop, clock
        self.streams.clear()
        self._timer = None
        self._arm()

    @property
    def clock(self) -> Clock | None:
        """The clock of the loop it lives on, as its clients read it."""
        return self._clock

    def now_ms(self) -> int:
        assert self._clock is not None
        return self._clock.now_ms() + self.skew_ms

    def count(self, kind: str) -> int:
        """How many requests of this kind came."""
        return sum(1 for one, _ in self.requests if one == kind)

    def post(self, body: bytes) -> tuple[int, bytes]:
        """One envelope and its answer."""
        envelope = opened(orjson.loads(body))
        self.requests.append((envelope.kind, envelope.data))
        request = request_from_wire(envelope.kind, envelope.data)
        reply = self.refuse(request) or self._refusal(request) or self._served(request)
        if reply.status >= 400:
            wire = refusal_to_wire(
                envelope.kind, envelope.corr_id, reply.status, reply.error or "no"
            )
        else:
            wire = reply_to_wire(request, envelope.corr_id, reply)
        return reply.status, orjson.dumps(wire)

    def _served(self, request: Request) -> Reply:
        reply = self.machine.handle(request, self.now_ms())
        self._effects()
        if self.rules.preload is not None:
            reply = msgspec.structs.replace(reply, preload=reply.preload[: self.rules.preload])
        return reply

    def _refusal(self, request: Request) -> Reply | None:
        rules = self.rules
        match request:
            case TaskHeartbeat(tasks=tasks):
                if not tasks:
                    return Reply(400, error="heartbeat of nothing")
                return self._one_origin(*(task.id for task in tasks))
            case PromiseRegisterCallback(awaited=awaited, awaiter=awaiter):
                return self._one_origin(awaited, awaiter)
            case TaskSuspend(id=id, actions=actions):
                return self._one_origin(id, *(action.awaited for action in actions))
            case PromiseSearch() if not rules.searches:
                return Reply(501, error="not implemented")
            case PromiseCreate() | TaskCreate() | TaskFence():
                return self._create_refusal(request)
            case _:
                return None

    def _create_refusal(self, request: Any) -> Reply | None:
        create = request if isinstance(request, PromiseCreate) else request.action
        if not isinstance(create, PromiseCreate):
            return None
        tags = create.tags
        if tags.get("resonate:timer") == "true" and TARGET in tags and not self.rules.timer_target:
            return Reply(400, error="a timer with a target")
        if self.rules.origins is None:
            return None
        separator = "." if self.rules.origins is Dialect.DOT else ":"
        origin = tags.get("resonate:origin")
        if origin is not None and (
            separator in origin
            or not (create.id == origin or create.id.startswith(origin + separator))
        ):
            return Reply(400, error=f"origin {origin!r} of {create.id!r}")
        for name in ("resonate:branch", "resonate:parent"):
            start = tags.get(name)
            joint = "." if separator == "." or (start and ":" in start) else ":"
            if start is None or create.id == start or create.id.startswith(start + joint):
                continue
            return Reply(400, error=f"{name} {start!r} of {create.id!r}")
        crosses = isinstance(request, TaskFence) and self.rules.origins is Dialect.COLON
        return self._one_origin(request.id, create.id) if crosses and ":" in create.id else None

    def _one_origin(self, *ids: str) -> Reply | None:
        if self.rules.origins is None:
            return None
        if len({origin_of(id, self.rules.origins) for id in ids}) > 1:
            return Reply(400, error=f"origins differ: {ids}")
        return None

    # -- messages and time

    def _effects(self) -> None:
        machine = self.machine
        messages = list(machine.outbox.values())
        machine.outbox.clear()
        if self.rules.sweeps_targeted:
            for id in machine.changed:
                if TARGET not in machine.promises[id].tags:
                    machine.deadlines.disarm(PROMISE, id)
        machine.changed.clear()
        machine.changed_schedules.clear()
        for address, message in messages:
            stream = self._route(address)
            if stream is not None:
                stream.send(orjson.dumps(message_to_wire(message, URL)))
        self._arm()

    def _route(self, address: str) -> SimStream | None:
        parts = parse_address(address)
        if parts is None:
            return None
        is_unicast, group, pid = parts
        named = self.streams.get((group, pid))
        if named is not None or is_unicast:
            return named
        members = [stream for (name, _), stream in self.streams.items() if name == group]
        return self._rng.choice(members) if members else None

    def _arm(self) -> None:
        due_ms = self.machine.next_due_ms()
        if due_ms is None or self._loop is None or self._loop.is_closed():
            return
        # As the servers do it: a sweep now and then, never at the very instant.
        at_s = self._loop.time() + max((due_ms - self.now_ms()) / 1000, 0.0) + 0.5
        if self._timer is not None:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._sweep, self._loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if loop is self._loop:
            self.machine.sweep(self.now_ms())
            self._effects()

    def pause(self) -> None:
        """No more timers: the loop is about to end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class SimStream:
    """One `/poll` stream."""

    def __init__(self) -> None:
        self.status = 200
        self._waiting: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._is_cut = False

    def send(self, message: bytes) -> None:
        self._waiting.append(b"data: " + message + b"\n\n")
        self._arrived.set()

    def cut(self) -> None:
        """The connection breaks; what was not read is lost."""
        self._is_cut = True
        self._waiting.clear()
        self._arrived.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        while not self._is_cut:
            while self._waiting:
                yield self._waiting.popleft()
            self._arrived.clear()
            await self._arrived.wait()


class SimNet:
    """What happens to requests on their way.

    Args:
        lies: How often, from 0 to 1, something goes wrong with a request.
        cut_every_s: Streams break so often; None: never.
    """

    def __init__(
        self, server: SimServer, rng: Random, *, lies: float = 0.0, cut_every_s: float | None = None
    ) -> None:
        self.server = server
        self.rng = rng
        self.lies = lies
        self.cut_every_s = cut_every_s
        self.is_down = False
        self.fault: Callable[[str, Any], str] | None = None
        """Called as fault(kind, data): "", "refuse", "lose", "twice", or a status to answer."""
        self.told = 0
        self.sent: list[float] = []

    async def carry(self, body: bytes, answer_s: float) -> Answer:
        rng = self.rng
        self.sent.append(asyncio.get_running_loop().time())
        await asyncio.sleep(rng.uniform(0.001, 0.02))
        if self.is_down:
            raise TroubleError("connection refused", untouched=True)
        if self.fault is not None:
            envelope = orjson.loads(body)
            fault = self.fault(envelope["kind"], envelope["data"])
            if fault:
                return self._faulty(fault, body)
        if rng.random() >= self.lies:
            status, answer = self.server.post(body)
            await asyncio.sleep(rng.uniform(0.001, 0.02))
            return Answer(status, {}, answer)
        self.told += 1
        return await self._lie(rng.randrange(8), body, answer_s)

    def _faulty(self, fault: str, body: bytes) -> Answer:
        if fault == "refuse":
            raise TroubleError("connection refused", untouched=True)
        if fault.isdecimal():
            return Answer(int(fault), {}, b"{}")
        status, answer = self.server.post(body)
        if fault == "lose":
            raise TroubleError("connection reset")
        assert fault == "twice"
        status, answer = self.server.post(body)
        return Answer(status, {}, answer)

    async def _lie(self, which: int, body: bytes, answer_s: float) -> Answer:
        if which == 0:
            raise TroubleError("connection refused", untouched=True)
        if which == 1:
            return Answer(429, {"Retry-After": "1"}, b"")
        if which == 2:
            return Answer(502, {}, b"<html>Bad gateway</html>")
        status, answer = self.server.post(body)
        if which == 3:
            raise TroubleError("connection reset")
        if which == 4:
            return Answer(status, {}, answer[: self.rng.randrange(len(answer))])
        if which == 5:
            return Answer(200, {}, b"<html>Welcome</html>")
        if which == 6:
            status, answer = self.server.post(body)
            return Answer(status, {}, answer)
        await asyncio.sleep(answer_s)
        raise TimeoutError


class SimHttp(HttpSession):
    """An HTTP session over a simulated network."""

    def __init__(self, net: SimNet, *, patience: Patience | None = None) -> None:
        super().__init__(URL, rng=Random(11), patience=patience)
        self.net = net
        self._is_open = False

    async def open(self) -> None:
        self._work = asyncio.Semaphore(self.patience.connections)
        self._next_repeat_s = 0.0
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False

    async def _send(
        self,
        method: str,
        path: str,
        body: Callable[[str | None], bytes] | bytes | None,
        headers: Mapping[str, str] | None,
        answer_s: float,
    ) -> Answer:
        assert self._is_open
        assert callable(body)
        return await self.net.carry(body(await self.token()), answer_s)

    @asynccontextmanager
    async def stream(  # type: ignore[override]  # a stream all the same
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[SimStream]:
        if self.net.is_down:
            raise ConnectionError("refused")
        _, _, group, pid = path.split("/")
        stream = SimStream()
        streams = self.net.server.streams
        streams[group, pid] = stream
        cut: asyncio.TimerHandle | None = None
        if self.net.cut_every_s is not None:
            delay_s = self.net.cut_every_s * self.net.rng.uniform(0.5, 1.5)
            cut = asyncio.get_running_loop().call_later(delay_s, stream.cut)
        try:
            yield stream
        finally:
            if cut is not None:
                cut.cancel()
            if streams.get((group, pid)) is stream:
                del streams[group, pid]


def remote_store(
    net: SimNet,
    *,
    ttl_s: float = 10.0,
    dialect: Dialect = Dialect.DOT,
    patience: SsePatience | None = None,
) -> RemoteStore:
    """A store on the simulated network."""
    http = SimHttp(net)

    def messages() -> SseMessages:
        return SseMessages(
            [lambda group, pid: http.stream(f"/poll/{group}/{pid}")],
            message_from_wire,
            patience=patience,
            rng=Random(13),
        )

    return RemoteStore(http, messages, ttl_s=ttl_s, dialect=dialect, clock=net.server.clock)
