"""Each example prints what it says it shows: the first time, killed half-way, a second time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from .person import end_of, kill_when_it_prints, run, start


def test_hello_in_three_dialects(tmp_path: Path) -> None:
    expected = """\
async def:
  greeting Ada
Hello, Ada! (from asyncio)
generator:
  greeting Grace
Hello, Grace! (from a generator)
plain def:
  greeting Barbara
Hello, Barbara!
the same id again greets nobody, its outcome is recorded:
Hello, Ada! (from asyncio)
"""
    assert run(tmp_path, "hello.py") == expected
    assert not list(tmp_path.iterdir())


def test_countdown_survives_kill_9(tmp_path: Path) -> None:
    out = run(tmp_path, "countdown.py", "--start", "4")
    assert out.endswith("4 steps, two processes, one kill -9: each step ran exactly once.\n")


def start_on_a_terminal(folder: Path, until: bytes) -> tuple[subprocess.Popen[str], bytes]:
    """Start the fan-out where a person looks on, and look until the bar shows this."""
    terminal, its_end = os.openpty()
    process = start(folder, "fan_out.py", stderr=its_end)
    os.close(its_end)
    seen = b""
    with open(terminal, "rb", buffering=0) as screen:
        while until not in seen and (more := screen.read(1000)):
            seen += more
        if until not in seen:
            process.kill()
        return process, seen


def test_fan_out_goes_on_after_kill_9_with_the_children_that_are_left(tmp_path: Path) -> None:
    process, seen = start_on_a_terminal(tmp_path, until=b"] 300/1000")
    with process:
        process.kill()
    assert b"\r[############                            ] 300/1000" in seen
    total = sum(number * number for number in range(1000))
    counted = re.compile(rf"census-1: {total} people; (\d+) districts were counted by this run\n")
    second = counted.fullmatch(run(tmp_path, "fan_out.py"))
    assert second is not None
    assert 0 < int(second[1]) <= 700  # what the bar counted is recorded
    third = counted.fullmatch(run(tmp_path, "fan_out.py"))
    assert third is not None
    assert int(third[1]) == 0


def test_fan_out_is_interrupted_without_a_traceback(tmp_path: Path) -> None:
    process = start(tmp_path, "fan_out.py")
    while not (tmp_path / "fan_out.db").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert end_of(process) == (130, "", "\ninterrupted; run it again to go on\n")


def test_retries_until_it_works_and_not_where_that_is_pointless(tmp_path: Path) -> None:
    out = run(tmp_path, "retries.py")
    assert out.count("'pay-1.1' failed in attempt") == 2
    assert "  the rate of USD at attempt 3\ncharged 9.20 EUR to card 'gold'\n" in out
    assert "'pay-2.2' failed" not in out
    assert out.endswith("not paid: card 'expired' was refused\n")


OUTCOMES = """\
transfer-1: moved
transfer-2: given back: the account of carol is closed
transfer-3: given back: promise 'transfer-3/move' was canceled
alice 70.00, bob 80.00
"""


def booked(out: str) -> list[str]:
    return sorted(re.findall(r"^  \w+ +(?:[-+.\d]+|void)  (\S+)$", out, re.MULTILINE))


def test_saga_loses_no_money_to_kill_9(tmp_path: Path) -> None:
    first = kill_when_it_prints("transfer-2/withdrawal", tmp_path, "saga.py")
    assert first.startswith("alice 100.00, bob 50.00\n")
    second = run(tmp_path, "saga.py")
    assert second.endswith(OUTCOMES.rpartition("alice")[2])
    for line in OUTCOMES.splitlines():
        assert line in second
    # A step that was killed before it was recorded runs again; the bank books it once.
    assert booked(first + second) == sorted(
        [
            "transfer-1/deposit",
            "transfer-1/withdrawal",
            "transfer-2/withdrawal",
            "transfer-2/withdrawal",  # void
            "transfer-3/withdrawal",
            "transfer-3/withdrawal",  # void
        ]
    )
    assert run(tmp_path, "saga.py") == "alice 70.00, bob 80.00\n" + OUTCOMES


def test_approval_by_another_task(tmp_path: Path) -> None:
    """Mission E16: a human in the loop."""
    out = run(tmp_path, "approval.py")
    assert out.splitlines()[0] == (
        "  to the boss: may we buy a chair for 300 EUR? (answers go to chair/approval)"
    )
    assert out.endswith("  to the shop: one chair, please\nchair: ordered\n")
    assert run(tmp_path, "approval.py") == "chair: ordered\n"


def test_approval_by_another_process_after_a_restart(tmp_path: Path) -> None:
    asked = run(tmp_path, "approval.py", "--id", "desk", "--leave")
    assert "no answer yet" in asked
    assert run(tmp_path, "approval.py", "--id", "desk", "--answer", "no") == (
        "  desk/approval is resolved\ndesk: not this year, says the boss, later\n"
    )
    # The first answer counts (law 1).
    again = run(tmp_path, "approval.py", "--id", "desk", "--answer", "yes")
    assert again.endswith("desk: not this year, says the boss, later\n")


def test_approval_after_kill_9(tmp_path: Path) -> None:
    kill_when_it_prints("to the boss", tmp_path, "approval.py", "--id", "lamp")
    out = run(tmp_path, "approval.py", "--id", "lamp", "--answer", "yes")
    assert out.endswith("lamp: ordered\n")


def test_nobody_asked_is_said_in_one_line(tmp_path: Path) -> None:
    ended = end_of(start(tmp_path, "approval.py", "--id", "nothing", "--answer", "yes"))
    assert ended.code == 1
    assert ended.err.startswith("nobody asked about 'nothing': ")
    assert ended.err.count("\n") == 1


def test_durable_sleep_is_not_reset_by_kill_9(tmp_path: Path) -> None:
    arguments = ("durable_sleep.py", "--seconds", "1.5")
    began = time.monotonic()
    first = kill_when_it_prints("set at", tmp_path, *arguments)
    second = run(tmp_path, *arguments)
    assert time.monotonic() - began > 1.4
    set_at = re.search(r"set at (\S+) for 1.5 s later", first)
    assert set_at is not None
    assert f"set at {set_at[1]} for" in second
    rang = re.search(r"alarm-1: rang at \S+, (\d+\.\d) s after it was set\n$", second)
    assert rang is not None
    assert 1.5 <= float(rang[1]) < 10
    assert run(tmp_path, *arguments) == second.splitlines(keepends=True)[-1]


def test_detached_outlives_its_function_and_kill_9(tmp_path: Path) -> None:
    first = kill_when_it_prints("order-1 has ended", tmp_path, "detached.py")
    assert "mailing" not in first
    second = run(tmp_path, "detached.py")
    assert "shipping" not in second
    assert second.count("  mailing: how do you like your kettle?\n") == 1
    assert "mailing" not in run(tmp_path, "detached.py")


def test_dependencies_are_those_of_the_client(tmp_path: Path) -> None:
    assert (
        run(tmp_path, "dependencies.py")
        == """\
