"""`examples/async_rpc`: the nine services of seed 003 (mission table 1.11, E1 to E14)."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .generations import environment_of, running, servers
from .person import ENVIRONMENT, ROOT, Ended, end_of, read_until, start

FOLDER = ROOT / "examples" / "async_rpc"
PROGRAMS = ["run_all.py", "recovery.py", "src/gateway.py", "src/service_a.py"]
LETTERS = "abcdefghi"
ALL = {"server", "gateway", *(f"service-{letter}" for letter in LETTERS)}


class Application:
    """`run_all.py`, started; what it prints is kept."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        ports = ["--port", "0", "--server-port", "0"]
        flags = ["--lease", "1", "--work", "0", *ports, *arguments]
        self.process = start(folder, "async_rpc/run_all.py", *flags)
        self.out = read_until(self.process, "Everything runs")
        self.url = re.findall(r"curl -X POST (http://127.0.0.1:\d+)/", self.out)[0]

    def read(self, text: str) -> None:
        """Wait until it prints this."""
        if text not in self.out:
            self.out += read_until(self.process, text)

    def post(self, path: str) -> tuple[int, Any]:
        """The status and the body of the answer to a request."""
        request = urllib.request.Request(self.url + path, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def children(self) -> dict[int, str]:
        """The processes that it started, by pid, with their command lines."""
        return children_of(self.process.pid)


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


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """All of it; at the end Ctrl-C ends every process, quietly (law 16)."""
    made = Application(tmp_path_factory.mktemp("rpc"))
    try:
        yield made
        children = made.children()
        assert len(children) == len(ALL)
        made.process.send_signal(signal.SIGINT)
        ended = end_of(made.process)
    finally:
        made.process.kill()
        made.process.communicate()
    assert ended == Ended(1, ended.out, "\ninterrupted\n")
    assert "Traceback" not in made.out + ended.out
    assert not [children[pid] for pid in children if still_runs(pid)]


def test_the_await_chain_answers_and_the_same_request_joins(application: Application) -> None:
    """E1 to E4, E11: each service says what it does; a second request runs nothing."""
    for _ in range(2):
        assert application.post("/await-chain") == (200, {"message": 3})
    application.read("await-chain: answering 3")
    for service, id, function in (("a", "", "foo"), ("b", ".1", "bar"), ("c", ".1.1", "baz")):
        for what in ("begins", "ends"):
            line = f"[service-{service}] await-chain{id}: {function} {what}\n"
            assert application.out.count(line) == 1
    assert application.post("/await-chain?id=another") == (200, {"message": 3})
    application.read("[service-c] another.1.1: baz begins")


def test_the_detached_chain_goes_on_by_itself(application: Application) -> None:
    """E7."""
    assert application.post("/detached-chain") == (200, {"message": "detached-chain started"})
    application.read("[service-f] detached-chain.1.1: cog ends: the chain handed on 3")


def test_the_fan_out_adds_what_both_say(application: Application) -> None:
    """E8."""
    assert application.post("/fan-out") == (200, {"message": 13})


def test_a_request_with_a_useless_id_is_the_callers_fault(application: Application) -> None:
    for useless in ("", "%00", "a%0Ab"):
        assert application.post(f"/fan-out?id={useless}") == (400, "an id is printable text")


def test_what_is_killed_is_started_again(application: Application) -> None:
    """E13, and E14: the gateway is as mortal as the others."""
    for name in ("service_b", "gateway", "resonate_aio.cli"):
        pids = [pid for pid, line in application.children().items() if name in line]
        assert len(pids) == 1
        os.kill(pids[0], signal.SIGKILL)
        shown = {"service_b": "service-b", "resonate_aio.cli": "server"}.get(name, name)
        application.read(f"{shown} was ended by signal 9, and is started again")
        application.out = ""
        application.read({"server": "Serving on"}.get(shown, f"{shown} is running"))
        for url in re.findall(r"gateway is running on (\S+)", application.out):
            application.url = url
        assert application.post(f"/await-chain?id=after-{name[:7]}") == (200, {"message": 3})


@pytest.mark.parametrize("which", servers())
def test_the_recovery_story(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E12: told by its own program, which counts, too."""
    with running(which, tmp_path) as server:
        for name, value in environment_of(server).items():
            monkeypatch.setitem(ENVIRONMENT, name, value)
        ended = end_of(start(tmp_path, "async_rpc/recovery.py", "--lease", "1", "--work", "1"))
    assert (ended.code, ended.err) == (0, ""), ended
    assert ("[server]" in ended.out) == (server is None)
    said = ["baz begins", "kill -9", "baz ends", "bar begins", "bar ends", "foo ends"]
    places = [ended.out.rindex(text) for text in said]
    assert places == sorted(places), ended.out
    assert "The HTTP caller gets {'message': 3}" in ended.out
    assert ended.out.count(": baz begins") == 1
    assert ended.out.endswith(
        "  baz of service c began once\n\nNothing was lost and nothing was done twice.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_story_can_be_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    """Law 16: in the middle, with a request under way, and nothing is left running."""
    process = start(tmp_path, "async_rpc/recovery.py", "--work", "3")
    read_until(process, "kill -9")
    children = children_of(process.pid)
    assert len(children) == 4  # the fifth was just killed
    process.send_signal(number)
    ended = end_of(process)
    assert (ended.code, ended.err) == (1, "\ninterrupted\n")
    assert "Traceback" not in ended.out
    assert not [children[pid] for pid in children if still_runs(pid)]


def test_a_port_in_use_ends_all_of_it_in_one_line(tmp_path: Path) -> None:
    with start(tmp_path, "service.py", "--serve", "--port", "0") as other:
        try:
            assert other.stdout is not None
            port = other.stdout.readline().rpartition(":")[2].strip()
            process = start(tmp_path, "async_rpc/run_all.py", "--server-port", "0", "--port", port)
            read_until(process, "[gateway]")
            children = children_of(process.pid)
            ended = end_of(process)
        finally:
            other.kill()
    assert (ended.code, ended.err) == (1, "gateway ended with 1\n")
    assert not [children[pid] for pid in children if still_runs(pid)]


def test_a_service_alone_ends_at_ctrl_c(tmp_path: Path) -> None:
    """In a terminal of its own, also where no server answers."""
    process = start(tmp_path, "async_rpc/src/service_c.py")
    read_until(process, "service-c is running")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended = end_of(process)
    assert (ended.code, ended.out) == (0, "")
    assert "Traceback" not in ended.err
    assert time.monotonic() - began < 10


def test_help_says_what_a_program_is(tmp_path: Path) -> None:
    for name in PROGRAMS:
        ended = end_of(start(tmp_path, f"async_rpc/{name}", "--help"))
        about = str(ast.get_docstring(ast.parse((FOLDER / name).read_text())))
        assert (ended.code, ended.err) == (0, "")
        assert " ".join(about.splitlines()[0].split()) in " ".join(ended.out.split()), name
    assert not list(tmp_path.iterdir())


def test_the_services_are_of_three_kinds() -> None:
    """P15: a generator, an `async def`, a plain `def`; one function and one file for each."""
    kinds = set()
    for letter in LETTERS:
        tree = ast.parse((FOLDER / "src" / f"service_{letter}.py").read_text())
        registered = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.decorator_list
        ]
        assert len(registered) == 1
        is_generator = any(isinstance(node, ast.Yield) for node in ast.walk(registered[0]))
        kinds.add((type(registered[0]), is_generator))
    assert kinds == {
        *((ast.FunctionDef, True), (ast.AsyncFunctionDef, False), (ast.FunctionDef, False))
    }
