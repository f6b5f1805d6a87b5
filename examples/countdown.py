"""A countdown that survives `kill -9`.

Run it without arguments: it starts itself as a child process that counts down on a SQLite
file, kills that child half-way with SIGKILL, starts it again and shows that it goes on where
it was. Each step also appends a line to a side file of its own, so that at the end it can be
seen that no step ran twice.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from resonate_aio import Context, Resonate

DATABASE = "countdown.db"
SIDE_FILE = "steps.txt"
PAUSE_S = 0.3

# ------------------------------------------------------------------- the durable program

resonate = Resonate.local(path=DATABASE)


def tick(ctx: Context, n: int) -> None:
    """One step. A plain `def` runs on a worker thread, so it may block."""
    side_file = os.open(SIDE_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(side_file, f"{n}\n".encode())
    finally:
        os.close(side_file)
    try:
        print(n, flush=True)
    except BrokenPipeError:  # whoever showed it was killed: do not count on for nobody
        os._exit(1)


@resonate.register
async def countdown(ctx: Context, start: int) -> str:
    """Count down to 1. Every step and every pause is recorded once it has ended."""
    for n in range(start, 0, -1):
        await ctx.run(tick, n)
        await ctx.sleep(PAUSE_S)
    return "lift-off"


async def count(start: int) -> None:
    """Start the countdown, or join the one that the file holds: the id decides."""
    async with resonate:
        print(await resonate.run("countdown-1", countdown, start), flush=True)


# ------------------------------------------------------- the process that plays the villain


def run_child(folder: str, start: int) -> subprocess.Popen[str]:
    command = [sys.executable, os.path.realpath(__file__), "--child", "--start", str(start)]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C reaches the villain only, who ends the child
    )


def lines_of(child: subprocess.Popen[str]) -> Iterator[str]:
    """What the child prints, shown with its pid while it is read."""
    assert child.stdout is not None
    for line in child.stdout:
        print(f"  [process {child.pid}]  {line.rstrip()}")
        yield line.rstrip()


def run_until_killed(folder: str, start: int) -> bool:
    """Run the child and kill it half-way; False if it ended before that."""
    with run_child(folder, start) as child:
        try:
            for seen, _ in enumerate(lines_of(child), start=1):
                if seen == start // 2:
                    break
            else:
                return False
            time.sleep(PAUSE_S / 2)  # the step is recorded by now: the child is in its pause
        finally:
            child.kill()
    print(f"\nkill -9 {child.pid}\n")
    return True


def run_to_the_end(folder: str, start: int) -> bool:
    """Run the child until it ends by itself; False if it failed."""
    with run_child(folder, start) as child:
        try:
            for _ in lines_of(child):
                pass
        except BaseException:
            child.kill()
            raise
    return child.returncode == 0


def each_ran_once(folder: str, start: int) -> bool:
    """Whether each step ran exactly once; says which did not."""
    steps = Counter(int(line) for line in Path(folder, SIDE_FILE).read_text().split())
    twice = sorted(n for n, times in steps.items() if times > 1)
    missing = sorted(set(range(1, start + 1)) - set(steps))
    if twice or missing:
        print(f"\nWRONG: steps that ran more than once: {twice}, that never ran: {missing}")
        return False
    print(f"\n{start} steps, two processes, one kill -9: each step ran exactly once.")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--start", type=int, default=10, help="where to count from (default: 10)")
    parser.add_argument(
        "--child", action="store_true", help="count in this folder; used by the example itself"
    )
    arguments = parser.parse_args()
    if arguments.start < 2:
        parser.error("--start must be at least 2, or there is no half-way")
    if arguments.child:
        asyncio.run(count(arguments.start))
        return 0
    # A child that was interrupted while it started may still be writing when all is removed.
    with tempfile.TemporaryDirectory(prefix="countdown-", ignore_cleanup_errors=True) as folder:
        print(f"A durable countdown from {arguments.start}, kept in {DATABASE}:\n")
        if not run_until_killed(folder, arguments.start):
            print("WRONG: the countdown ended before it was killed")
            return 1
        print("The same program, started again:\n")
        if not run_to_the_end(folder, arguments.start):
            print("\nWRONG: the countdown did not end")
            return 1
        return 0 if each_ran_once(folder, arguments.start) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
