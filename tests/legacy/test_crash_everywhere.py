"""Laws 2 to 6 on a legacy server: the crash falls between any two requests.

The server is the one in memory and time is virtual; the store, its retries and its leases are
the real ones. A life that ends leaves its lease behind: the next one waits until it lapses.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.legacy.sim import LegacyStage, SimLegacy
from tests.programs import PROGRAMS, World

from resonate_aio import Resonate
from resonate_aio.testing import Report, crash, crash_everywhere

LONG_S = dict.fromkeys(["answer_or_reminder", "generator_sleep", "sleep"], 900.0)
"""Leases of programs that wait for hours: else heartbeats are most of what they do."""

DEEP = {"generator_recursion", "recursion", "rpc_recursion"}
"""A hundred of the same: what they show, they show on memory."""

pytestmark = pytest.mark.slow

EVERY = [name for name in PROGRAMS if name not in DEEP]

UNDER_LIES = [
    "explicit_id",
    "as_completed_order",
    "deadline",
    "detached",
    "fan_out",
    "first_completed",
    "gather_that_fails",
    "generator_child_cut",
    "generator_fan_out",
    "mixed_rpc",
    "not_durable",
    "plain_functions",
    "promise_canceled_outside",
    "promise_settled_outside",
    "rpc_chain",
    "rpc_given_up",
    "same_id_again",
    "seed_calls",
    "step_in_finally",
    "task_group_that_fails",
]
"""Programs of each kind; not those whose result says how fast they were."""


def survive(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    *,
    lies: float = 0.0,
    has_keys: bool = True,
    fences: bool = True,
    **options: Any,
) -> Report:
    program = PROGRAMS[name]
    effects: Counter[str] = Counter()
    seed = options.get("seed", 0)

    async def main(resonate: Resonate) -> Any:
        return await program.main(resonate, World(seed, effects=effects))

    def stage() -> LegacyStage:
        server = SimLegacy(has_keys=has_keys, fences=fences)
        return LegacyStage(server, ttl_s=LONG_S.get(name, 10.0), lies=lies, seed=seed)

    monkeypatch.setitem(crash._STAGES, "legacy", stage)
    store: Any = "legacy"
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


@pytest.mark.parametrize("name", EVERY)
def test_before_and_after_every_store_operation(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    report = survive(monkeypatch, name)
    assert report.runs > 0


@pytest.mark.parametrize("name", UNDER_LIES)
def test_where_requests_and_answers_are_lost(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Law 8 too: answers cut, lost, doubled or from proxies; on the newest server, unfenced."""
    survive(monkeypatch, name, lies=0.1, has_keys=False, fences=False, random_runs=4)
