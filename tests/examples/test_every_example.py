"""What holds for every example: help, Ctrl-C, one owner of its file, no server named."""

from __future__ import annotations

import ast
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .application import children_of
from .person import EXAMPLES, ROOT, end_of, read_until, run, start

STARTED = {
    "approval.py": "to the boss",
    "countdown.py": "[process",
    "detached.py": "shipping",
    "durable_sleep.py": "set at",
    "hello.py": "greeting Ada",
    "retries.py": "failed in attempt 1",
    "saga.py": "transfer-1/withdrawal",
    "schedule.py": "ding",
    "service.py": "202 Location",
    "versions.py": "reserving ada",
}
"""What an example prints when it is in the middle of its work."""

ON_A_FILE = {
    name: Path(name).stem + ".db"
    for name in EXAMPLES
    if f'path="{Path(name).stem}.db"' in (ROOT / "examples" / name).read_text()
}
"""The examples that show what a file is for, and their files."""


def test_help_says_what_an_example_shows_and_does_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        for name, text in zip(
            EXAMPLES, pool.map(lambda name: run(tmp_path, name, "--help"), EXAMPLES), strict=True
        ):
            first = str(ast.get_docstring(ast.parse((ROOT / "examples" / name).read_text())))
            assert " ".join(first.splitlines()[0].split()) in " ".join(text.split()), name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", STARTED)
def test_ctrl_c_ends_an_example_without_a_traceback(name: str, tmp_path: Path) -> None:
    process = start(tmp_path, name)
    read_until(process, STARTED[name])
    process.send_signal(signal.SIGINT)
    ended = end_of(process)
    assert ended.code == 130  # as a shell says it, whatever the example
    assert "Traceback" not in ended.err
    assert "never retrieved" not in ended.err


@pytest.mark.parametrize("name", ["countdown.py", "service.py"])
def test_ctrl_c_in_a_terminal_while_the_child_process_starts(name: str, tmp_path: Path) -> None:
    """A terminal interrupts the whole group, also a child that only just imports things."""
    process = start(tmp_path, name)
    while not children_of(process.pid):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    ended = end_of(process)
    assert ended.code == 130
    assert "Traceback" not in ended.err


# The service is on its file with --serve only; the releases of versions.py come and go.
@pytest.mark.parametrize(
    "name", sorted(ON_A_FILE.keys() & STARTED.keys() - {"service.py", "versions.py"})
)
def test_a_second_one_in_the_folder_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with start(tmp_path, name) as first:
        try:
            read_until(first, STARTED[name])
            first.send_signal(signal.SIGSTOP)  # it keeps its file however slow the second is
            second = end_of(start(tmp_path, name))
        finally:
            first.kill()
    assert second.code == 1
    assert second.err == (
        f"{tmp_path / ON_A_FILE[name]} is in use by process {first.pid}: one process owns the "
        "file at a time; stop that one or use another file\n"
    )


WRONG = [
    ("approval.py", "--id", ""),
    ("approval.py", "--id", os.fsdecode(b"\xed")),
    ("detached.py", "--id", ""),
    ("durable_sleep.py", "--id", ""),
    ("durable_sleep.py", "--seconds", "nan"),
    ("fan_out.py", "--id", ""),
    ("fan_out.py", "--districts", "-3"),
    ("countdown.py", "--start", "1"),
    ("schedule.py", "--seconds", "nan"),
    ("service.py", "--port", "99999"),
    ("async_rpc/run_all.py", "--server-port", "99999"),
    ("async_rpc/recovery.py", "--lease", "0"),
    ("async_rpc/src/gateway.py", "--port", "99999"),
    ("async_rpc/src/one_process.py", "--port", "-1"),
]


def test_wrong_use_is_said_in_one_line(tmp_path: Path) -> None:
    """It must show 5: what is wrong with an argument, its usage, and nothing done."""
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda wrong: end_of(start(tmp_path, *wrong)), WRONG))
    for wrong, ended in zip(WRONG, ends, strict=True):
        assert ended.code == 2, wrong
        assert ended.err.startswith("usage: "), wrong
        assert f"error: {wrong[1]}" in ended.err or f"and {wrong[1]}" in ended.err, wrong
    assert not list(tmp_path.iterdir())


def test_the_lists_of_this_file_name_every_example() -> None:
    """An example without a middle worth interrupting is named here, with the reason."""
    too_quick = {"dependencies.py", "workers.py"}  # over before a person could press a key
    silent = {"fan_out.py"}  # prints only at its end; killed and interrupted in its own test
    assert set(EXAMPLES) == STARTED.keys() | too_quick | silent
