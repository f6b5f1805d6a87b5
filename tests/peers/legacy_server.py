"""A real legacy Resonate server as a peer of tests: found, started on loopback, stopped.

The program is the one named by RESONATE_TEST_LEGACY_SERVER, or a `resonate-legacy` on PATH.
It is a black box: whatever speaks the REST interface and takes the flags used here will do.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

VARIABLE: Final = "RESONATE_TEST_LEGACY_SERVER"
PROGRAM: Final = "resonate-legacy"
ABSENT: Final = f"no legacy server: set {VARIABLE} or put {PROGRAM} on PATH"
_START_S: Final = 20.0
_STOP_S: Final = 10.0


def program() -> str | None:
    """The server's program, or None where there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return named if os.access(named, os.X_OK) else None
    return shutil.which(PROGRAM)


def summary() -> str:
    """One line for the end of a test run: present or absent."""
    found = program()
    return f"legacy server: {found}" if found else f"legacy server: absent ({ABSENT})"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now, each another one."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class LegacyServer:
    """One server process over a database file in a folder; it can be killed and started again.

    Args:
        folder: Where its database and its log go.
        flags: More flags than those that keep it small, quick and on loopback.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        found = program()
        assert found is not None, ABSENT
        self._program = found
        self._folder = folder
        self._flags = flags
        self.port, self.poll_port, self._metrics_port = free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def poll_url(self) -> str:
        """Where its poll port is."""
        return f"http://127.0.0.1:{self.poll_port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it answers."""
        log = (self._folder / "legacy-server.log").open("ab")
        self._process = subprocess.Popen(
            [
                self._program,
                "serve",
                *("--system-signal-timeout", "100ms"),
                *("--aio-store-sqlite-path", str(self._folder / "legacy.db")),
                *("--api-http-addr", f"127.0.0.1:{self.port}"),
                *("--aio-poll-addr", f"127.0.0.1:{self.poll_port}"),
                *("--metrics-addr", f"127.0.0.1:{self._metrics_port}"),
                *self._flags,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
        )
        log.close()
        until = time.monotonic() + _START_S
        while not self._answers():
            assert self._process.poll() is None, self._last_words()
            assert time.monotonic() < until, f"no answer in {_START_S} s: {self._last_words()}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it, by force if need be. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/promises?id=none", timeout=1):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def _last_words(self) -> str:
        return (self._folder / "legacy-server.log").read_text(errors="replace")[-2000:]
