"""Workers and callers of one test, each a process of its own, all ended with the test.

A worker says "ready" when it works and notes each step it runs in the log of the test. A
caller prints one line of JSON for each of its calls: `{"value": ...}` or `{"error": text}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PEERS: Final = Path(__file__).parent
WAIT_S: Final = 40.0
_CONNECTED_S: Final = 0.3


class Processes:
    """The processes of one test.

    Args:
        log: Where its workers note what they do.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def work(self, group: str, *command: str) -> None:
        """Start the worker of a group, and return when messages reach it."""
        process = await self._start(group, *command)
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"ready\n"
        # Neither server generation keeps a message for a worker that connects later.
        await asyncio.sleep(_CONNECTED_S)

    async def work_of_ours(self, group: str, *server: str) -> None:
        """Start a worker of this library: `server` is a URL or two ports of a legacy one."""
        program = (sys.executable, "-m", "tests.peers.our_worker", group, *server)
        await self.work(group, *program, str(self.log))

    async def answers(self, name: str, *command: str) -> list[Any]:
        """What came of the calls of a caller: for each its value, or `error: text`."""
        process = await self._start(f"call {name}", *command)
        async with asyncio.timeout(WAIT_S):
            printed, _ = await process.communicate()
        del self._running[f"call {name}"]
        found = [json.loads(line) for line in printed.splitlines()]
        return [
            answer["value"] if "value" in answer else f"error: {answer['error']}"
            for answer in found
        ]

    async def kill(self, group: str) -> None:
        """End the worker of a group as a crash would."""
        process = self._running.pop(group)
        process.send_signal(signal.SIGKILL)
        await _ended(process)

    def lines(self) -> list[str]:
        """What the workers noted so far."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    async def until_noted(self, line: str) -> None:
        """Wait until a worker has noted this."""
        async with asyncio.timeout(WAIT_S):
            while line not in self.lines():  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End what still runs."""
        for process in self._running.values():
            if process.returncode is None:
                process.kill()
            await _ended(process)

    async def _start(self, name: str, *command: str) -> asyncio.subprocess.Process:
        inherited = {key: text for key, text in os.environ.items() if "RESONATE" not in key}
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**inherited, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )
        self._running[name] = process
        return process


async def _ended(process: asyncio.subprocess.Process) -> None:
    """The process has ended, and its pipe is closed."""
    await process.wait()
    if process.stdout is not None:
        await process.stdout.read()
