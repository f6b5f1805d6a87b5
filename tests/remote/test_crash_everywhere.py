"""Laws 2 to 6 on a server: the crash falls between any two requests.

The server is simulated and so is time; the store, its retries and its leases are the real
ones. A life that ends leaves its lease behind: the next one waits until it lapses.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.programs import PROGRAMS, World
from tests.remote.sim import LENIENT, SimRules
from tests.remote.stage import stage_of

from resonate_aio import Resonate
from resonate_aio.protocol.dialects import Dialect
from resonate_aio.testing import Report, crash, crash_everywhere

EVERY = list(PROGRAMS)


def survive(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    rules: SimRules,
    dialect: Dialect = Dialect.DOT,
    *,
    lies: float = 0.0,
    **options: Any,
) -> Report:
    program = PROGRAMS[name]
    effects: Counter[str] = Counter()
    seed = options.get("seed", 0)

    async def main(resonate: Resonate) -> Any:
        return await program.main(resonate, World(seed, effects=effects))

    stage = stage_of(rules, dialect=dialect, lies=lies, seed=seed)
    monkeypatch.setitem(crash._STAGES, "server", stage)
    store: Any = "server"
    report = crash_everywhere(
        main,
        store=store,
        effects=effects,
        values_vary=program.values_vary,
        name=name,
        **options,
    )
    assert report.result == program.expected
    return report


@pytest.mark.law
@pytest.mark.parametrize("name", EVERY)
def test_before_and_after_every_store_operation(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    report = survive(monkeypatch, name, LENIENT)
    assert report.runs > 0
