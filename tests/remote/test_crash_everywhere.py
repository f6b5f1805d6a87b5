"""Laws 2 to 6 on a server: the crash falls between any two requests.

The servers are simulated and so is time; the store, its retries and its leases are the real
ones. A life that ends leaves its lease behind: the next one waits until it lapses.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from tests.programs import PROGRAMS, World
from tests.remote.rules import BARE, COLON, LENIENT, NEWEST, SimRules
from tests.remote.stage import stage_of

from resonate_aio import Resonate
from resonate_aio.protocol.dialects import Dialect
from resonate_aio.testing import Report, crash, crash_everywhere

# They name the ids of their calls, as they are in the dot dialect.
NAME_DOTS = {
    "answer_or_reminder",
    "children_nobody_awaits",
    "detached",
    "generator_children_nobody_awaits",
    "generator_detached",
    "promises_of_its_own",
    "rpc_given_up",
    "seed_detached",
    "seed_promises",
}

# Their result depends on how long requests and hand-overs take: what comes late is too late.
TIMED = {"tried_again_after_timeout", "ctx_timeout_around_a_loop"}

EVERY = [name for name in PROGRAMS if name not in TIMED]
LONG_TTL_S = {"answer_or_reminder": 3600.0}
"""It lasts for days: heartbeats of ordinary leases would be all that the test is about."""

# Their functions make calls in one task only: a server that cannot search finds those (S9).
SEQUENTIAL = ["sequence", "loop", "nested", "recursion", "rpc_chain", "sleep", "generator_sleep"]


class Corpus:
    """Programs put through crashes on one kind of server."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        rules: SimRules,
        dialect: Dialect = Dialect.DOT,
        lies: float = 0.0,
    ) -> None:
        self._patch = monkeypatch
        self._stage = (rules, dialect, lies)

    def survive(self, name: str, *, seed: int = 0, **options: Any) -> Report:
        """The program through these crashes, as `crash_everywhere` has them."""
        program = PROGRAMS[name]
        effects: Counter[str] = Counter()

        async def main(resonate: Resonate) -> Any:
            return await program.main(resonate, World(seed, effects=effects))

        rules, dialect, lies = self._stage
        ttl_s = LONG_TTL_S.get(name, 10.0)
        stage = stage_of(rules, dialect=dialect, lies=lies, seed=seed, ttl_s=ttl_s)
        self._patch.setitem(crash._STAGES, "server", stage)
        report = crash_everywhere(
            main,
            store="server",  # type: ignore[arg-type]  # patched in above
            seed=seed,
            effects=effects,
            values_vary=program.values_vary,
            name=name,
            **options,
        )
        assert report.result == program.expected
        return report

    def sample(self, name: str, runs: int, seed: int = 0) -> int:
        """A few runs with crashes at points the seed chooses; how many crashes fell."""
        points = 2 * self.survive(name, seed=seed, only=()).operations
        rng = Random(f"{name}/{seed}")
        fell = 0
        for _ in range(runs):
            only = tuple(
                rng.randrange(points) if rng.random() < 0.6 else -rng.randint(1, 40 * points)
                for _ in range(rng.randint(1, 3))
            )
            fell += self.survive(name, seed=seed, only=only).crashes
        return fell


@pytest.mark.law
@pytest.mark.parametrize("name", EVERY)
def test_on_a_server_like_the_newest(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It checks origins, and sweeps only promises with a target (S62, S63)."""
    Corpus(monkeypatch, NEWEST).sample(name, 2)


@pytest.mark.law
@pytest.mark.parametrize("name", [name for name in EVERY if name not in LONG_TTL_S])
def test_on_a_network_that_lies(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Requests, answers and streams are lost, cut, doubled and late all the while (law 8)."""
    Corpus(monkeypatch, LENIENT, lies=0.1).sample(name, 1, seed=1)


@pytest.mark.law
@pytest.mark.parametrize("name", [name for name in EVERY if name not in NAME_DOTS])
def test_in_the_colon_dialect(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A server that checks tags and origins by the colon rule, and preloads ten records."""
    Corpus(monkeypatch, COLON, Dialect.COLON).sample(name, 1, seed=2)


@pytest.mark.law
@pytest.mark.parametrize("name", SEQUENTIAL)
def test_on_a_server_that_cannot_search(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """No preload, no search, no timers with a target: records are found one by one (S9)."""
    Corpus(monkeypatch, BARE).sample(name, 4)


@pytest.mark.law
@pytest.mark.parametrize("name", ["gather_of_helpers", "pool_of_workers"])
def test_before_and_after_every_operation(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Programs whose creates travel side by side (S8), at every point there is."""
    report = Corpus(monkeypatch, LENIENT).survive(name, between=5)
    assert report.crashes >= 2 * report.operations
