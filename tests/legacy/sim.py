"""The legacy server in memory and a network, both on virtual time, and the stage for lives.

The store believes that it uses sockets.

What the network does to requests is `tests.remote.sim.SimNet`'s affair: it carries opaque
bytes, here a request's method, path, headers and body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import orjson
from tests.legacy.fake import FakeLegacy
from tests.remote.sim import SimHttp, SimNet, SimStream

from resonate_aio.stores.base import Store
from resonate_aio.stores.http.answers import Answer
from resonate_aio.stores.http.session import Patience
from resonate_aio.stores.legacy import LegacyStore
from resonate_aio.stores.legacy.messages import Decode, poll_endpoints
from resonate_aio.testing import SimClock, SimLoop
from resonate_aio.transports.sse import SseMessages, SsePatience

_TICK_S = 0.1
"""How late the server's own loops look, at most."""


class SimLegacy(FakeLegacy):
    """A legacy server that lives beside the event loops of its clients."""

    def __init__(self, *, has_keys: bool = True, fences: bool = True) -> None:
        super().__init__(self._now_ms)
        self.has_keys = has_keys
        self.fences = fences
        self.ttc_ms = 5_000  # programs have deadlines of half a minute
        self.sim_streams: dict[tuple[str, str], SimStream] = {}
        self._clock: SimClock | None = None
        self._loop: SimLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rng = Random(7)

    def attach(self, loop: SimLoop, clock: SimClock) -> None:
        """Live on this loop from now on; streams of the one before are gone."""
        self._loop, self._clock = loop, clock
        self.sim_streams.clear()
        self._timer = None
        self._arm()

    def _now_ms(self) -> int:
        assert self._clock is not None
        return self._clock.now_ms()

    def post(self, packed: bytes) -> tuple[int, bytes]:
        """One request and its answer."""
        method, path, body, headers = orjson.loads(packed)
        path, _, query = path.partition("?")
        status, answer = self.carry_out(method, path, dict(parse_qsl(query)), body, headers)
        self._arm()
        return status, b"" if answer is None else orjson.dumps(answer)

    def send(self, address: str, message: Any) -> bool:
        cast, _, rest = address.removeprefix("poll://").partition("@")
        group, _, pid = rest.partition("/")
        stream = self.sim_streams.get((group, pid))
        if stream is None and cast == "any":
            members = [one for (name, _), one in self.sim_streams.items() if name == group]
            stream = self._rng.choice(members) if members else None
        if stream is None:
            return False
        stream.send(orjson.dumps(message))
        return True

    def send_soon(self) -> None:
        self._arm()

    def _arm(self) -> None:
        due_ms = self.next_due_ms()
        if due_ms is None or self._loop is None or self._loop.is_closed():
            return
        wait_s = max((due_ms - self.now_ms()) / 1000, 0.0) + self._rng.random() * _TICK_S
        at_s = self._loop.time() + wait_s
        if self._timer is not None:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._sweep, self._loop)

    def _sweep(self, loop: SimLoop) -> None:
        self._timer = None
        if loop is self._loop:
            self.sweep()
            self._arm()


class SimLegacyHttp(SimHttp):
    """An HTTP session whose requests are carried by a simulated network."""

    async def _send(
        self,
        method: str,
        path: str,
        body: Callable[[str | None], bytes] | bytes | None,
        headers: Mapping[str, str] | None,
        answer_s: float,
    ) -> Answer:
        assert self._is_open
        assert not callable(body)
        content = None if body is None else orjson.loads(body)
        packed = orjson.dumps([method, path, content, dict(headers or {})])
        return await self.net.carry(packed, answer_s)

    @asynccontextmanager
    async def stream(  # type: ignore[override]  # a stream all the same
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[SimStream]:
        if self.net.is_down:
            raise ConnectionError("refused")
        _, _, group, pid = path.split("/")
        server: Any = self.net.server
        stream = server.sim_streams[group, pid] = SimStream()
        server.send_soon()
        cut: asyncio.TimerHandle | None = None
        if self.net.cut_every_s is not None:
            delay_s = self.net.cut_every_s * self.net.rng.uniform(0.5, 1.5)
            cut = asyncio.get_running_loop().call_later(delay_s, stream.cut)
        try:
            yield stream
        finally:
            if cut is not None:
                cut.cancel()
            if server.sim_streams.get((group, pid)) is stream:
                del server.sim_streams[group, pid]


def sim_store(net: SimNet, clock: SimClock, *, ttl_s: float = 10.0) -> LegacyStore:
    """A store on the simulated network; one with a long ttl is patient in everything."""
    calm_s = max(60.0, ttl_s)
    http = SimLegacyHttp(net, patience=Patience())

    def messages(decode: Decode) -> SseMessages:
        endpoints: Any = poll_endpoints(http, None)
        patience = SsePatience(silence_s=2.5 * calm_s)
        return SseMessages(endpoints, decode, patience=patience, rng=Random(13))

    return LegacyStore(http, messages, ttl_s=ttl_s, again_s=calm_s, clock=clock)


class LegacyStage:
    """A legacy server: a crash of the client leaves its leases standing."""

    def __init__(
        self, server: SimLegacy, *, ttl_s: float = 10.0, lies: float = 0.0, seed: int = 0
    ) -> None:
        self.server = server
        self._ttl_s = ttl_s
        self._lies = lies
        self._rng = Random(seed)

    def open(self, loop: SimLoop, clock: SimClock) -> Store:
        self.server.attach(loop, clock)
        server: Any = self.server
        return sim_store(SimNet(server, self._rng, lies=self._lies), clock, ttl_s=self._ttl_s)

    def crash(self) -> None:
        self.server.sim_streams.clear()

    def close(self) -> None: ...
