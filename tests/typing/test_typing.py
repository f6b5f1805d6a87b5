"""A type checker knows what every durable call gives (mission R13, K23)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USES = str(ROOT / "tests" / "typing" / "api.py")


@pytest.mark.timeout(300)
def test_mypy_infers_results_through_every_way_of_calling(tmp_path: Path) -> None:
    """Mission R13, K23: mypy --strict."""
    check(
        *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path)),
        *("--config-file", str(ROOT / "pyproject.toml"), "--follow-imports", "silent", USES),
    )


@pytest.mark.timeout(300)
def test_pyright_infers_the_same() -> None:
    """Mission R13, K23: pyright in its strict mode, which the file itself asks for."""
    check(*pyright(), "--pythonpath", sys.executable, USES)


def test_the_package_says_that_it_is_typed() -> None:
    """Mission R13: type checkers read the annotations of packages that say so."""
    assert (ROOT / "src" / "resonate_aio" / "py.typed").exists()


def pyright() -> list[str]:
    """How to call pyright, where it is at hand: nothing is downloaded for a test."""
    found = shutil.which("pyright")
    if found is not None:
        return [found]
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("pyright needs node, and there is none here")
    cached = [npx, "--offline", "--no-install", "pyright"]
    tried = subprocess.run(
        [*cached, "--version"], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    if tried.returncode != 0:
        pytest.skip("node is here but pyright is not: npm install -g pyright")
    return cached


def check(*command: str) -> None:
    checked = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
