"""The command as a process: run it, serve with it, kill it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson

from resonate_aio.protocol.envelope import request_to_wire
from resonate_aio.protocol.requests import Request

COMMAND = [sys.executable, "-m", "resonate_aio.cli"]
SOURCE = str(Path(__file__).parents[2] / "src")


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that speaks to the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESONATE")}
    return {**kept, "PYTHONPATH": SOURCE, "PYTHONWARNINGS": "error", **more}


def run(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(**env),
    )


class Served:
    """A `serve` or `dev` process that said where it listens."""

    def __init__(self, process: subprocess.Popen[str], announced: dict[str, Any]) -> None:
        self.process = process
        self.announced = announced
        self.url = str(announced["url"])
        self.port = int(announced["port"])
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(self, request: Request, token: str | None = None) -> tuple[int, Any]:
        """The status and data of the answer to one request."""
        body = orjson.dumps(request_to_wire(request, "1"))
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self.connection.request("POST", "/", body, headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())["data"]

    def kill(self) -> None:
        """End it as a power cut of the process would."""
        self.connection.close()
        self.process.kill()
        self.process.wait(10)

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Tell it to end; its exit code and what it said on stderr."""
        self.connection.close()
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=20)
        return self.process.returncode, told


@contextmanager
def served(*arguments: str, port: int = 0, **env: str) -> Iterator[Served]:
    """A server process, on a free port by default, killed at the end if it still runs."""
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--port", str(port), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**env),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate(timeout=10)[1])
        server = Served(process, json.loads(line))
        with closing(server.connection):
            yield server
    finally:
        process.kill()
        process.communicate(timeout=10)
