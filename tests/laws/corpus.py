"""The corpus of programs, as `crash_everywhere` takes it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from tests.programs import PROGRAMS, Program, World

from resonate_aio import Resonate
from resonate_aio.testing import Report, crash_everywhere


def survive(
    program: Program | str,
    *,
    store: Literal["memory", "sqlite"] = "memory",
    seed: int = 0,
    **options: Any,
) -> Report:
    """Put a program of the corpus through crashes; its effects are counted."""
    found = PROGRAMS[program] if isinstance(program, str) else program
    effects: Counter[str] = Counter()

    async def main(resonate: Resonate) -> Any:
        return await found.main(resonate, World(seed, effects=effects))

    report = crash_everywhere(
        main,
        store=store,
        seed=seed,
        effects=effects,
        values_vary=found.values_vary,
        name=found.name,
        **options,
    )
    assert report.result == found.expected
    return report
