"""`resonate-aio serve` and `dev` as processes: started, told to end, killed, started again."""

from __future__ import annotations

import signal
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.cli.processes import COMMAND, environment, run, served

from resonate_aio.cli.main import cli
from resonate_aio.errors import UsageError
from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import PromiseState, Value

FAR_MS = 4_102_444_800_000
TARGET = {"resonate:target": "poll://any@g"}
TOKEN = "a-secret-of-enough-characters"


def test_a_killed_server_goes_on_where_it_was(tmp_path: Path) -> None:
    """Law 6: kill -9 loses nothing that was acknowledged, also not a lease (S44)."""
    db = str(tmp_path / "app.db")
    acknowledged = 0
    for life in range(3):
        with served("serve", "--db", db) as server:
            status, data = server.ask(r.PromiseSearch(limit=1_000))
            assert (status, len(data["promises"])) == (200, acknowledged)
            for n in range(20):
                assert server.ask(r.PromiseCreate(f"p{life}.{n}", FAR_MS))[0] == 200
                settle = r.PromiseSettle(f"p{life}.{n}", PromiseState.RESOLVED, Value(data=str(n)))
                assert server.ask(settle)[0] == 200
            create = r.PromiseCreate(f"t{life}", FAR_MS, tags=TARGET)
            assert server.ask(r.TaskCreate("p", 60_000, create))[0] == 200
            acknowledged += 21
            server.kill()
    with served("serve", "--db", db) as server:
        for life in range(3):
            status, data = server.ask(r.PromiseGet(f"p{life}.19"))
            assert data["promise"]["value"] == {"data": "MTk="}
            fulfill = r.TaskFulfill(
                f"t{life}", 1, r.PromiseSettle(f"t{life}", PromiseState.RESOLVED)
            )
            assert server.ask(fulfill)[0] == 200, "its holder still holds it"
    assert stat.S_IMODE(Path(db).stat().st_mode) == 0o600


def test_a_second_server_of_one_file_is_refused_by_name(tmp_path: Path) -> None:
    db = str(tmp_path / "app.db")
    with served("serve", "--db", db) as first:
        second = run("serve", "--db", db, "--port", "0")
        assert second.returncode == 1
        assert second.stderr.startswith("Error: ")
        assert str(first.announced["pid"]) in second.stderr
        assert second.stderr.count("\n") == 1
        assert first.ask(r.PromiseCreate("p", FAR_MS))[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals, tmp_path: Path) -> None:
    with served("serve", "--db", str(tmp_path / "app.db")) as server:
        assert server.ask(r.PromiseCreate("p", FAR_MS))[0] == 200
        assert server.end(number) == (0, "")
        with pytest.raises(OSError, match="refused"):
            server.ask(r.PromiseGet("p"))


def test_it_says_where_it_is_and_that_it_stops() -> None:
    process = subprocess.Popen(
        [*COMMAND, "dev", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, told = process.communicate(timeout=20)
    assert line.startswith("Serving on http://127.0.0.1:")
    assert line.endswith(", storing in memory. Ctrl-C stops.\n")
    assert (process.returncode, rest, told) == (0, "", "Stopping; once more ends it at once.\n")


def test_a_port_in_use_is_one_line() -> None:
    with served("dev") as server:
        second = run("dev", "--port", str(server.port))
        assert second.returncode == 1
        assert second.stderr.startswith("Error: ")
        assert "the port is already in use: end the process" in second.stderr
        assert second.stderr.count("\n") == 1


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    refused = run("serve", "--port", "0", "--db", str(tmp_path / "none" / "app.db"))
    assert refused.returncode == 1
    assert refused.stderr == (
        f"Error: cannot open {tmp_path / 'none' / 'app.db'}: there is no folder "
        f"{tmp_path / 'none'}: make it first\n"
    )


def test_off_loopback_it_needs_a_token(tmp_path: Path) -> None:
    refused = run("dev", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 1
    assert "set RESONATE_TOKEN or give --token, or listen on" in refused.stderr
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")
    for arguments in (["--token-file", str(secret)], ["--token", TOKEN]):
        with served("dev", *arguments) as server:
            get = r.PromiseGet("p")
            assert server.ask(get)[0] == 401
            assert server.ask(get, "wrong")[0] == 401
            assert server.ask(get, TOKEN)[0] == 404
            code, told = server.end()
            assert code == 0
            assert ("command line" in told) == ("--token" in arguments)
            assert TOKEN not in told


def test_debugging_needs_the_flag() -> None:
    body = '{"kind":"debug.snap","head":{"corrId":"1","version":"2026-04-01"},"data":{}}'
    with served("dev", "--debug") as server:
        headers = {"Content-Type": "application/json"}
        server.connection.request("POST", "/", body, headers)
        with server.connection.getresponse() as answer:
            assert answer.status == 200
    line = ["dev", "--debug", "--host", "0.0.0.0", "--token", TOKEN]
    refused = CliRunner().invoke(cli, line)
    assert isinstance(refused.exception, UsageError)
    assert "loopback" in str(refused.exception)


def test_the_switches_reach_the_server() -> None:
    schedule = r.ScheduleCreate("a.b", "* * * * *", "x", 1)
    with served("dev", "--strict", "--ids", "dot") as server:
        assert server.ask(r.PromiseSearch())[0] == 501
        assert server.ask(schedule)[0] == 400
        assert server.ask(r.TaskHeartbeat("p", ()))[0] == 400
    with served("dev", "--ids", "colon") as server:
        assert server.ask(r.PromiseSearch())[0] == 200
        assert server.ask(schedule)[0] == 200


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "70000"],
        ["serve", "--port", "x"],
        ["serve", "--ids", "other"],
        ["serve", "--token-file", "/nowhere"],
        ["serve", "--drain", "0"],
        ["serve", "--drain", "nan"],
        ["dev", "--url", "garbage"],
        ["dev", "--url", "ftp://h"],
        ["dev", "--db", "x"],
        ["nothing"],
        ["dev", "more"],
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    wrong = CliRunner().invoke(cli, arguments)
    assert wrong.exit_code == 2
    assert "Error: " in wrong.stderr


def test_wrong_use_as_a_process() -> None:
    wrong = run("serve", "--port", "x")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr


def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"something else entirely")
    refused = run("serve", "--db", str(other), "--port", "0")
    assert refused.returncode == 1
    assert "not a resonate-aio store" in refused.stderr
    assert other.read_bytes() == b"something else entirely"


def test_help_and_version() -> None:
    for arguments in (["--help"], ["-h"], ["serve", "--help"], ["dev", "-h"]):
        shown = CliRunner().invoke(cli, arguments)
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert shown.stdout.startswith("Usage: ")
    assert run("--version").stdout.startswith("resonate-aio, version ")
