"""The processes of the application: a server, the gateway, nine services.

Each is a program of its own, started as a person would in a terminal of its own. What they
print is shown with their names, and can be waited for.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SOURCE = Path(__file__).resolve().parent / "src"
SERVICES = tuple(f"service-{letter}" for letter in "abcdefghi")
STOP_S = 20.0
"""How long a process may take to end when it is told to; then it is killed."""

_STARTED = {"server": "Serving on ", "gateway": "gateway is running"}
_SERVER_IS_NAMED = ("RESONATE_URL", "RESONATE_HOST", "RESONATE_HOST_STORE", "RESONATE_PORT_STORE")
_URL = re.compile(r"https?://[^\s,]+")
_LINE_BYTES = 1 << 20
_LINES = 1000


class DiedError(Exception):
    """A process ended that nobody had told to."""


class Fleet:
    """The processes; leaving the `async with` ends all of them.

    Args:
        settings: Environment variables for the processes, beside those of this one.
        gateway_port: Where the gateway listens; 0 for any.
        server_port: Where the embedded server listens; 0 for any.
        db: The file of the embedded server; in memory where absent.
        show: What is called with each line.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        gateway_port: int = 0,
        server_port: int = 0,
        db: str | None = None,
        show: Callable[[str], None] = print,
    ) -> None:
        self._environment = {**os.environ, **settings, "PYTHONUNBUFFERED": "1"}
        self._gateway_port = gateway_port
        self._server_port = server_port
        self._db = db
        self._show = show
        self._lives: dict[str, _Life] = {}
        self._news = asyncio.Condition()
        self.gateway_url = ""
        self.server_url = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.stop()

    # -- lives

    async def start_all(self, services: Sequence[str] = SERVICES) -> None:
        """Start the server, if the environment names none, the gateway and the services.

        Raises:
            DiedError: One of them ended instead.
        """
        if not any(self._environment.get(name) for name in _SERVER_IS_NAMED):
            await self.start("server")
        await self.start("gateway")
        await self.start_each(*services)

    async def start_each(self, *names: str) -> None:
        """Start processes beside each other.

        Raises:
            DiedError: One of them ended instead.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for name in names:
                    tasks.create_task(self.start(name))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def start(self, name: str) -> None:
        """Start a process that does not run, and return when it says that it runs.

        Raises:
            DiedError: It ended instead.
        """
        process = await asyncio.create_subprocess_exec(
            *self._command(name),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_BYTES,
            process_group=0,  # Ctrl-C reaches this process only, which ends the others in order
        )
        self._lives[name] = life = _Life(process)
        life.reader = asyncio.create_task(self._read(name, life))
        line = await self.until(name, _STARTED.get(name, f"{name} is running"))
        url = _URL.search(line)
        if name == "gateway" and url is not None:
            self.gateway_url = url[0]
        if name == "server" and url is not None:
            self._environment["RESONATE_URL"] = self.server_url = url[0]
            self._server_port = int(url[0].rpartition(":")[2])  # the same one next time

    def _command(self, name: str) -> list[str]:
        if name == "server":
            store = ["dev"] if self._db is None else ["serve", "--db", self._db]
            command = [sys.executable, "-m", "resonate_aio.cli", *store]
            return [*command, "--port", str(self._server_port)]
        program = [sys.executable, str(SOURCE / f"{name.replace('-', '_')}.py")]
        return [*program, "--port", str(self._gateway_port)] if name == "gateway" else program

    async def kill(self, name: str) -> int:
        """Kill a process with SIGKILL; returns the pid that it had."""
        life = self._lives[name]
        life.may_end = True
        life.send(signal.SIGKILL)
        await life.ended()
        return life.process.pid

    async def stop(self) -> None:
        """End everything in order: who takes requests first, then who works, then the server."""
        try:
            for names in ({"gateway"}, {*SERVICES}, {"server"}):
                await self._end(names)
        finally:  # whatever came between: nothing is left running
            for life in self._lives.values():
                life.send(signal.SIGKILL)
            for life in self._lives.values():
                await life.ended()

    async def _end(self, names: set[str]) -> None:
        lives = {name: life for name, life in self._lives.items() if name in names}
        for life in lives.values():
            life.may_end = True
            life.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                for life in lives.values():
                    await life.ended()
        except TimeoutError:
            late = [name for name, life in lives.items() if life.process.returncode is None]
            self._show(f"killed, because they did not end in {STOP_S:g} s: {', '.join(late)}")

    # -- what they say

    async def _read(self, name: str, life: _Life) -> None:
        assert life.process.stdout is not None
        async for line in life.process.stdout:
            text = line.decode(errors="replace").rstrip()
            self._show(f"[{name}] {text}")
            async with self._news:
                life.lines.append(text)
                self._news.notify_all()
        await life.process.wait()
        async with self._news:
            self._news.notify_all()

    async def until(self, name: str, text: str) -> str:
        """The first line with this text that the process printed or prints in its present life.

        Raises:
            DiedError: The process ended without.
        """
        life = self._lives[name]
        async with self._news:
            while True:
                for line in life.lines:
                    if text in line:
                        return line
                if life.process.returncode is not None:
                    raise DiedError(f"{name} ended with {life.process.returncode}")
                await self._news.wait()

    async def until_one_dies(self) -> tuple[str, int]:
        """The name and exit code (negative: a signal) of a process that ended by surprise."""
        async with self._news:
            while True:
                for name, life in self._lives.items():
                    code = life.process.returncode
                    if code is not None and not life.may_end:
                        life.may_end = True
                        return name, code
                await self._news.wait()


class _Life:
    """A process and what it printed last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.reader: asyncio.Task[None] | None = None
        self.may_end = False

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def ended(self) -> None:
        """Wait for its end, and for its last line."""
        assert self.reader is not None
        await asyncio.shield(self.reader)
