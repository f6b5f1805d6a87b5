"""Where a command looks for its server, and how long it waits for one that is not there."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.cli.conftest import Command
from tests.cli.processes import COMMAND, Served, environment, run, served
from tests.peers.legacy_server import free_ports

from resonate_aio import Resonate
from resonate_aio.cli.connection import target_of
from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import PromiseState, Value

NOTHING = {
    "url": None,
    "token": None,
    "token_file": None,
    "user": None,
    "password_file": None,
    "wait_s": None,
}


# -- where


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({}, "http://localhost:8001"),
        ({"RESONATE_URL": "https://a:1"}, "https://a:1"),
        ({"RESONATE_URL": ""}, "http://localhost:8001"),
        ({"RESONATE_HOST": "h"}, "http://h:8001"),
        ({"RESONATE_HOST": "h", "RESONATE_PORT": "2"}, "http://h:2"),
        ({"RESONATE_PORT": "2"}, "http://localhost:2"),
        ({"RESONATE_HOST": "h", "RESONATE_SCHEME": "https"}, "https://h:8001"),
        ({"RESONATE_HOST": "https://h/", "RESONATE_PORT": "2"}, "https://h:2"),
        ({"RESONATE_HOST": "h", "RESONATE_URL": "http://a:1"}, "http://a:1"),
        ({"RESONATE_HOST_STORE": "s", "RESONATE_HOST": "h"}, "http://s:8001"),
        ({"RESONATE_HOST": "http://h", "RESONATE_PORT_STORE": "3"}, "http://h:3"),
    ],
)
def test_the_environment_means_what_it_means_to_the_library(
    env: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C6, C23: a command asks where `Resonate.remote()` works."""
    for name in [name for name in os.environ if name.startswith("RESONATE_")]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert target_of(dict(NOTHING)).url == url
    assert f"at {url}," in repr(Resonate.remote())
    assert target_of({**NOTHING, "url": "http://given:9"}).url == "http://given:9"


def test_host_and_port_reach_a_server(server: Served, command: Command) -> None:
    host, port = "127.0.0.1", str(server.port)
    done = run("promises", "create", "env", RESONATE_HOST=host, RESONATE_PORT=port)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.ask(r.PromiseGet("env"))[0] == 200


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("RESONATE_PORT", "x", "RESONATE_PORT is a port from 1 to 65535, got 'x'"),
        ("RESONATE_URL", "garbage", "is no URL such as http://host:port"),
    ],
)
def test_what_the_environment_cannot_mean_is_said_of_it(
    name: str, value: str, told: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    wrong = command("promises", "get", "x", server_url=None)
    assert wrong.exit_code == 2
    assert "Error: the environment (RESONATE_URL, or RESONATE_HOST, " in wrong.stderr
    assert told in wrong.stderr


# -- how long


def test_where_nobody_is_it_ends_at_once() -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    for more in ([], ["--json"]):
        gone = run("promises", "get", "absent", "-S", url, *more)
        assert (gone.returncode, gone.stdout) == (1, "")
        assert gone.stderr == (
            f"Error: no server at {url} (connection refused): start one (`resonate-aio serve`), "
            "name another (--server or RESONATE_URL), or wait for it (--wait)\n"
        )
    follow = run("invoke", "x", "--func", "f", "--follow", "-S", url)
    assert (follow.returncode, follow.stderr) == (1, gone.stderr)
    assert time.monotonic() - began < 20, "three waits would be 30 s"


def test_who_is_told_to_wait_says_so_once() -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    gone = run("promises", "get", "absent", "--wait", "1.5", "-S", url)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert gone.stderr == (
        f"Note: no server at {url} (connection refused): start one (`resonate-aio serve`), or "
        "check --server and RESONATE_URL; asked again until it answers (for 1.5 s at most)\n"
        f"Error: no Resonate server answered at {url} within 1.5 s\n"
    )


def test_a_server_that_comes_up_is_found() -> None:
    (port,) = free_ports(1)
    with started("promises", "create", "p", "--wait", "20", port=port) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        with served("dev", port=port) as server:
            _, rest = process.communicate(timeout=30)
            assert process.returncode == 0
            assert first.endswith("asked again until it answers (for 20 s at most)\n")
            assert rest == f"Note: {server.url}: connected again\n"
            assert server.ask(r.PromiseGet("p"))[0] == 200


class Elsewhere(BaseHTTPRequestHandler):
    """A web server of another kind."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: object) -> None:
        pass


def test_another_kind_of_server_is_said_in_options() -> None:
    """It may be a proxy in front of one that is away: the usual time is waited."""
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.05,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{other.server_port}"
            failed = run("promises", "get", "x", "-S", url, "--wait", "1.5")
        finally:
            other.shutdown()
            thread.join(10)
    said, error = failed.stderr.splitlines()
    assert said.startswith(f"Note: no Resonate server answers at {url} (")
    assert "check host, port and path in --server, or in RESONATE_URL" in said
    assert error == f"Error: no Resonate server answered at {url} within 1.5 s"


# -- following


@contextmanager
def started(*arguments: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """A command that runs beside the test."""
    process = subprocess.Popen(
        [*COMMAND, *arguments, "-S", f"http://127.0.0.1:{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def until_there(server: Served, id: str) -> None:
    until_s = time.monotonic() + 20
    while server.ask(r.PromiseGet(id))[0] != 200:
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_who_follows_waits_through_a_restart(tmp_path: Path) -> None:
    """Law 8: the server is away for longer than an answer may take."""
    db = str(tmp_path / "app.db")
    line = ["invoke", "f", "--func", "f", "--follow", "--wait", "0.5"]
    with served("serve", "--db", db) as first, started(*line, port=first.port) as process:
        until_there(first, "f")
        first.kill()
        assert process.stderr is not None
        said = process.stderr.readline()
        time.sleep(0.7)  # what is shown is that this is not too long
        assert process.poll() is None
        with served("serve", "--db", db, port=first.port) as second:
            settle = r.PromiseSettle("f", PromiseState.RESOLVED, Value(data='"end"'))
            assert second.ask(settle)[0] == 200
            out, rest = process.communicate(timeout=30)
    assert (process.returncode, '"end"' in out) == (0, True)
    assert said.startswith("Note: ")
    assert said.endswith("; asked again until it answers\n")
    assert rest.splitlines()[-1] == f"Note: {first.url}: connected again"


def test_the_deadline_bounds_what_is_followed() -> None:
    line = ["invoke", "f", "--func", "f", "--follow", "--wait", "0.3", "--timeout", "2s"]
    with served("dev") as server, started(*line, port=server.port) as process:
        until_there(server, "f")
        server.kill()
        _, told = process.communicate(timeout=20)
    assert process.returncode == 1
    assert told.splitlines()[-1] == (
        f"Error: {server.url} is away, and the deadline of what was waited for has passed"
    )
