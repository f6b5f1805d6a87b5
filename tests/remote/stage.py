"""Lives of one client on a server that outlives them all."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.remote.rules import LENIENT, SimRules
from tests.remote.sim import SimNet, SimServer, remote_store

from resonate_aio.protocol.dialects import Dialect
from resonate_aio.stores.base import Store
from resonate_aio.testing import SimClock, SimLoop


class RemoteStage:
    """A server of the current protocol: a crash of the client leaves its leases standing."""

    def __init__(
        self,
        rules: SimRules = LENIENT,
        *,
        dialect: Dialect = Dialect.DOT,
        lies: float = 0.0,
        seed: int = 0,
        ttl_s: float = 10.0,
    ) -> None:
        self.server = SimServer(rules)
        self._dialect = dialect
        self._lies = lies
        self._ttl_s = ttl_s
        self._rng = Random(seed)

    def open(self, loop: SimLoop, clock: SimClock) -> Store:
        self.server.attach(loop, clock)
        net = SimNet(self.server, self._rng, lies=self._lies)
        return remote_store(net, ttl_s=self._ttl_s, dialect=self._dialect)

    def crash(self) -> None:
        self.server.streams.clear()

    def close(self) -> None: ...


def stage_of(*args: Any, **kwargs: Any) -> Any:
    """A stage class for `crash_everywhere`, with these arguments."""
    return lambda: RemoteStage(*args, **kwargs)
