"""Servers of the current protocol as peers of tests: found, started on loopback, stopped.

Ours is always there: `resonate-aio serve` in a process of its own. Another one is the server
at RESONATE_TEST_URL, the program named by RESONATE_TEST_SERVER (several, divided by the
path separator), or a `resonate` on PATH. They are black boxes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from tests.peers.legacy_server import free_ports
from tests.peers.server_traits import asked

URL_VARIABLE: Final = "RESONATE_TEST_URL"
VARIABLE: Final = "RESONATE_TEST_SERVER"
PROGRAM: Final = "resonate"
_HOW: Final = f"set {URL_VARIABLE} or {VARIABLE}, or put {PROGRAM} on PATH"
ABSENT: Final = f"no other current server: {_HOW}"
EMBEDDED: Final = "embedded"
LENIENT: Final = "takes both id dialects, as the release does"
STRICT: Final = "checks origins, as the newest public commit does"
KINDS: Final = frozenset({LENIENT, STRICT})
_ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 20.0
_STOP_S: Final = 10.0


def programs() -> list[str]:
    """The programs of other servers, none where there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return [path for path in named.split(os.pathsep) if os.access(path, os.X_OK)]
    found = shutil.which(PROGRAM)
    return [found] if found is not None else []


def peers() -> list[str]:
    """Every server that tests can talk to: the embedded one, URLs and programs."""
    url = os.environ.get(URL_VARIABLE)
    return [EMBEDDED, *([url] if url else []), *programs()]


def summary() -> str:
    """For the end of a test run: a line for each server, and for each kind that is absent."""
    seen = [(which, _kind_of(which)) for which in peers()[1:]]
    lines = [f"current server that {kind}: {which}{_version_of(which)}" for which, kind in seen]
    kinds = {kind for _, kind in seen}
    lines += [f"current server that {kind}: absent ({_HOW})" for kind in KINDS - kinds]
    return "\n".join(sorted(lines))


def _kind_of(which: str) -> str:
    """The kind of a server: versions do not tell, what it allows does."""
    with tempfile.TemporaryDirectory() as folder:
        server = CurrentServer(which, Path(folder))
        try:
            server.start()
            ids = {"awaited": "resonate-aio-a", "awaiter": "resonate-aio-b"}
            status, _ = asked(server.url, "promise.register_callback", ids)
        except (RuntimeError, OSError) as error:
            return f"cannot be asked ({type(error).__name__})"
        finally:
            server.stop()
    return LENIENT if status == 404 else STRICT


def _version_of(which: str) -> str:
    if "://" in which:
        return ""
    try:
        told = subprocess.run([which, "--version"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f" ({told.stdout.decode(errors='replace').strip()})"


class CurrentServer:
    """One server; a process is over a database file, and can be killed and started again.

    Args:
        which: `embedded`, a URL, or the path of a program.
        folder: Where its database and its log go.
        push_to: The one origin that ours pushes messages to; others push anywhere.
    """

    def __init__(self, which: str, folder: Path, *, push_to: str | None = None) -> None:
        self.which = which
        self._folder = folder
        self._push_to = push_to
        self._process: subprocess.Popen[bytes] | None = None
        self.is_ours = which == EMBEDDED
        self.can_be_killed = "://" not in which
        if self.can_be_killed:
            self._port, self._metrics_port = free_ports(2)
            self.url = f"http://127.0.0.1:{self._port}"
        else:
            self.url = which

    def start(self) -> None:
        """Start the process and wait until it answers."""
        if not self.can_be_killed:
            return
        log = (self._folder / "server.log").open("ab")
        environment = {name: text for name, text in os.environ.items() if "RESONATE" not in name}
        environment["PYTHONPATH"] = str(_ROOT / "src")
        self._process = subprocess.Popen(
            self._command(), stdout=log, stderr=log, cwd=self._folder, env=environment
        )
        log.close()
        until_s = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError((self._folder / "server.log").read_text()[-2000:])
            time.sleep(0.02)

    def _command(self) -> list[str]:
        database = str(self._folder / "server.db")
        if self.is_ours:
            ours = [sys.executable, "-m", "resonate_aio.cli", "serve", "--db", database]
            ours += ["--port", str(self._port), "--synchronous", "NORMAL"]
            return ours if self._push_to is None else [*ours, "--push-to", self._push_to]
        return [
            *(self.which, "serve", "--server-bind", "127.0.0.1"),
            *("--server-port", str(self._port), "--storage-sqlite-path", database),
            *("--observability-metrics-port", str(self._metrics_port)),
            *("--tasks-retry-timeout", "2000", "--timeouts-poll-interval", "200"),
        ]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S)

    def stop(self) -> None:
        """End it; a process that does not end is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)