The program:
  mail 1 to Ada over smtp.example: the party is on Friday
  mail 2 to Grace over smtp.example: the party is on Friday
Its test, with a client of its own, sends nothing:
  [('Ada', 'the party is on Friday'), ('Grace', 'the party is on Friday')]
"""
    )


def test_workers_bound_how_many_execute_at_once(tmp_path: Path) -> None:
    """Mission E16: worker concurrency."""
    assert (
        run(tmp_path, "workers.py")
        == """\
workers=None: 6 executions ended, at most 6 at once
workers=4: 6 executions ended, at most 4 at once
workers=1: 6 executions ended, at most 1 at once
"""
    )


def test_versions_run_side_by_side_and_an_edit_is_noticed(tmp_path: Path) -> None:
    ended = end_of(start(tmp_path, "versions.py"))
    assert ended.code == 0
    assert "  signed up: ada (version 1)\n" in ended.out
    assert "call 'bob.1' was recorded as run of 'check_name'" in ended.out
    assert "'bob' is stopped: " in ended.err
    assert ended.out.endswith("  signed up: bob (version 2)\n")
    again = run(tmp_path, "versions.py")
    assert "reserving" not in again
    assert "  signed up: ada (version 1)\n" in again
    assert again.endswith("  signed up: bob (version 2)\n")


def ticks_of(out: str) -> list[int]:
    """The seconds of the day at which it says that the clock struck."""
    times = re.findall(r"^  (\d\d):(\d\d):(\d\d) ding", out, re.MULTILINE)
    return [int(hour) * 3600 + int(minute) * 60 + int(second) for hour, minute, second in times]


def test_schedule_leaves_no_tick_out_and_runs_none_twice_across_kill_9(tmp_path: Path) -> None:
    arguments = ("schedule.py", "--leave", "--seconds")
    first = run(tmp_path, *arguments, "1.5")
    second = kill_when_it_prints("ding", tmp_path, *arguments, "30")
    time.sleep(2.5)
    third = run(tmp_path, "schedule.py", "--seconds", "1.2")
    assert "when nobody was here" in third
    assert third.endswith("deleted\n")
    start_s = ticks_of(first)[0]  # so that the day may change meanwhile
    before, killed, after = (
        [(tick - start_s) % 86_400 for tick in ticks_of(out)] for out in (first, second, third)
    )
    assert {*before, *killed, *after} == set(range(max(after) + 1))
    assert not {*before} & {*killed, *after}  # what was recorded struck once
    assert len({*killed} & {*after}) <= 1  # what was killed as it struck may strike again
    assert sorted({*after}) == sorted(after)  # once each; those it missed run at the same time


def test_service_answers_202_and_drains_on_sigterm(tmp_path: Path) -> None:
    """Mission E16: HTTP endpoints of what runs for longer than a request."""
    out = run(tmp_path, "service.py")
    before, after = out.split("The service is started again:")
    assert '202 Location: /orders/42\n  {"id":"order/42","state":"pending"}\n' in before
    drained = before.split("SIGTERM")[1]
    assert 'GET /orders/42?wait=30\n  200\n  {"id":"order/42","state":"pending"}\n' in drained
    assert '"state":"resolved","value":{"receipt":"receipt-42",' in after
    assert (out.count("charging order 42"), out.count("shipping order 42")) == (1, 1)
    assert len(re.findall(r"\[service \d+\] ended with 0\n", out)) == 2
    assert not list(tmp_path.iterdir())
