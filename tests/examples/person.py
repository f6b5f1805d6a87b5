"""A person who tries the examples: starts them in a folder, reads, kills, starts them again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
PATIENCE_S = 40

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("RESONATE_")},
    "PYTHONPATH": str(ROOT / "src"),
    "PYTHONUNBUFFERED": "1",
    "PYTHONWARNINGS": "error",
    "COLUMNS": "80",
}


class Ended(NamedTuple):
    """What is left of an example that ended."""

    code: int
    out: str
    err: str


def start(
    folder: Path, example: str, *arguments: str, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start an example in this folder, its output on pipes."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / example), *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        process_group=0,  # as a terminal starts it: Ctrl-C goes to all of the group
    )


def end_of(process: subprocess.Popen[str]) -> Ended:
    """Wait for the end; one that takes too long is killed."""
    with process:
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        except BaseException:
            process.kill()
            raise
    return Ended(process.returncode, out, err)


def run(folder: Path, example: str, *arguments: str, err: str = "") -> str:
    """Run an example to its end, which must be a good one; returns what it printed."""
    ended = end_of(start(folder, example, *arguments))
    assert (ended.code, ended.err) == (0, err), ended
    return ended.out


def kill_when_it_prints(text: str, folder: Path, example: str, *arguments: str) -> str:
    """Start an example and kill it with -9 once a line holds this text; returns its lines."""
    with start(folder, example, *arguments) as process:
        try:
            return read_until(process, text)
        finally:
            process.send_signal(signal.SIGKILL)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read lines up to the one with this text."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"it never printed {text!r} but {lines}")
