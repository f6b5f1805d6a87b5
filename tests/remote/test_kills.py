"""The recovery story, generalised: a hundred kills, nothing lost, nothing done twice (law 6)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.remote.conftest import servers
from tests.remote.kills import GATEWAY, HOPS, SERVER, WORKERS

ROOT = Path(__file__).parents[2]
KILLS = 100
LIMIT_S = 300.0


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("which", servers(), ids=lambda which: Path(which).name)
def test_a_chain_survives_a_hundred_kills(which: str, tmp_path: Path) -> None:
    """Every process at every hop, the gateway and the server included, then whichever."""
    if "://" in which:
        pytest.skip("a server at a URL is not ours to kill")
    process = subprocess.run(
        [sys.executable, "-m", "tests.remote.kills", which, tmp_path, str(KILLS)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        timeout=LIMIT_S - 20,
        check=True,
    )
    told = json.loads(process.stdout)
    assert told["faults"] == []
    assert sum(told["kills"].values()) == told["chains"] == KILLS
    assert min(told["kills"][name] for name in (*WORKERS, GATEWAY, SERVER)) >= len(HOPS)
    assert told["starts"] >= KILLS * len(HOPS)
