"""Laws 2 to 6 on real servers: kill -9 of a real process between any two of its requests.

What `test_crash_everywhere` shows on simulated servers and virtual time, at every point, this
shows at some points on the servers themselves, whatever is present. Every point, by hand:
`python -m tests.remote.mortals BACKEND FOLDER 0 PROGRAM...`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contract.backends import label, names
from tests.peers import current_server, legacy_server
from tests.programs import PROGRAMS
from tests.remote.mortals import LIFE_S

ROOT = Path(__file__).parents[2]
POINTS = 4
"""For each program; a whole corpus is thousands of them."""

LONG = {
    "answer_or_reminder",
    "cut_before_more_arrived",
    "detached",
    "generator_detached",
    "generator_sleep",
    "nested_timeouts",
    "not_durable_cut",
    "not_durable_limited",
    "not_durable_outlives",
    "promise_nobody_settles",
    "rpc_given_up",
    "rpc_to_nobody",
    "sleep",
    "sleep_beats_step",
    "stubborn_child",
    "timeout_around_a_loop",
    "timeout_around_a_promise",
    "timeout_around_gather",
}
"""They wait for long, and here time is real."""

TIMED = {"ctx_timeout_around_a_loop", "first_completed", "tried_again_after_timeout"}
"""Their result depends on how long requests take: what comes late is too late."""

EVERY = [name for name in PROGRAMS if name not in LONG | TIMED]

OURS = ["sequence", "rpc_chain", "mixed_rpc"]
"""On the embedded server: the store is the same, the machine is what memory and SQLite run."""

SERVERS = [name for name in names() if name not in {"memory", "sqlite", "embedded@colon"}]


def absent(backend: str) -> str:
    """Why there is no such server; empty if there is one."""
    if backend == "legacy" and legacy_server.program() is None:
        return legacy_server.ABSENT
    return current_server.ABSENT if backend == "current" else ""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", SERVERS, ids=label)
def test_whoever_dies_between_two_requests_is_followed(backend: str, tmp_path: Path) -> None:
    reason = absent(backend)
    if reason:
        pytest.skip(reason)
    if "://" in backend:
        pytest.skip("each run needs a server of its own, and one at a URL is not ours to start")
    programs = OURS if backend.startswith(current_server.EMBEDDED) else EVERY
    runs = crashed(backend, tmp_path, programs)
    faults = [run for run in runs if run["fault"]]
    assert not faults, json.dumps(faults, indent=1).replace("\\n", "\n")
    assert {run["name"] for run in runs if run["crashes"]} == set(programs)
    assert sum(run["crashes"] for run in runs) > len(programs) * POINTS * 0.8


def crashed(backend: str, folder: Path, programs: list[str]) -> list[dict[str, Any]]:
    """What became of each run."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.remote.mortals", backend, folder, str(POINTS), *programs],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        timeout=600 - LIFE_S,
        check=True,
    )
    return [json.loads(line) for line in process.stdout.splitlines()]
