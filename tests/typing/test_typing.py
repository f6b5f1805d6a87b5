"""A type checker knows what every durable call gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_mypy_infers_results_through_every_way_of_calling(tmp_path: Path) -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path)),
            *("--config-file", str(ROOT / "pyproject.toml"), "--follow-imports", "silent"),
            str(ROOT / "tests" / "typing" / "api.py"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
