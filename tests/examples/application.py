"""The application of `examples/async_rpc`, started, and what a person can do to it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from resonate_aio import Resonate

from .person import PATIENCE_S, ROOT, read_until, start

FOLDER = ROOT / "examples" / "async_rpc"
LETTERS = "abcdefghi"
ALL = {"server", "gateway", *(f"service-{letter}" for letter in LETTERS)}
FUNCTIONS = {"service-a": ("foo", ""), "service-b": ("bar", ".1"), "service-c": ("baz", ".1.1")}
"""The await chain: the function of each service, and what its id has more than the chain's."""

T = TypeVar("T")


class Application:
    """`run_all.py`, started; what it prints is kept."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        ports = ["--port", "0", "--server-port", "0"]
        flags = ["--lease", "1", "--work", "0", *ports, *arguments]
        self.process = start(folder, "async_rpc/run_all.py", *flags)
        self.out = read_until(self.process, "Everything runs")
        self.url = re.findall(r"curl -X POST (http://127.0.0.1:\d+)/", self.out)[0]
        self.server_url = re.findall(r"Serving on (http://127.0.0.1:\d+)", self.out)[0]

    def read(self, text: str) -> None:
        """Wait until it prints this; what never prints it is ended, which ends the wait."""
        if text in self.out:
            return
        patience = threading.Timer(PATIENCE_S, self.process.terminate)
        patience.start()
        try:
            self.out += read_until(self.process, text)
        finally:
            patience.cancel()

    def read_line(self) -> None:
        """Wait until it prints something."""
        before, self.out = self.out, ""
        try:
            self.read("\n")
        finally:
            self.out = before + self.out

    def post(self, path: str) -> tuple[int, Any]:
        """The status and the body of the answer to a request."""
        return post(self.url + path)

    def ask(self, question: Callable[[Resonate], Coroutine[Any, Any, T]]) -> T:
        """What a client of the same server, which is no part of the application, learns."""

        async def asked() -> T:
            async with Resonate(url=self.server_url, group="visitor") as client:
                async with asyncio.timeout(20):
                    return await question(client)

        return asyncio.run(asked())

    def values(self, *ids: str) -> list[Any]:
        """What was recorded under these ids."""

        async def read(client: Resonate) -> list[Any]:
            return [await client.get(id) for id in ids]

        return self.ask(read)

    def said(self, id: str, what: str) -> list[int]:
        """How often each function of an await chain said that it begins or ends."""
        return [
            self.out.count(f"[{service}] {id}{suffix}: {function} {what}\n")
            for service, (function, suffix) in FUNCTIONS.items()
        ]

    def read_chain(self, id: str, what: str, services: Collection[str] = FUNCTIONS.keys()) -> None:
        """Wait until the functions of an await chain said that they begin or end."""
        for service in services:
            function, suffix = FUNCTIONS[service]
            self.read(f"[{service}] {id}{suffix}: {function} {what}\n")

    @contextmanager
    def held(self, service: str) -> Iterator[None]:
        """Let a service do nothing for a while, so that what calls it is under way."""
        (pid,) = (pid for pid, line in self.children().items() if f"{service}.py" in line)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def kill(self, program: str) -> None:
        """Kill the process that runs this program; returns when another runs."""
        (pid,) = (pid for pid, line in self.children().items() if program in line)
        os.kill(pid, signal.SIGKILL)
        name = {"service_b": "service-b", "resonate_aio.cli": "server"}.get(program, program)
        self.read(f"{name} was ended by signal 9, and is started again")
        self.out = self.out.rpartition("is started again")[2]
        self.read({"server": "Serving on"}.get(name, f"{name} is running"))
        for url in re.findall(r"gateway is running on (\S+)", self.out):
            self.url = url

    def children(self) -> dict[int, str]:
        """The processes that it started, by pid, with their command lines."""
        return children_of(self.process.pid)


def post(url: str) -> tuple[int, Any]:
    """The status and the body of the answer to a POST request."""
    try:
        request = urllib.request.Request(url, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("application/json")
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def children_of(pid: int) -> dict[int, str]:
    """The processes that this one started, with their command lines."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return {int(row[0]): row[2] for row in rows if int(row[1]) == pid}


def still_runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
